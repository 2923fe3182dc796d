"""What must be true of every scoring: each check runs it with its own selector through a real event."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from designspace.axes import Mechanism, Scoring, View
from designspace.cache.packing import CompressionResult
from designspace.engine.compress import compress
from designspace.testing.conformance.cases import SIZE_FOR_SHARES, Case, cases
from designspace.testing.conformance.probes import HostMechanism, composed
from designspace.testing.conformance.purity import check_pure
from designspace.testing.conformance.recording import check_needs
from designspace.testing.conformance.verdict import expect, expect_close, expect_equal, named
from designspace.testing.conformance.view_changes import (
    cloned,
    of_rows,
    showing,
    with_garbage,
    with_more_slots,
    with_permuted_heads,
)


class Outcome(NamedTuple):
    """What an event makes of a case: scores where tokens are held, zero elsewhere, and kept slots, both [L,E,H_kv,C].

    tracked: what trackers that events update hold afterwards where tokens are held, zero elsewhere, [L,E,H_kv,C,n].
    """

    scores: Tensor
    keep: Tensor
    tracked: Tensor

    def indexed(self, *index: slice | list[int] | Tensor) -> Outcome:
        """Return the same of some layers, rows or heads."""
        return Outcome(*(x[index] for x in self))


@dataclass(frozen=True)
class Trial:
    """A scoring, the mechanism it is tried in, and the events it is tried on."""

    strategy: Scoring
    mechanism: Mechanism
    tried: list[Case]
    known: dict[int, Outcome] = field(default_factory=dict)

    def who(self, case: Case) -> str:
        """Return how a message begins."""
        return f"{named(self.strategy)}, {case.name}"

    def scores(self, case: Case) -> Tensor:
        """Return the scores where tokens are held and zero elsewhere, [L,E,H_kv,C]."""
        view = showing(case.view, self.strategy.needs())
        return self.strategy.score(view).masked_fill(~view.valid, 0.0)

    def event(self, case: Case) -> CompressionResult:
        """Return the outcome of a real event."""
        return compress(self.mechanism, showing(case.view, self.mechanism.needs()))

    def outcome(self, case: Case) -> Outcome:
        """Return scores and what a real event keeps."""
        kept = self.event(case)
        valid = case.view.valid[..., None]
        states = [torch.zeros_like(valid, dtype=torch.float32), *(state.float() for state in kept.tracked.values())]
        return Outcome(self.scores(case), kept_mask(kept), torch.cat(states, dim=-1).masked_fill(~valid, 0.0))

    def usual(self, index: int) -> Outcome:
        """Return the outcome of one of the trial's own cases, formed once."""
        if index not in self.known:
            self.known[index] = self.outcome(self.tried[index])
        return self.known[index]


def kept_mask(kept: CompressionResult) -> Tensor:
    """Return which slots an event keeps, bool [L,E,H_kv,C]."""
    rank = torch.arange(kept.order.shape[-1]).expand_as(kept.order)
    return torch.zeros_like(kept.order, dtype=torch.bool).scatter(-1, kept.order, rank < kept.counts[..., None])


def trial(strategy: Scoring, company: HostMechanism) -> Trial:
    """Return what the checks of a scoring need."""
    mechanism = composed(strategy, company.within)
    made = cases(
        mechanism.needs(),
        sinks=strategy.sinks,
        recent=strategy.n_recent(SIZE_FOR_SHARES),
        comparable_scores=strategy.comparable,
        artefacts=company.artefacts,
        shapes=company.shapes,
    )
    return Trial(strategy, mechanism, accepted(mechanism, made))


def accepted(mechanism: Mechanism, made: Iterable[Case]) -> list[Case]:
    """Return the cases whose geometry no strategy of the mechanism refuses.

    Raises:
        AssertionError: none is left.
    """
    left = [case for case in made if not mechanism.geometry_errors(case.view.geometry)]
    expect(bool(left), f"mechanism {mechanism.name!r} refuses every geometry of the kit's cases")
    return left


def check_declared_needs(t: Trial) -> None:
    """Check that scores can be had from what is declared alone, and that all of it is read, the whole window included."""
    check_needs(t.strategy, t.tried, lambda _, view: t.strategy.score(view))
    window = t.strategy.needs().queries
    if window:
        others = (t.scores(without_oldest_query(case)) for case in t.tried)
        changed = any(not torch.equal(t.usual(i).scores, other) for i, other in enumerate(others))
        expect(
            changed,
            f"{named(t.strategy)} declares a window of {window} queries, but the oldest of them changes no score: "
            "declare as many as are used",
        )


def without_oldest_query(case: Case) -> Case:
    """Return the same event with another query at the far end of the window."""
    observed = case.view.observed
    if observed.queries is None:
        return case
    queries = observed.queries.clone()
    queries[..., 0, :] = -queries[..., 0, :] + 1.0
    return replace(case, view=replace(case.view, observed=replace(observed, queries=queries)))


def check_scores(t: Trial) -> None:
    """Check shape, type, and that no held token's score is NaN, on zeros as well."""
    for case in t.tried:
        view = showing(case.view, t.strategy.needs())
        scores = t.strategy.score(view)
        shape = tuple(view.positions.shape)
        expect(
            scores.dtype == torch.float32 and tuple(scores.shape) == shape,
            f"{t.who(case)}: scores must be float32 {shape}, got {scores.dtype} {tuple(scores.shape)}",
        )
        expect(not bool(torch.isnan(scores[view.valid]).any()), f"{t.who(case)}: NaN for a held token")


