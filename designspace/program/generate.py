"""Texts of a model under a mechanism, in one call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack, overload

from designspace.axes import Request
from designspace.engine import Engine
from designspace.engine.decode_step import StepKind
from designspace.engine.ending import Ending
from designspace.engine.hook import EngineHook
from designspace.engine.row import RowState
from designspace.errors import DeclarationError
from designspace.models.loading import LoadedModel
from designspace.program.arm import Arm, Running, text_of
from designspace.program.arm_arguments import BudgetLike, MechanismLike, decoding_at
from designspace.program.calibrations import CalibrateOn, artefacts_of
from designspace.program.generated_text import GeneratedText, warn_of_no_event
from designspace.program.load import load
from designspace.program.prompt_arguments import ChatLike, PromptLike, encoded, listed, requests_for
from designspace.program.text_pieces import TextPieces

OnToken = Callable[[int, int, str], None]
OnText = Callable[[int, GeneratedText], None]


class Options(TypedDict, total=False):
    """The keywords of `generate`, for type checkers."""

    max_new_tokens: int
    min_new_tokens: int
    stop: str | Sequence[str]
    temperature: float
    top_p: float
    seed: int
    system: str | None
    chat: ChatLike
    rows: int | None
    step: StepKind
    prefill_chunk: int | None
    calibrate_on: CalibrateOn | None
    on_token: OnToken | None
    on_text: OnText | None


@overload
def generate(
    model: Any,
    prompts: str | Sequence[int],
    mechanism: MechanismLike = ...,
    budget: BudgetLike | None = ...,
    **options: Unpack[Options],
) -> GeneratedText: ...
@overload
def generate(
    model: Any,
    prompts: Sequence[PromptLike],
    mechanism: MechanismLike = ...,
    budget: BudgetLike | None = ...,
    **options: Unpack[Options],
) -> list[GeneratedText]: ...
def generate(
    model: Any,
    prompts: str | Sequence[PromptLike] | Sequence[int],
    mechanism: MechanismLike = "full",
    budget: BudgetLike | None = None,
    *,
    max_new_tokens: int = 256,
    min_new_tokens: int = 0,
    stop: str | Sequence[str] = (),
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    system: str | None = None,
    chat: ChatLike = "auto",
    rows: int | None = None,
    step: StepKind = "plain",
    prefill_chunk: int | None = None,
    calibrate_on: CalibrateOn | None = None,
    on_token: OnToken | None = None,
    on_text: OnText | None = None,
) -> GeneratedText | list[GeneratedText]:
    """Return the text that a model writes for each prompt while a mechanism compresses its cache.

    At the same rows the tokens are those that a sweep stores for the same settings. Warns where the cache was never cut.

    Args:
        model: as for `load`; load it once if it is used more than once.
        prompts: a text, or the token ids of one: its `GeneratedText` is returned. Several of them: a list in their order.
        mechanism: a name of the catalogue, a `Mechanism`, or a mapping such as an entry of a sweep's `mechanisms`.
        budget: mean tokens per layer and KV head, a `Budget`, or a mapping such as `{"prompt": 64, "trace": 64}`.
        max_new_tokens: cap on each text.
        min_new_tokens: so many stand in a text before it may end.
        stop: strings before the first of which a text ends; what `on_token` is shown goes on to the end of that string.
        temperature: 0 is greedy; applies where the mechanism leaves its decoding open, as does `top_p`.
        top_p: draw from the most likely tokens that have this probability together; 1 is from all.
        seed: of the random numbers. A text's own follow from it and from the prompt, not from the other prompts.
        system: a system message before each prompt.
        chat: "auto" uses the tokenizer's chat template where there is one, "on" demands it, "off" leaves it out;
            a mapping such as `{"enable_thinking": False}` demands it and is what the template is given.
        rows: texts written at the same time; None: all, at most 64, as far as memory goes. It may move a logit by rounding, so
            name it where texts must come out the same on another machine.
        step: "compiled" captures the decode step as a graph, which pays for long runs.
        prefill_chunk: the most tokens of a prompt that go through the model at once, a multiple of 16; None: all. It bounds
            what long prompts need beside their keys and values, and may move a logit by rounding.
        calibrate_on: a text file, or texts, to measure on what the mechanism needs measured and the model has not.
        on_token: called with the prompt's index, the token and its piece of text as soon as it is chosen.
        on_text: called with the prompt's index and each `GeneratedText` as it ends.

    Raises:
        DesignspaceError: an argument means nothing, the mechanism cannot run here, or a model or calibration is not there; the
            message names what was got, and of a name the nearest that is known.
    """
    arm = Arm.of(mechanism, budget, decoding_at(temperature, top_p))
    check_counts(max_new_tokens=max_new_tokens, rows=1 if rows is None else rows)
    given, alone = listed(prompts)
    loaded = load(model)
    ending = _ending(loaded, stop, min_new_tokens)
    ids = [encoded(loaded, prompt, arm.decoding, system, chat) for prompt in given]
    if not ids:
        return []
    # Streamed, a token is shown at once: the host looks after every step, which changes nothing but speed.
    burst = None if on_token is None else 1
    artefacts = artefacts_of(loaded, arm.mechanism, calibrate_on)
    running = Running(step, burst, ending, prefill_chunk)
    engine = arm.engine(loaded, ids, max_new_tokens, artefacts, rows=rows, running=running)
    texts = _texts(engine, arm, requests_for(ids, seed), on_token, on_text)
    warn_of_no_event(arm.mechanism, arm.budget, [text.ledger for text in texts])
    return texts[0] if alone else texts


def _texts(
    engine: Engine, arm: Arm, requests: Sequence[Request], on_token: OnToken | None, on_text: OnText | None
) -> list[GeneratedText]:
    """Return the texts in the order of the requests, and show them as they are written and as they end."""
    texts: dict[int, GeneratedText] = {}
    stream = None if on_token is None else _Stream(engine.loaded, on_token)
    if stream is not None:
        engine.hook = stream
    for ledger in engine.generate(requests):
        index = int(ledger.problem_id)
        if stream is not None:
            stream.end(index, ledger.token_ids)
        texts[index] = arm.text(engine, ledger)
        if on_text is not None:
            on_text(index, texts[index])
    return [texts[index] for index in range(len(requests))]


def _ending(loaded: LoadedModel, stop: str | Sequence[str], min_new_tokens: int) -> Ending:
    strings = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(one, str) and one for one in strings):
        raise DeclarationError(f"stop must be a string or several, none of them empty, got stop={stop!r:.80}")
    if strings and loaded.tokenizer is None:
        raise DeclarationError("stop strings need the model's tokenizer, which was not given: load(model, tokenizer)")
    check_counts(min_new_tokens=min_new_tokens or 1)
    return Ending(strings, min_new_tokens)


def check_counts(**counts: object) -> None:
    """Check that numbers of something are such.

    Raises:
        DeclarationError: naming the first that is none.
    """
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise DeclarationError(f"{name} must be an integer of at least 1, got {name}={value!r}")


class _Stream(EngineHook):
    """Shows tokens as they are written. The pieces of a text together are the text."""

    def __init__(self, loaded: LoadedModel, on_token: OnToken) -> None:
        self._loaded, self._on_token = loaded, on_token
        self._pieces: dict[int, TextPieces] = {}
        self._n_shown: dict[int, int] = {}

    def on_start(self, state: RowState) -> None:
        """Show the first token."""
        self._show(int(state.request.problem_id), state.tokens)

    def on_written(self, states: Collection[RowState]) -> None:
        """Show what has been added to each row's text."""
        for state in states:
            self._show(int(state.request.problem_id), state.tokens)

    def end(self, index: int, tokens: Sequence[int]) -> None:
        """Show what is left of a text that has ended, as one piece without a token of its own."""
        self._show(index, tokens)
        rest = self._pieces.pop(index).rest()
        if rest:
            self._on_token(index, tokens[-1], rest)

    def _show(self, index: int, tokens: Sequence[int]) -> None:
        pieces = self._pieces.setdefault(index, TextPieces(partial(text_of, self._loaded)))
        n_shown = self._n_shown.get(index, 0)
        if len(tokens) < n_shown:
            raise DeclarationError(
                "this decoding takes tokens back, so its text cannot be shown while it is written: on_token"
            )
        for token in tokens[n_shown:]:
            self._on_token(index, token, pieces.add(token))
        self._n_shown[index] = len(tokens)
