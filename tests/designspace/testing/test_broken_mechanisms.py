"""The kit catches mechanisms that break a rule in the running engine."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import Action, Budget, Controller, Mechanism, MergeResult, RowSchedule, SlotState, View
from designspace.models.loading import LoadedModel
from designspace.testing.conformance import check_mechanism
from designspace.testing.conformance.probes import Best, Even, EveryFew, Four, Likeliest, Norms, Plain, PlainStore
from families.cadence.threshold import Threshold, ThresholdSchedule
from tests.conftest import toy_model
from tests.designspace.testing.told import (
    ToldCadence,
    ToldDecoding,
    ToldRepresentation,
    ToldRouting,
    ToldScoring,
    ToldSelector,
)

CALLS = itertools.count()
SOUND: dict[str, Any] = {
    "scoring": Norms(sinks=1, recent=3),
    "head_routing": Even(),
    "cadence": Four(),
    "representation": Plain(),
    "decoding": Likeliest(),
}


class Optimist(EveryFew):
    """A simulator that is not what the schedule does."""

    def simulate(self, n_prompt: int, n_steps: int, signals: Any = None) -> list[int]:
        """Return sizes one token smaller."""
        return [size - 1 for size in super().simulate(n_prompt, n_steps, signals)]


class Tight(EveryFew):
    """A peak that is not reached, it says: the cache is too small."""

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return too little."""
        return super().peak_bound(n_prompt, n_steps) - 2


class Everywhere(RowSchedule):
    """Cuts at steps at which its schedule says that nothing is due."""

    def due(self, step: int, size: int, signal: float | None) -> bool:
        """Return True."""
        return True


class Sly(ThresholdSchedule):
    """Says when rows are due, and hands out rows that do not keep to it."""

    def row_schedule(self) -> RowSchedule:
        """Return such a row."""
        return Everywhere(self)


@dataclass(frozen=True)
class SlyThreshold(Threshold):
    """A threshold at other steps than it says."""

    def schedule(self, budget: Budget) -> ThresholdSchedule:
        """Return such a schedule."""
        return Sly(**vars(super().schedule(budget)))


def swapped(view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> MergeResult:
    """Keep a slot that was to go in the place of one that was to stay, where there are both."""
    kept, gone = keep & view.candidates, view.valid & ~keep
    both = (kept.any(dim=-1) & gone.any(dim=-1))[..., None]
    first = [mask & (mask.cumsum(dim=-1) == 1) & both for mask in (kept, gone)]
    return MergeResult(keep ^ first[0] ^ first[1])


class Neighbourly(PlainStore):
    """Reads keys with something of the neighbour's."""

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys moved towards the next row's."""
        keys, values = super().read(layer, held)
        return keys + 0.3 * keys.roll(1, dims=0), values


class Dropping(Controller):
    """Drops the newest token's slot all the time."""

    def __init__(self) -> None:
        self.n_tokens = 0

    def on_token(self, token: int, probability: float) -> Action:
        """Free the slot of the token before the last one."""
        self.n_tokens += 1
        return Action((token,), drop=(self.n_tokens - 2, self.n_tokens - 1) if self.n_tokens > 2 else None)


def unprotected(view: View, scores: Tensor, shares: Tensor) -> Tensor:
    """Keep the first slots, whoever they are."""
    return torch.arange(scores.shape[-1]) < shares[..., None]


def worn(view: View) -> Tensor:
    """Score by a number of calls: a state that outlives the sample."""
    return view.keys.norm(dim=-1) * torch.sin(view.positions.float() + next(CALLS))


def one_too_many(view: View, scores: Tensor, target: Tensor) -> Tensor:
    """Return even shares and one token more."""
    shares = Even().allocate(view, scores, target).clone()
    shares[0, :, 0] += 1
    return shares


@pytest.fixture(scope="module")
def toy() -> LoadedModel:
    """A two-layer Llama with two KV heads."""
    return toy_model("llama")


def test_sound_mechanisms_pass(toy: LoadedModel) -> None:
    """What the broken ones are made from breaks nothing."""
    check_mechanism(Mechanism("sound", **SOUND), toy, Budget(12))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"cadence": SlyThreshold(tau=3.0, k=4)}, "no event before step 2, but"),
        (
            {"cadence": Threshold(tau=3.0), "representation": ToldRepresentation(folded=swapped)},
            "keep what is protected or has a score of at least 3, and nothing else",
        ),
    ],
)
def test_what_is_cut_to_no_size_is_followed(toy: LoadedModel, axes: dict[str, Any], message: str) -> None:
    """Sizes grow as they may, and the kept set is exact; without the fault nothing is found."""
    whole = SOUND | {"head_routing": Even(), "scoring": Norms(sinks=1, recent=3, selector=Best())}
    check_mechanism(Mechanism("sound", **(whole | {"cadence": Threshold(tau=3.0, k=4)})), toy, None)
    with pytest.raises(AssertionError, match=message):
        check_mechanism(Mechanism("broken", **(whole | axes)), toy, None)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"cadence": ToldCadence(bound=Optimist)}, "at step 1 the ledger says .* tokens, the cadence's simulator"),
        ({"cadence": ToldCadence(bound=Tight)}, "do not fit into .* slots"),
        ({"scoring": ToldScoring(give=worn)}, "with prompts in the order .* token_ids differs"),
        ({"scoring": ToldScoring(selector=ToldSelector(give=unprotected), recent=3)}, "dropped a protected token"),
        ({"scoring": ToldScoring(give=lambda v: v.last.amax(2))}, "had not declared in needs"),
        ({"head_routing": ToldRouting(give=one_too_many)}, "must conserve the total"),
        ({"representation": ToldRepresentation(store=Neighbourly)}, "with prompts in the order .* token_ids differs"),
        ({"decoding": ToldDecoding(give=lambda x, _: x.sum(0).argmax().expand(len(x)))}, "token_ids differs"),
        ({"decoding": ToldDecoding(steer=Dropping)}, "a protected token is gone"),
    ],
)
def test_broken_mechanisms_are_caught(toy: LoadedModel, axes: dict[str, Any], message: str) -> None:
    """Each failure is an AssertionError that tells what was wrong."""
    with pytest.raises(AssertionError, match=message):
        check_mechanism(Mechanism("broken", **(SOUND | axes)), toy, Budget(12))
