"""Teacher forcing against transformers' own forward passes: log-probabilities, agreement, batches, refusals."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from designspace.axes import Budget, Generation, Mechanism, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.errors import DeclarationError, InvariantViolation
from designspace.models.loading import LoadedModel
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.never import Never
from families.decoding.chain_of_thought import ChainOfThought
from families.decoding.greedy import Greedy
from families.decoding.refresh import Refresh
from families.decoding.teacher_forced import TeacherForced
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.full import Full
from families.scoring.snapkv import SnapKV
from families.scoring.streaming_llm import StreamingLLM
from tests.conftest import toy_model

LENGTHS = (5, 13, 24, 18, 9, 30)
TEXT_LENGTHS = (20, 1, 13, 20, 2, 17)
N_NEW, WIDEST, N_WORDS = 20, 30, 97


def compose(scoring: object, cadence: object, decoding: object) -> Mechanism:
    """Return a mechanism of two axes and a decoding."""
    return Mechanism("test", scoring, Uniform(), cadence, FullPrecision(), decoding)  # type: ignore[arg-type]


UNCUT = compose(Full(), Never(), TeacherForced())
SINKS_AND_NEWEST = compose(StreamingLLM(sinks=2, recent=0), EveryStep(), TeacherForced())


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    """A toy model whose texts have no end."""
    return replace(toy_model("llama"), eos_ids=frozenset())


def requests(forced: bool = True) -> list[Request]:
    """Return prompts and texts of random tokens, of mixed lengths."""
    made = []
    for i, (n_prompt, n_text) in enumerate(zip(LENGTHS, TEXT_LENGTHS, strict=True)):
        generator = torch.Generator().manual_seed(i)
        prompt, text = (
            tuple(torch.randint(2, N_WORDS, (n,), generator=generator).tolist()) for n in (n_prompt, n_text)
        )
        made.append(Request(f"p{i}", prompt, stream_key(7, f"p{i}", 0), reference=text if forced else None))
    return made


def engine(loaded: LoadedModel, mechanism: Mechanism, *, rows: int = 3, burst: int = 5) -> Engine:
    """Return an engine at a budget of ten tokens."""
    budget = Budget(10) if mechanism.budget_applies else None
    return Engine(loaded, mechanism, budget, rows=rows, max_new_tokens=N_NEW, max_prompt_tokens=WIDEST, burst=burst)


def run(loaded: LoadedModel, mechanism: Mechanism, todo: Iterable[Request], **how: int) -> dict[str, Generation]:
    """Return generations by problem."""
    return {g.problem_id: g for g in engine(loaded, mechanism, **how).generate(todo)}


def plain_scores(loaded: LoadedModel, request: Request, mask: Tensor | None = None) -> tuple[Tensor, list[bool]]:
    """Return log-probabilities and agreement by one forward pass of transformers over prompt and text.

    mask: [n,n] bool, which positions each one sees; None: all earlier ones.
    """
    text = request.reference or ()
    model = copy.deepcopy(loaded.model)
    model.set_attn_implementation("eager")
    ids = torch.tensor([[*request.prompt_ids, *text]])
    if mask is None:
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    additive = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)[None, None]
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=additive, use_cache=False).logits[0]
    logits = logits[len(request.prompt_ids) - 1 : -1]
    tokens = torch.tensor(text)
    likely = torch.log_softmax(logits.double(), -1).gather(-1, tokens[:, None])[:, 0]
    return likely, (logits.argmax(-1) == tokens).tolist()


def seen_with_sinks(n_prompt: int, n: int, sinks: int, size: int) -> Tensor:
    """Return which positions each one sees, [n,n]: the prompt all before, a later one the sinks and the newest as well.

    size: tokens that a cut leaves. A step attends to what the cut before it left, and to itself.
    """
    mask = torch.zeros(n, n, dtype=torch.bool)
    for query in range(n):
        for key in range(query + 1):
            mask[query, key] = query < n_prompt or key < sinks or key >= query - (size - sinks)
    return mask


def test_the_full_cache_gives_the_log_probabilities_of_one_plain_pass(loaded: LoadedModel) -> None:
    """Rows of mixed lengths, texts of one token included, equal transformers' pass over the whole text to 1e-4."""
    todo = requests()
    found = run(loaded, UNCUT, todo)
    for request in todo:
        likely, agrees = plain_scores(loaded, request)
        generation = found[request.problem_id]
        assert request.reference == generation.token_ids
        assert likely.tolist() == pytest.approx(list(generation.token_log_probs or ()), abs=1e-4)
        assert agrees == list(generation.token_agrees or ())