def check_target(t: Trial) -> None:
    """Check that scores do not depend on the size that an event cuts to, unless the scoring says so.

    A cadence with a least score cuts to no size, and takes no scoring that depends on one.
    """
    if t.strategy.follows_target:
        return
    for i, case in enumerate(t.tried):
        expect_equal(
            t.scores(case.aiming_at(case.view.target + 3)),
            t.usual(i).scores,
            f"{t.who(case)}: other scores where the event cuts to another size, so follows_target must be True",
        )


def check_identity_when_all_fits(t: Trial) -> None:
    """Check that an event whose target covers everything held keeps everything, in place."""
    for case in t.tried:
        counts = case.view.counts
        for target in (counts.amax(dim=(0, 2)), counts.float().mean(dim=(0, 2)).ceil().long()):
            kept = t.event(case.aiming_at(target.clamp(min=1)))
            expect_equal(kept.counts, counts, f"{t.who(case)}: everything fits, so everything must be kept")
            slots = torch.arange(kept.order.shape[-1]).expand_as(kept.order)
            expect_equal(kept.order[case.view.valid], slots[case.view.valid], f"{t.who(case)}: slots moved")


def check_event(t: Trial) -> None:
    """Check an event that cuts: totals to the token, no head above what it held, protection, order of positions."""
    for case in t.tried:
        check_outcome(t.who(case), case.view, t.event(case))


def check_outcome(who: str, view: View, kept: CompressionResult) -> None:
    """Check the outcome of an event against the view it was decided on, without trusting the event's own checks."""
    keep = kept_mask(kept)
    expect_equal(keep.sum(dim=-1), kept.counts, f"{who}: counts are not the number of kept slots")
    expect(bool((keep <= view.valid).all()), f"{who}: a free slot was kept")
    wanted = torch.minimum(view.target * view.geometry.n_heads_total, view.counts.sum(dim=(0, 2)))
    expect_equal(kept.counts.sum(dim=(0, 2)), wanted, f"{who}: the total per row must be conserved to the token")
    affordable = (view.protected.sum(dim=-1) <= kept.counts)[..., None]
    expect(not bool((affordable & view.protected & ~keep).any()), f"{who}: a protected token was dropped")
    beyond = ~affordable & keep & ~view.protected
    expect(not bool(beyond.any()), f"{who}: another token was kept in the place of a protected one")
    positions = view.positions.gather(-1, kept.order)
    filled = torch.arange(positions.shape[-1]) < kept.counts[..., None]
    rising = positions.diff(dim=-1) > 0
    expect(bool((rising | ~filled[..., 1:]).all()), f"{who}: kept tokens must stay in the order of their positions")


def check_row_independence(t: Trial) -> None:
    """Check that a row has the same scores and keeps the same alone, and in another order."""
    for i, case in enumerate(t.tried):
        usual = t.usual(i)
        for rows in companies(case):
            _expect_same(t, case, of_rows(case, rows), usual.indexed(slice(None), rows), f"rows {rows} by themselves")


def companies(case: Case) -> list[list[int]]:
    """Return rows to try by themselves: the last one alone, and all in reverse."""
    n_rows = case.view.positions.shape[1]
    return [[n_rows - 1], list(range(n_rows))[::-1]] if n_rows > 1 else []


def _expect_same(t: Trial, case: Case, other: Case, usual: Outcome, change: str) -> None:
    """Check that another form of a case comes out the same, in the slots that the usual outcome has."""
    n_slots = usual.keep.shape[-1]
    scores, keep, tracked = t.outcome(other)
    expect_close(usual.scores, scores[..., :n_slots], f"{t.who(case)}: {change} have other scores")
    expect_equal(usual.keep, keep[..., :n_slots], f"{t.who(case)}: {change} keep other tokens")
    expect_close(usual.tracked, tracked[..., :n_slots, :], f"{t.who(case)}: {change} leave other states of trackers")


def check_head_permutation(t: Trial) -> None:
    """Check that permuting KV heads, with their query groups, permutes scores and kept sets."""
    for i, case in enumerate(t.tried):
        order = torch.arange(case.view.geometry.n_kv_heads).roll(1)
        if len(order) > 1:
            other = with_permuted_heads(case, order, case.view.geometry)
            usual = t.usual(i).indexed(slice(None), slice(None), order)
            _expect_same(t, case, other, usual, f"KV heads in the order {order.tolist()}")


def check_free_slots(t: Trial) -> None:
    """Check that neither the content of free slots nor their number has any effect."""
    for i, case in enumerate(t.tried):
        other = with_garbage(case, case.view, seed=77, scale=500.0)
        _expect_same(t, case, other, t.usual(i), "free slots with other numbers")
        _expect_same(t, case, with_more_slots(case, 5), t.usual(i), "five more free slots")


def check_purity(t: Trial) -> None:
    """Check determinism, that inputs stay as they are, and that global generators do."""
    given = [cloned(case) for case in t.tried]
    check_pure(named(t.strategy), lambda: [[t.scores(case), t.event(case)] for case in given], given)


CHECKS: dict[str, Callable[[Trial], None]] = {
    "needs": check_declared_needs,
    "purity": check_purity,
    "scores": check_scores,
    "target": check_target,
    "identity when all fits": check_identity_when_all_fits,
    "event": check_event,
    "row independence": check_row_independence,
    "head permutation": check_head_permutation,
    "free slots": check_free_slots,
}
