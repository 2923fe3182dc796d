"""The kit catches strategies that break a rule: at least one for every check of every axis."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from designspace.axes import (
    Action,
    Controller,
    Draw,
    EventTracker,
    Mechanism,
    MergeResult,
    Needs,
    SlotState,
    Strategy,
    View,
)
from designspace.errors import UnknownName
from designspace.registry import REGISTRY_AXES
from designspace.testing.conformance import SHAPES, check_strategy, checks
from designspace.testing.conformance.probes import Best, Even, EveryFew, Four, Likeliest, Norms, Plain, PlainStore
from tests.designspace.testing.told import (
    KEYS,
    NOTHING,
    ToldCadence,
    ToldDecoding,
    ToldRepresentation,
    ToldRouting,
    ToldScoring,
    ToldSelector,
)

CALLS = itertools.count()


class Thawed(Norms):
    """No dataclass of its own."""


@dataclass(frozen=True)
class Listed(Norms):
    """A parameter that does not hash."""

    offsets: list[int] = field(default_factory=lambda: [1, 2])


@dataclass(frozen=True)
class Hidden(Norms):
    """A parameter that is not printed."""

    secret: int = field(default=3, repr=False)


@dataclass(frozen=True)
class Unequal(Norms):
    """Equal to itself alone."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


@dataclass(frozen=True)
class Overlooked(Norms):
    """A parameter that comparison leaves out."""

    weight: float = field(default=0.5, compare=False)


@dataclass(frozen=True)
class Forgetful(Norms):
    """A parameter that is not in the identity."""

    weight: float = 0.5

    def identity(self) -> dict[str, Any]:
        """Leave out the weight."""
        return {key: value for key, value in super().identity().items() if key != "weight"}


@dataclass(frozen=True)
class Tensorial(Norms):
    """A parameter that is not JSON."""

    weights: complex = 1j


@dataclass(frozen=True)
class Shouting(Norms):
    """A kind that YAML users would trip over."""

    kind: ClassVar[str] = "Top K"


@dataclass(frozen=True)
class Unversioned(Norms):
    """A version below 1."""

    version: ClassVar[int] = 0


@dataclass(frozen=True)
class Elsewhere(Norms):
    """A scoring that says it is a cadence."""

    axis: ClassVar[str] = "cadence"


@dataclass(frozen=True)
class Silent(Norms):  # noqa: D101 - that is the point
    pass


def norms(view: View) -> Tensor:
    """Return a score that breaks no rule."""
    return view.keys.norm(dim=-1)


def scribbled(view: View) -> Tensor:
    """Zero what is only to be read."""
    view.keys[..., 0] = 0.0
    return norms(view)


def head_numbers(x: Tensor) -> Tensor:
    """Return the number of each head in the shape of [L,E,H,…], float32."""
    return torch.arange(x.shape[2]).view(-1, *[1] * (x.dim() - 3)).expand_as(x).float()


def one_less(view: View, scores: Tensor, shares: Tensor) -> Tensor:
    """Keep one token too few."""
    return Best().select(view, scores, (shares - 1).clamp(min=0))


def unprotected(view: View, scores: Tensor, shares: Tensor) -> Tensor:
    """Keep the first slots, whoever they are."""
    return torch.arange(scores.shape[-1]) < shares[..., None]


@dataclass(frozen=True)
class Improbable(Best):
    """A selector that weighs, and is wrong about how probable its choice was."""

    kind: ClassVar[str] = "improbable"

    bold: bool = False

    def draw(self, view: View, scores: Tensor, shares: Tensor) -> Draw:
        """Say that all slots were kept with one half, or that all were certain."""
        return Draw(
            self.select(view, scores, shares), torch.full_like(scores, 1.0 if self.bold else 0.5, dtype=torch.float64)
        )


def rescored(change: Callable[[View, Tensor], Tensor]) -> ToldSelector:
    """Return a selector that takes the best of changed scores."""
    return ToldSelector(give=lambda view, scores, shares: Best().select(view, change(view, scores), shares))


def unequal(view: View, target: Tensor, step: Tensor) -> Tensor:
    """Return even shares [L,E,H] with `step` [E] tokens moved from the last head of the last layer to its first one."""
    shares = Even().allocate(view, view.positions, target).clone()
    if shares.shape[2] > 1:
        shares[-1, :, 0] += step
        shares[-1, :, -1] -= step
    return shares