def test_the_full_cache_agrees_with_what_it_wrote(loaded: LoadedModel) -> None:
    """Its own greedy text has agreement 1 and the very log-probabilities that it had while it was written."""
    written = run(loaded, UNCUT, requests(forced=False))
    plain = run(loaded, compose(Full(), Never(), Greedy()), requests(forced=False))
    todo = [replace(request, reference=written[request.problem_id].token_ids) for request in requests()]
    forced = run(loaded, UNCUT, todo, burst=3)
    assert {k: g.token_ids for k, g in plain.items()} == {k: g.token_ids for k, g in written.items()}
    for name, generation in forced.items():
        assert all(generation.token_agrees or ())
        assert written[name].token_log_probs == generation.token_log_probs


def test_a_compressed_cache_gives_those_of_a_mask(loaded: LoadedModel) -> None:
    """Sinks and newest tokens, cut at every step, equal one plain pass under the mask that says so, to 1e-4."""
    todo, runner = requests(), engine(loaded, SINKS_AND_NEWEST)
    found = {g.problem_id: g for g in runner.generate(todo)}
    differs = 0
    for request in todo:
        n = len(request.prompt_ids) + len(request.reference or ())
        mask = seen_with_sinks(len(request.prompt_ids), n, 2, runner.schedule.low)
        likely, agrees = plain_scores(loaded, request, mask)
        generation = found[request.problem_id]
        assert likely.tolist() == pytest.approx(list(generation.token_log_probs or ()), abs=1e-4)
        assert agrees == list(generation.token_agrees or ())
        differs += not torch.allclose(likely, plain_scores(loaded, request)[0], atol=1e-3)
    assert differs >= 3  # or the mask was as good as none


@pytest.mark.parametrize("mechanism", [SINKS_AND_NEWEST, compose(SnapKV(recent=3), EveryK(k=4), TeacherForced())])
def test_rows_do_not_depend_on_the_batch(loaded: LoadedModel, mechanism: Mechanism) -> None:
    """Other mates, another order and other bursts change no bit, also beside a row that is given no text."""
    todo = requests()
    straight = run(loaded, mechanism, todo)
    mixed = [*todo[::-1], replace(requests(forced=False)[0], problem_id="free", stream=stream_key(7, "free", 0))]
    others = [run(loaded, mechanism, mixed), run(loaded, mechanism, [todo[2]]), run(loaded, mechanism, todo, burst=1)]
    for other in others:
        for name in straight.keys() & other.keys():
            assert replace(straight[name], wall_s=0.0) == replace(other[name], wall_s=0.0)


def test_the_ledger_is_that_of_a_text_of_this_length(loaded: LoadedModel) -> None:
    """The cache follows the cadence over the text that is fed, whatever the arm would have chosen."""
    runner = engine(loaded, SINKS_AND_NEWEST)
    for generation in runner.generate(requests()):
        assert generation.n_steps == generation.n_new_tokens - 1
        expected = runner.schedule.simulate(generation.n_prompt_tokens, generation.n_steps)
        assert list(expected) == list(generation.cache_tokens_per_step)


def test_a_text_ends_with_its_end_of_text_token(loaded: LoadedModel) -> None:
    """The reason says whether it has one; one before the end is refused, as is a text that is too long or empty."""
    ending = replace(loaded, eos_ids=frozenset([1]))
    request = requests()[0]

    def reason(*text: int) -> str:
        (found,) = run(ending, UNCUT, [replace(request, reference=text)]).values()
        return found.finish_reason

    assert ("stop", "length") == (reason(5, 6, 1), reason(5, 6))
    for text, rule in (((5, 1, 6), "end with its first"), ((), "1 to 20 tokens"), ((5,) * 21, "1 to 20 tokens")):
        with pytest.raises(InvariantViolation, match=rule):
            reason(*text)


def test_only_a_decoding_that_scores_tokens_takes_a_text(loaded: LoadedModel) -> None:
    """A text given to another decoding would be taken for what it wrote."""
    with pytest.raises(InvariantViolation, match="scores tokens, got 'greedy'"):
        run(loaded, compose(Full(), Never(), Greedy()), requests())


@pytest.mark.parametrize("around", [ChainOfThought, Refresh])
def test_no_decoding_goes_around_it(around: type) -> None:
    """Whatever steers or prompts otherwise is refused when it is declared."""
    with pytest.raises(
        DeclarationError, match="must choose the text, got decoding='teacher-forced', which is given one"
    ):
        around(decoding=TeacherForced())


def test_of_is_one_of_two() -> None:
    """Another arm's texts are not to be had."""
    given: Mapping[str, str] = {"of": "snapkv"}
    with pytest.raises(DeclarationError, match="of must be 'full' or 'solution'"):
        TeacherForced(**given)  # type: ignore[arg-type]
