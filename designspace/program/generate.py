"""Texts of a model under a mechanism, in one call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack, overload

from designspace.axes import Request
from designspace.engine import Engine
from designspace.engine.decode_step import StepKind
from designspace.engine.hook import EngineHook
from designspace.engine.row import RowState
from designspace.errors import DeclarationError
from designspace.models.loading import Chat, LoadedModel
from designspace.program.arm import Arm, text_of
from designspace.program.arm_arguments import BudgetLike, MechanismLike, decoding_at
from designspace.program.calibrations import CalibrateOn, artefacts_of
from designspace.program.generated_text import GeneratedText, warn_of_no_event
from designspace.program.load import load
from designspace.program.prompts import PromptLike, encoded, listed, requests_for
from designspace.program.text_pieces import TextPieces

OnToken = Callable[[int, int, str], None]
OnText = Callable[[int, GeneratedText], None]


class Options(TypedDict, total=False):
    """The keywords of `generate`, for type checkers."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int
    system: str | None
    chat: Chat
    rows: int | None
    step: StepKind
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
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    system: str | None = None,
    chat: Chat = "auto",
    rows: int | None = None,
    step: StepKind = "plain",
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
        temperature: 0 is greedy; applies where the mechanism leaves its decoding open, as does `top_p`.
        top_p: draw from the most likely tokens that have this probability together; 1 is from all.
        seed: of the random numbers. A text's own follow from it and from the prompt, not from the other prompts.
        system: a system message before each prompt.
        chat: "auto" uses the tokenizer's chat template where there is one, "on" demands it, "off" leaves it out.
        rows: texts written at the same time; None: all, at most 64, as far as memory goes. It may move a logit by rounding, so
            name it where texts must come out the same on another machine.
        step: "compiled" captures the decode step as a graph, which pays for long runs.
        calibrate_on: a text file, or texts, to measure on what the mechanism needs measured and the model has not.
        on_token: called with the prompt's index, the token and its piece of text as soon as it is chosen.
        on_text: called with the prompt's index and each `GeneratedText` as it ends.

    Raises:
        UnknownName: no such mechanism; the message names the nearest.
        DeclarationError: an argument means nothing, or the mechanism cannot run here.
        CalibrationError: the mechanism needs a calibration that is not there, and there is no `calibrate_on`.
        ModelError: as `load`.
    """
    arm = Arm.of(mechanism, budget, decoding_at(temperature, top_p))
    _check_count("max_new_tokens", max_new_tokens)
    if rows is not None:
        _check_count("rows", rows)
    given, alone = listed(prompts)
    loaded = load(model)
    ids = [encoded(loaded, prompt, arm.decoding, system, chat) for prompt in given]
    texts: dict[int, GeneratedText] = {}
    if ids:
        artefacts = artefacts_of(loaded, arm.mechanism, calibrate_on)
        # Streamed, a token is shown at once: the host looks after every step, which changes nothing but speed.
        burst = None if on_token is None else 1
        engine = arm.engine(loaded, ids, max_new_tokens, artefacts, rows=rows, step=step, burst=burst)
        if on_token is not None:
            engine.hook = _Stream(loaded, on_token)
        for index, text in _texts(engine, arm, requests_for(ids, seed)):
            texts[index] = text
            if on_text is not None:
                on_text(index, text)
    warn_of_no_event(arm.mechanism, arm.budget, [text.ledger for text in texts.values()])
    in_order = [texts[index] for index in range(len(ids))]
    return in_order[0] if alone else in_order


def _texts(engine: Engine, arm: Arm, requests: Sequence[Request]) -> Iterator[tuple[int, GeneratedText]]:
    """Yield each prompt's text with its index, as they end."""
    for ledger in engine.generate(requests):
        if isinstance(engine.hook, _Stream):
            engine.hook.end(int(ledger.problem_id), ledger.token_ids)
        yield int(ledger.problem_id), arm.text(engine.loaded, ledger)


def _check_count(name: str, value: object) -> None:
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