def routed(step: Callable[[View, Tensor, Tensor], Tensor]) -> ToldRouting:
    """Return a routing that moves some tokens from head to head."""
    return ToldRouting(give=lambda view, scores, target: unequal(view, target, step(view, scores, target).long()))


class Wide(EveryFew):
    """After-event sizes beyond `high`."""

    def target(self, n_events: Any) -> Any:
        """Return one token more now and then."""
        return self.high + (n_events % 5 == 4)


class Optimist(EveryFew):
    """A simulator that is not what the schedule does."""

    def simulate(self, n_prompt: int, n_steps: int, signals: Any = None) -> list[int]:
        """Return sizes one token smaller."""
        return [max(size - 1, 1) for size in super().simulate(n_prompt, n_steps, signals)]


class IntegersOnly(EveryFew):
    """Another trigger for tensors than for integers."""

    def due(self, step: Any, size: Any, n_events: Any) -> Any:
        """Return whether the row is full, one token later for tensors."""
        return size >= self.high + self.max_growth + isinstance(size, Tensor)


class Tight(EveryFew):
    """A peak that is not reached, it says."""

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return one token too little."""
        return super().peak_bound(n_prompt, n_steps) - 1


class Late(EveryFew):
    """Cuts one token late."""

    def due(self, step: Any, size: Any, n_events: Any) -> Any:
        """Return whether the row has been full for a token."""
        return size > self.high + self.max_growth

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the peak as it is, so that the mean alone is wrong."""
        return super().peak_bound(n_prompt, n_steps) + 1

    @property
    def steady_peak(self) -> int:
        """Return it here too."""
        return self.high + self.max_growth + 1


@dataclass(frozen=True)
class Unmatched(ToldCadence):
    """Says that it takes no budget, and holds it."""

    is_matched: ClassVar[bool] = False


@dataclass(frozen=True)
class Sizeless(ToldCadence):
    """Has a least score, and takes a budget all the same."""

    @property
    def least_score(self) -> float:
        """Return some score."""
        return 1.0


class RowsFirst(PlainStore):
    """A tensor that snapshots would cut across."""

    def __init__(self, room: Any) -> None:
        super().__init__(room)
        self.extra = torch.zeros(room.rows, room.geometry.n_layers, 4)


class Widened(PlainStore):
    """Reads in another type."""

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return float64."""
        return self.keys[layer].double(), self.values[layer].double()


class Overflowing(PlainStore):
    """Free slots that are not finite."""

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return infinity where nothing is held."""
        free = (held.positions < 0)[..., None]
        return self.keys[layer].masked_fill(free, torch.inf), self.values[layer]


class TwoFaced(PlainStore):
    """Reads a layer and rows differently."""

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys twice as large."""
        keys, values = super().read_rows(rows, held)
        return 2 * keys, values


class Rolled(PlainStore):
    """Gives back the neighbour's token."""

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return values one slot further on."""
        keys, values = super().read_rows(rows, held)
        return keys, values.roll(1, dims=-2)


class Amnesic(PlainStore):
    """Half a snapshot."""

    def snapshot(self, row: int) -> dict[str, Tensor]:
        """Leave out the values."""
        return {"keys": self.keys[:, row].clone()}


class Spilling(PlainStore):
    """Loads one row and disturbs another."""

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Replace rows, and something of the last one."""
        super().load(rows, keys, values, held)
        self.keys[:, -1, :, 0] += 1.0


class Mixing(PlainStore):
    """Writes what depends on another row."""

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Write keys less their mean over rows."""
        super().write(layer, slot, keys - keys.mean(dim=0), values, held)


class Floored(PlainStore):
    """Bytes for nothing."""

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return 64 bytes too many."""
        return super().held_bytes(counts) + 64


class Averaged(PlainStore):
    """Bytes shared out over the rows."""

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return the mean over rows."""
        held = super().held_bytes(counts)
        return (held.sum() // len(held)).expand_as(held)


class Boastful(PlainStore):
    """Says that it holds half of what it holds."""

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return half."""
        return super().held_bytes(counts) // 2


def folded(change: Callable[[View, Tensor], Tensor]) -> ToldRepresentation:
    """Return a representation that adds something to keys in an event."""
    return ToldRepresentation(
        folded=lambda view, scores, shares, keep: MergeResult(keep, view.keys + change(view, keep)), declared=KEYS
    )


