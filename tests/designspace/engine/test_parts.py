"""Separate budgets for prompt and trace: who competes with whom, in exact numbers, with every scoring and routing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from designspace.axes import AXES, Budget, HeadRouting, Mechanism, MergeResult, Request, Scoring, View
from designspace.axes.randomness import stream_key
from designspace.engine import Engine, EngineHook, RowState
from designspace.engine.compress import compress
from designspace.engine.parts import prompt_shares
from designspace.errors import DeclarationError, InvariantViolation
from designspace.models.calibration import load_artefact
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import kinds, strategy
from designspace.testing.composition import SHORT
from designspace.testing.conformance import check_mechanism
from designspace.testing.views import view_of
from families.cadence.annealed import Annealed
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.prefill_only import PrefillOnly
from families.decoding.greedy import Greedy
from families.head_routing.ada_kv import AdaKV
from families.head_routing.duo import Duo
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.representation.span_mean import SpanMean
from families.scoring.knorm import KNorm
from families.scoring.random import Random
from families.scoring.snapkv import SnapKV
from families.scoring.streaming_llm import StreamingLLM
from tests.conftest import toy_model

BUDGET = Budget(48, prompt=20)


def composed(
    scoring: Scoring, cadence: object | None = None, routing: object | None = None, **axes: object
) -> Mechanism:
    """Return a mechanism of these parts, decoding greedily."""
    parts = dict.fromkeys(AXES) | {
        "scoring": scoring, "cadence": cadence or EveryStep(), "head_routing": routing or Uniform(),
        "representation": FullPrecision(), "decoding": Greedy(),
    } | axes  # fmt: skip
    return Mechanism(name="composed", **parts)  # type: ignore[arg-type]


class Held(EngineHook):
    """Counts the tokens of the prompt and of the trace that every head holds after each step, as (prompt, trace)."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.seen = engine, list[tuple[torch.Tensor, torch.Tensor]]()

    def on_start(self, state: RowState) -> None:
        """Count after the prompt."""
        self.on_compressed([state])

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Count after a step."""
        for state in states:
            positions = self.engine.cache.positions[:, state.index].long()
            of_prompt = (positions >= 0) & (positions < len(state.request.prompt_ids))
            self.seen.append((of_prompt.sum(dim=-1), (positions >= 0).sum(dim=-1) - of_prompt.sum(dim=-1)))


def held(arm: Mechanism, budget: Budget, n_prompt: int, n_new: int = 70) -> tuple[Held, float | None]:
    """Run one text; return what was held, and the mean cache after the first event."""
    loaded = toy_model()
    engine = Engine(loaded, arm, budget, rows=1, max_new_tokens=n_new, max_prompt_tokens=n_prompt, burst=1)
    engine.hook = watch = Held(engine)
    ids = tuple(3 + i % 60 for i in range(n_prompt))
    (made,) = engine.generate([Request("p", ids, stream_key(1, "p", 0))])
    return watch, made.steady_mean_cache_tokens


def test_each_part_ends_at_its_slots_and_the_mean_is_the_sum() -> None:
    """A long prompt holds its slots once the trace fills its own; no step has another size than without parts."""
    watch, mean = held(composed(Random(recent=4)), BUDGET, n_prompt=60)
    assert mean == 48
    for step, (prompt, trace) in enumerate(watch.seen):
        assert bool((trace == min(step, 27)).all()), step
        assert bool((prompt == 47 - min(step, 27)).all()), step


def test_what_a_short_prompt_leaves_is_the_trace_s() -> None:
    """A prompt within its slots is never cut, also by a scoring that prefers anything else."""
    watch, mean = held(composed(StreamingLLM(sinks=0)), BUDGET, n_prompt=12)
    assert mean == 48
    assert bool((watch.seen[-1][0] == 12).all())
    assert bool((watch.seen[-1][1] == 35).all())


def test_lagged_eviction_leaves_the_prompt_exactly_its_slots() -> None:
    """The trace alone grows between events."""
    watch, mean = held(composed(Random(recent=0), EveryK(k=8)), Budget(40, prompt=16), n_prompt=50, n_new=90)
    assert mean is not None
    assert abs(mean - 40) < 1
    assert {int(n) for prompt, _ in watch.seen[50:] for n in prompt.flatten()} == {16}


def test_scores_are_compared_within_a_part_only() -> None:
    """Against a reference that ranks either part by itself; the keys of the prompt are the larger by far."""
    torch.manual_seed(0)
    n_prompt, slots = 12, 30
    keys = torch.randn(2, 3, 2, slots, 8)
    keys[..., :n_prompt, :] *= 100  # the lowest scores of all
    view = view_of(keys, n_prompt_tokens=torch.tensor([12, 7, 0]), target=18)
    view.context = type(view.context)(**{**vars(view.context), "prompt_slots": 5, "smallest_size": 18})
    scoring = KNorm(recent=0)
    kept = compress(composed(scoring), view)
    scores = scoring.score(view)
    for row, n in enumerate((12, 7, 0)):
        for_prompt = min(5, n)
        for layer in range(2):
            for head in range(2):
                score = scores[layer, row, head]
                best = sorted(range(n), key=lambda i: -score[i])[:for_prompt]
                best += sorted(range(n, slots), key=lambda i: -score[i])[: 18 - for_prompt]
                assert kept.order[layer, row, head, :18].tolist() == sorted(best)


def test_head_routing_s_shares_are_divided_in_one_ratio() -> None:
    """To whole tokens whose total is exact; protected tokens, and what a part cannot fill, move single heads."""
    view = view_of(torch.randn(1, 1, 4, 60, 8), n_prompt_tokens=30, target=20)
    view.context = type(view.context)(**{**vars(view.context), "prompt_slots": 8, "smallest_size": 20})
    shares = torch.tensor([[[5, 15, 20, 40]]])
    divided = prompt_shares(view, shares)
    assert divided.sum() == 8 * 4
    assert divided.tolist() == [[[2, 6, 8, 16]]]
    assert prompt_shares(view, torch.tensor([[[0, 0, 20, 60]]])).tolist() == [[[0, 0, 8, 30]]]
    pinned = torch.zeros(1, 60, dtype=torch.bool)
    pinned[:, 30:48] = True
    view.pinned = pinned
    view.__post_init__()
    assert prompt_shares(view, shares).tolist() == [[[0, 0, 2, 16]]]


def test_a_row_s_division_is_its_own() -> None:
    """Whatever the other rows hold, and whatever they are cut to."""
    torch.manual_seed(1)
    keys = torch.randn(2, 3, 2, 24, 8)
    prompts, targets = torch.tensor([20, 3, 11]), torch.tensor([12, 20, 9])
    together = view_of(keys, n_prompt_tokens=prompts, target=targets)
    context = type(together.context)(**{**vars(together.context), "prompt_slots": 6, "smallest_size": 12})
    together.context = context
    arm = composed(KNorm(recent=0), routing=AdaKV(normalise="none"))
    kept = compress(arm, together)
    for row in range(3):
        alone = view_of(
            keys[:, row : row + 1], n_prompt_tokens=int(prompts[row]), target=int(targets[row]), next_position=24
        )
        alone.context = context
        assert torch.equal(compress(arm, alone).counts[:, 0], kept.counts[:, row])


def check(arm: Mechanism) -> None:
    """Run the kit on a bundled model, with its calibrations."""
    spec = ModelSpec.bundled("pocket-llama")
    artefacts = {name: load_artefact(spec, name) for name in arm.needs().calibrations}
    check_mechanism(arm, load_model(spec), Budget(80, prompt=24), artefacts=artefacts)


@pytest.mark.parametrize("kind", [k for k in kinds("scoring") if k not in {"full", "rpc"}])
def test_every_scoring_composes(kind: str) -> None:
    """Ledger, batch invariance and protection on the real engine; RPC keeps the whole prompt, so no part is divided."""
    scoring = strategy("scoring", kind)(**SHORT.get(("scoring", kind), {}))
    assert isinstance(scoring, Scoring)
    check(composed(scoring))


ROUTINGS = [k for k in kinds("head_routing") if strategy("head_routing", k).divisible]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ROUTINGS)
def test_every_divisible_routing_composes(kind: str) -> None:
    """Shares that move between heads, or caches that layers share."""
    routing = strategy("head_routing", kind)()
    assert isinstance(routing, HeadRouting)
    check(composed(SnapKV(), routing=routing))


@pytest.mark.parametrize(
    ("arm", "budget", "reason"),
    [
        (composed(Random(protect="prompt")), BUDGET, "protect: prompt keeps the whole prompt, so none of it competes"),
        (composed(Random(), PrefillOnly()), Budget(48, "nominal", 20), "'prefill-only' cuts the prompt alone"),
        (composed(Random(), routing=Duo()), BUDGET, "'duo' says itself which part of the text some heads hold"),
        (composed(Random(), representation=SpanMean()), BUDGET, "'span-mean' chooses slots itself"),
        (composed(Random(sinks=4)), Budget(48, prompt=3), "the sinks must fit the prompt's slots, got sinks=4"),
        (composed(Random(recent=8)), Budget(48, prompt=40), r"after-event size of 47: 2 tokens too few"),
        (composed(Random(recent=0), Annealed()), Budget(48, prompt=40), "an event must leave the trace a slot"),
    ],
)
def test_what_cannot_be_kept_apart_is_refused(arm: Mechanism, budget: Budget, reason: str) -> None:
    """In one line, before anything runs."""
    with pytest.raises(DeclarationError, match=reason) as raised:
        arm.bind(budget, longest_prompt=10)
    assert "\n" not in str(raised.value)


@dataclass(frozen=True)
class Swapping(FullPrecision):
    """Keeps the newest slots, whatever was chosen, and does not say so."""

    kind = "swapping"

    def merge_evicted(self, view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> MergeResult:
        """Return the newest slots."""
        newest_rank = view.valid.flip(-1).cumsum(dim=-1).flip(-1) - 1
        return MergeResult(view.valid & (newest_rank < shares[..., None]))


def test_a_representation_that_moves_slots_between_the_parts_stops_the_run() -> None:
    """With one budget for all it may; with two, only a representation that says so could be refused beforehand."""
    view = view_of(torch.randn(1, 1, 2, 20, 8), n_prompt_tokens=8, target=12)
    arm = composed(Random(recent=0), representation=Swapping())
    assert torch.equal(compress(arm, view).order[..., :12], torch.arange(8, 20).expand(1, 1, 2, 12))
    view.context = replace(view.context, prompt_slots=5, smallest_size=12)
    with pytest.raises(InvariantViolation, match="'swapping' moved a slot between the prompt and the trace"):
        compress(arm, view)


def test_samples_that_share_a_budget_share_its_parts() -> None:
    """Each part by itself, rounded down."""
    arm = composed(Random(recent=2)).override(
        "voting",
        decoding=strategy("decoding", "self-consistency")(samples=3, decoding=strategy("decoding", "sampling")()),
    )
    assert arm.decoding is not None
    assert arm.decoding.sample_budget(Budget(64, prompt=31)) == Budget(21, prompt=10)
    assert arm.prompt_slots(Budget(64, prompt=31)) == 10


def test_a_part_leaves_a_slot_for_the_other() -> None:
    """A budget says what it is."""
    assert str(Budget(64, "nominal", 24)) == "64 nominal (24 prompt + 40 trace)"
    with pytest.raises(DeclarationError, match=r"must leave a slot for the trace, got prompt=64 of 64 tokens"):
        Budget(64, prompt=64)
    with pytest.raises(DeclarationError, match="a budget in bytes has no part for the prompt"):
        Budget(64, "bytes", 24)