def lost_slot(view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> MergeResult:
    """Merge one slot too many away."""
    return MergeResult(Best().select(view, scores, (shares - 1).clamp(min=0)))


def scribbling_fold(view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> MergeResult:
    """Write to the view instead of to a copy."""
    view.keys.mul_(1.01)
    return MergeResult(keep, view.keys)


class Chatty(Controller):
    """Counts over all generations together."""

    n_tokens = 0

    def on_token(self, token: int, probability: float) -> Action:
        """Put another token after every fifth one of anybody's."""
        Chatty.n_tokens += 1
        return Action((token, 1) if Chatty.n_tokens % 5 == 0 else (token,))


class Mute(Controller):
    """Puts no token."""

    def on_token(self, token: int, probability: float) -> Action:
        """Swallow the token."""
        return Action(())


def last_of_all(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Choose by the cumulative mass of the whole vocabulary, banned tokens included."""
    return (uniforms * logits.shape[1]).long()


def by_row(mass: Callable[[Tensor], Tensor]) -> ToldDecoding:
    """Return a decoding that takes the likeliest token of changed logits."""
    return ToldDecoding(give=lambda logits, uniforms: mass(logits).argmax(dim=-1))


@dataclass(frozen=True)
class ToldTracker(EventTracker):
    """Remembers one number per slot, as told at every event."""

    give: Callable[[View], Tensor]

    @property
    def channels(self) -> int:
        """One."""
        return 1

    @property
    def keys(self) -> bool:
        """Shown, whatever is made of them."""
        return True

    def at_event(self, view: View) -> Tensor:
        """Remember as told."""
        return self.give(view)


def remembering(give: Callable[[View], Tensor]) -> ToldScoring:
    """Return a scoring with a tracker that remembers as told."""
    tracker = ToldTracker(give)
    return ToldScoring(
        give=lambda v: norms(v) + (0 * v.tracked(tracker)[..., 0]).float(),
        declared=Needs(trackers=(tracker,), keys=True),
    )


W8 = Needs(queries=8)
BROKEN: list[tuple[Strategy, str, str]] = [
    # what holds for all axes
    (Thawed(), "frozen", "must be a dataclass"),
    (Listed(), "value", "must be hashable"),
    (Hidden(), "value", "must print its parameter secret=3"),
    (Unequal(), "value", "must equal a copy of itself"),
    (Overlooked(), "identity", "must not equal one with another weight"),
    (Forgetful(), "identity", "must differ when weight does"),
    (Tensorial(), "identity", "must be JSON-able"),
    (Shouting(), "names", "lower-case words joined by hyphens, got 'Top K'"),
    (Unversioned(), "names", "integer of at least 1, got 0"),
    (Elsewhere(), "names", "must be a subclass of designspace.axes.Cadence"),
    (Silent(), "documented", "class Silent must have a docstring"),
    # scoring
    (ToldScoring(give=lambda v: v.accumulated), "needs", "had not declared in needs"),
    (
        ToldScoring(declared=NOTHING),
        "needs",
        "read keys, which it had not declared in needs..: add keys=True to its Needs",
    ),
    (ToldScoring(give=lambda v: v.values.norm(dim=-1)), "needs", "read values, .* add values=True to its Needs"),
    (ToldScoring(declared=KEYS | Needs(values=True)), "needs", "declares values in needs.. but never reads it"),
    (ToldScoring(give=lambda v: v.positions.float()), "needs", "declares keys in needs.. but never reads it"),
    (ToldScoring(declared=KEYS | Needs(last=True)), "needs", "declares last in needs.. but never reads it"),
    (ToldScoring(declared=KEYS | Needs(calibrations=("q-stats",))), "needs", "declares q-stats"),
    (ToldScoring(declared=KEYS | Needs(output_projection=True)), "needs", "declares output_projection"),
    (
        ToldScoring(give=lambda v: norms(v) + v.queries[..., -1, 0].mean(), declared=KEYS | W8),
        "needs",
        "window of 8 queries",
    ),
    (ToldScoring(give=lambda v: torch.rand(v.positions.shape)), "purity", "uses a global random generator"),
    (ToldScoring(give=lambda v: norms(v) + random.random()), "purity", "uses a global random generator"),
    (ToldScoring(give=scribbled), "purity", "changed its input .*keys"),
    (ToldScoring(give=lambda v: norms(v) * (1 + next(CALLS))), "purity", "two outcomes for the same input"),
    (ToldScoring(give=lambda v: norms(v).double()), "scores", "must be float32"),
    (ToldScoring(give=lambda v: norms(v) / v.keys.norm(dim=-1).pow(2)), "scores", "case 'zeros': NaN for a held token"),
    (ToldScoring(selector=ToldSelector(give=one_less)), "identity when all fits", "exactly each head's share"),
    (ToldScoring(selector=ToldSelector(give=unprotected), recent=3), "event", "dropped a protected token"),
    (ToldScoring(give=lambda v: norms(v) - norms(v)[:, :1].mean(-1, keepdim=True)), "row independence", "other scores"),
    (ToldScoring(give=lambda v: norms(v) + head_numbers(norms(v))), "head permutation", "have other scores"),
    (ToldScoring(give=lambda v: norms(v) * v.target[:, None, None]), "target", "follows_target must be True"),
    (ToldScoring(give=lambda v: norms(v) / norms(v).amax(-1, keepdim=True)), "free slots", "have other scores"),
    (ToldScoring(give=lambda v: norms(v) / v.positions.shape[-1]), "free slots", "five more free slots"),
    # trackers that events update
    (remembering(lambda v: norms(v)[..., None].double()), "event", "at_event of .* must return"),
    (remembering(lambda v: torch.rand(v.positions.shape)[..., None]), "purity", "uses a global random generator"),
    (remembering(lambda v: norms(v)[..., None] - norms(v)[:, :1, :, :1, None]), "row independence", "other states"),
    (remembering(lambda v: head_numbers(norms(v))[..., None]), "head permutation", "other states of trackers"),
    (remembering(lambda v: norms(v)[..., None] / v.positions.shape[-1]), "free slots", "other states of trackers"),
    (remembering(lambda v: v.values[..., :1]), "event", "tracker .* read values, which it had not declared"),
    # selector
    (ToldSelector(give=lambda v, s, n: Best().select(v, v.last, n)), "needs", "had not declared in needs"),
    (
        ToldSelector(give=lambda v, s, n: Best().select(v, s + v.values[..., 0], n)),
        "needs",
        "read values, which it had not",
    ),
    (ToldSelector(declared=KEYS), "needs", "declares keys in needs.. but never reads it"),
    (ToldSelector(declared=W8), "needs", "declares queries in needs.. but never reads it"),
    (rescored(lambda v, s: torch.rand_like(s)), "purity", "uses a global random generator"),
    (rescored(lambda v, s: s.mul_(0.5)), "purity", "changed its input .*scores"),
    (ToldSelector(give=one_less), "shares", "must keep exactly its share"),
    (ToldSelector(give=unprotected), "shares", "protected tokens come first"),
    (ToldSelector(give=lambda v, s, n: Best().select(v, s, n).float()), "shares", "must return a bool mask"),
    (Improbable(), "shares", "the probabilities must sum to each head's share"),
    (Improbable(bold=True), "shares", "kept slots must have a probability above 0, others one below 1"),
    (ToldSelector(give=one_less), "identity when all fits", "everything must be kept"),
    (rescored(lambda v, s: s - 1e-5 * v.positions), "ties", "ties must go to the larger position"),
    (rescored(lambda v, s: s[:, :1].expand_as(s)), "row independence", "keep other tokens"),
    (rescored(lambda v, s: torch.where(head_numbers(s) > 0, s, -s)), "head permutation", "other tokens are kept"),
    (rescored(lambda v, s: (s - s.mean(-1, keepdim=True)).abs()), "free slots", "change what is kept"),
    # head routing
    (ToldRouting(adapted=lambda v, s: v.last), "needs", "had not declared in needs"),
    (ToldRouting(adapted=lambda v, s: s + norms(v)), "needs", "read keys, which it had not declared in needs"),
    (ToldRouting(declared=Needs(layer_cosine=True)), "needs", "declares layer_cosine"),
    (routed(lambda v, s, t: torch.randint(3, t.shape)), "purity", "uses a global random generator"),
    (ToldRouting(adapted=lambda v, s: s.add_(1.0)), "purity", "changed its input .*scores"),
    (ToldRouting(give=lambda v, s, t: unequal(v, t, t) + 1), "shares", "total per row must be exact"),
    (ToldRouting(give=lambda v, s, t: unequal(v, t, t).float()), "shares", "must be int64"),
    (routed(lambda v, s, t: 2 * t), "shares", "a share is negative"),
    (routed(lambda v, s, t: t // 4), "shares", "above largest_share"),
    (ToldRouting(adapted=lambda v, s: s / 0.0 * 0.0), "adapted scores", "NaN for a held token"),
    (ToldRouting(adapted=lambda v, s: s.double()), "adapted scores", "must be float32"),
    (ToldRouting(give=lambda v, s, t: unequal(v, t, t) - 1), "event", "must conserve the total"),
    (ToldRouting(give=lambda v, s, t: unequal(v, t, t) // 2), "identity when all fits", "must conserve the total"),
    (routed(lambda v, s, t: t.amin().expand_as(t) // 3), "row independence", "have other shares"),
    (routed(lambda v, s, t: t // 3), "head permutation", "more than rounding"),
    (replace(routed(lambda v, s, t: (v.keys[0, :, 0, -1, 0] > 0) * 2), declared=KEYS), "free slots", "change shares"),
    (ToldRouting(owned=(1, 1, 1)), "owners", "its own cache or an earlier owner's"),
    # cadence
    (ToldCadence(declared=Needs(accumulated=True)), "needs", "declares accumulated"),
    (ToldCadence(said=lambda seen: seen.observed.last[0, :, 0, 0]), "needs", "stopped with TypeError"),
    (ToldCadence(said=lambda seen: seen.logits), "signal", r"a signal must be \["),
    (ToldCadence(said=lambda seen: seen.logits.sum(-1) / 0), "signal", "must be finite"),
    (ToldCadence(said=lambda seen: seen.logits.sum(-1) - seen.logits.mean()), "signal", "by itself has another signal"),
    (ToldCadence(bound=Wide), "sizes", "must lie within"),
    (ToldCadence(bound=Optimist), "replay", "simulate.. says"),
    (ToldCadence(bound=IntegersOnly), "tensor form", "differs between tensors and integers"),
    (ToldCadence(bound=Tight), "peak", "above peak_bound"),
    (Sizeless(), "mean", "has a least score, so its size depends on the scores and is_matched must be False"),
    (Unmatched(), "mean", "is_matched is False, but the schedule depends on the budget"),
    (ToldCadence(bound=Late), "mean", "the mean over 10000 steps is"),
    # representation
    (replace(folded(lambda v, keep: v.values), declared=KEYS), "needs", "read values, which it had not declared"),
    (ToldRepresentation(declared=KEYS), "needs", "declares keys in needs.. but never reads it"),
    (ToldRepresentation(declared=W8), "needs", "declares queries"),
    (ToldRepresentation(store=RowsFirst), "layout", r"extra must be \[L,rows"),
    (ToldRepresentation(store=Widened), "reading", "in the model's type, got torch.float64"),
    (ToldRepresentation(store=Overflowing), "reading", "must be finite in free slots too"),
    (ToldRepresentation(store=TwoFaced), "reading", "read and read_rows must give the same keys"),
    (ToldRepresentation(store=Rolled), "content", "values that are read have a mean cosine"),
    (ToldRepresentation(store=Amnesic), "round trip", "a snapshot does not bring back"),
    (ToldRepresentation(store=Spilling), "row independence", "loading row 0 changes row 2"),
    (ToldRepresentation(store=Mixing), "row independence", "what is written to row 0 changes row 1"),
    (ToldRepresentation(store=Floored), "bytes", "empty rows must hold 0 bytes"),
    (ToldRepresentation(store=Averaged), "bytes", "depend on another row"),
    (ToldRepresentation(store=Boastful), "held bytes are real", "but reading depends on"),
    (ToldRepresentation(folded=lost_slot), "merge", "exactly each head's share"),
    (folded(lambda v, keep: keep[..., None] / torch.zeros(1)), "merge", "keys of kept slots must be finite"),
    (folded(lambda v, keep: v.keys.mean(dim=1, keepdim=True)), "merge independence", "row . by itself holds something"),
    (folded(lambda v, keep: v.keys.mean(dim=3, keepdim=True)), "merge independence", "free slots with other numbers"),
    (ToldRepresentation(folded=scribbling_fold), "purity", "changed its input .*keys"),
    # decoding
    (ToldDecoding(give=lambda x, u: x.argmax(-1) + x.shape[1]), "choice", "outside the vocabulary"),
    (ToldDecoding(give=lambda x, u: x.argmax(-1, keepdim=True)), "choice", "must return int64"),
    (ToldDecoding(give=last_of_all), "choice", "a token of probability zero was chosen"),
    (by_row(lambda x: x.clamp(min=-9) - x.clamp(min=-9).mean(0)), "row independence", "other tokens"),
    (by_row(lambda x: x.masked_fill_(x > 8, 0.0)), "purity", "changed its input"),
    (by_row(lambda x: x + torch.rand_like(x)), "purity", "uses a global random generator"),
    (ToldDecoding(n_samples=4), "accounts", "are more than 960"),
    (ToldDecoding(steer=Chatty), "controller", "must act alike"),
    (ToldDecoding(steer=Mute), "controller", "must put at least one token"),
]


@pytest.mark.parametrize(("strategy", "check", "message"), BROKEN, ids=lambda x: x if isinstance(x, str) else x.kind)
def test_broken_strategies_are_caught(strategy: Strategy, check: str, message: str) -> None:
    """Each check raises an AssertionError that tells what was wrong."""
    with pytest.raises(AssertionError, match=message):
        check_strategy(strategy, only=[check])


@pytest.mark.parametrize("axis", REGISTRY_AXES)
def test_every_check_can_fail(axis: str) -> None:
    """No check of the kit goes without a strategy that it catches."""
    shared = {check for strategy, check, _ in BROKEN if type(strategy).__name__[:4] != "Told"}
    caught = {check for strategy, check, _ in BROKEN if strategy.axis == axis} | shared

    assert [name for name in checks(axis) if name not in caught] == []


@pytest.mark.parametrize(
    "strategy",
    [
        ToldScoring(),
        ToldSelector(),
        ToldRouting(),
        ToldCadence(),
        ToldRepresentation(),
        ToldDecoding(),
        Plain(),
        Even(),
    ],
    ids=lambda s: f"{s.axis}-{s.kind}",
)
def test_sound_strategies_pass(strategy: Strategy) -> None:
    """What the broken ones are made from breaks nothing (functions as parameters have no JSON form)."""
    check_strategy(strategy, exempt=["identity"] if strategy.kind == "told" else [])


def test_failures_name_the_check_and_the_strategy() -> None:
    """The note says what was being checked, and other exceptions become failures."""
    with pytest.raises(AssertionError) as caught:
        check_strategy(replace(ToldScoring(), give=lambda view: norms(view).double()), only=["scores"])
    assert caught.value.__notes__[0].startswith("conformance check 'scores' of ToldScoring(")
    with pytest.raises(
        AssertionError, match="scoring 'told' stopped with ZeroDivisionError in conformance check 'scores'"
    ):
        check_strategy(ToldScoring(give=lambda view: norms(view) * (1 // 0)), only=["scores"])


@dataclass(frozen=True)
class Picky(Plain):
    """A representation for layers that hold the same tokens."""

    kind: ClassVar[str] = "picky"

    def conflict_reason(self, mechanism: Mechanism) -> str | None:
        """Take only what ranks by position."""
        return None if mechanism.scoring.kind == "told" else "the scoring must rank all heads alike"


def test_a_strategy_may_be_tried_in_company_of_its_choice() -> None:
    """What objects to plain company is a failure that says so, and `within` gives it another."""
    with pytest.raises(AssertionError, match="the scoring must rank all heads alike"):
        check_strategy(Picky(), only=["merge"])
    by_position = ToldScoring(give=lambda view: view.positions.float(), declared=NOTHING)
    system = Mechanism("by position", by_position, Even(), Four(), Plain(), Likeliest())
    check_strategy(Picky(), within=system, shapes=[shape for shape in SHAPES if shape.together])


def test_unknown_checks_and_missing_calibrations_are_named() -> None:
    """A misspelt check is refused with the nearest name, a calibration that nobody makes with what to do."""
    with pytest.raises(UnknownName, match="did you mean 'free slots'"):
        check_strategy(ToldScoring(), exempt=["free slot"])
    with pytest.raises(AssertionError, match="cannot make up calibration 'head-importance': hand in artefacts="):
        check_strategy(ToldScoring(declared=Needs(calibrations=("head-importance",))), only=["scores"])
