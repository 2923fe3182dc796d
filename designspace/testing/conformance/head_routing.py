"""What must be true of every head routing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from designspace.axes import HeadRouting, Mechanism, View
from designspace.engine.compress import compress
from designspace.testing.conformance.cases import Case, cases
from designspace.testing.conformance.probes import HostMechanism, composed
from designspace.testing.conformance.purity import check_pure
from designspace.testing.conformance.recording import check_needs
from designspace.testing.conformance.scoring import accepted, check_outcome, companies
from designspace.testing.conformance.verdict import expect, expect_close, expect_equal, named
from designspace.testing.conformance.view_changes import (
    cloned,
    of_rows,
    showing,
    with_garbage,
    with_more_slots,
    with_permuted_heads,
)


@dataclass(frozen=True)
class Trial:
    """A head routing, the mechanism it is tried in, and the events it is tried on, with random scores."""

    strategy: HeadRouting
    mechanism: Mechanism
    tried: list[Case]

    def who(self, case: Case) -> str:
        """Return how a message begins."""
        return f"{named(self.strategy)}, {case.name}"

    def decide(self, case: Case, view: View | None = None) -> tuple[Tensor, Tensor]:
        """Return adapted scores [L,E,H_kv,C] and shares [L,E,H_kv]."""
        view = showing(case.view, self.strategy.needs()) if view is None else view
        scores = self.strategy.adapt(view, case.scores)
        return scores, self.strategy.allocate(view, scores, view.target)

    def shares(self, case: Case) -> Tensor:
        """Return the shares [L,E,H_kv]."""
        return self.decide(case)[1]

    def adapted(self, case: Case) -> Tensor:
        """Return the adapted scores where tokens are held and zero elsewhere, [L,E,H_kv,C]."""
        return self.decide(case)[0].masked_fill(~case.view.valid, 0.0)


def trial(strategy: HeadRouting, company: HostMechanism) -> Trial:
    """Return what the checks of a head routing need: comparable scores and others, with and without protection."""
    mechanism = composed(strategy, company.within)
    needs = mechanism.needs() | strategy.needs()
    made = [
        *cases(needs, sinks=2, recent=3, artefacts=company.artefacts, shapes=company.shapes),
        *map(
            _as_probabilities,
            cases(needs, comparable_scores=True, artefacts=company.artefacts, shapes=company.shapes[:3], seed=1),
        ),
    ]
    return Trial(strategy, mechanism, accepted(mechanism, made))


def _as_probabilities(case: Case) -> Case:
    filled = (3 * case.scores).masked_fill(~case.view.valid, torch.finfo(torch.float32).min)
    return replace(case, scores=torch.softmax(filled, dim=-1))


def check_declared_needs(t: Trial) -> None:
    """Check that the routing works from what it declares alone, and reads all of it."""
    check_needs(t.strategy, t.tried, lambda case, view: (t.decide(case, view), _owners(t, case, view)))


def _owners(t: Trial, case: Case, view: View) -> tuple[int, ...] | None:
    return t.strategy.owners(case.view.geometry, view.context.artefacts)


def check_shares(t: Trial) -> None:
    """Check shares: whole numbers, none negative, the total exact per row, none above `largest_share`."""
    for case in t.tried:
        geometry, protected = case.view.geometry, case.view.n_protected
        for target in _targets(case):
            aimed = case.aiming_at(target)
            shares, who = t.shares(aimed), f"{t.who(case)}, targets {target.tolist()}"
            expect(
                shares.dtype == torch.int64 and shares.shape == case.view.counts.shape,
                f"{who}: shares must be int64 {tuple(case.view.counts.shape)}, got {shares.dtype} {tuple(shares.shape)}",
            )
            expect(bool((shares >= 0).all()), f"{who}: a share is negative, got {int(shares.amin())}")
            expect_equal(
                shares.sum(dim=(0, 2)), target * geometry.n_heads_total, f"{who}: the total per row must be exact"
            )
            for row, size in enumerate(target.tolist()):
                # The event caps shares at the tokens present.
                largest = int(torch.minimum(shares, case.view.counts)[:, row].amax())
                bound = t.strategy.largest_share(size, geometry, protected)
                expect(
                    largest <= bound,
                    f"{who}: a head's share of {largest} is above largest_share, which says {bound}: slots would run out",
                )


def _targets(case: Case) -> list[Tensor]:
    """Return after-event means: the case's own, just above protection, and what would keep everything."""
    lowest = torch.full_like(case.view.target, case.view.n_protected + 1)
    return [case.view.target, lowest, case.view.counts.amax(dim=(0, 2)).clamp(min=int(lowest[0]))]


def check_adapted_scores(t: Trial) -> None:
    """Check what the routing makes of scores: shape, type, no NaN for a held token."""
    for case in t.tried:
        scores = t.decide(case)[0]
        expect(
            scores.dtype == torch.float32 and scores.shape == case.scores.shape,
            f"{t.who(case)}: adapted scores must be float32 {tuple(case.scores.shape)}, "
            f"got {scores.dtype} {tuple(scores.shape)}",
        )
        expect(not bool(torch.isnan(scores[case.view.valid]).any()), f"{t.who(case)}: NaN for a held token")


def check_event(t: Trial) -> None:
    """Check a real event: the total to the token, protection where it can be afforded, order of positions."""
    for case in t.tried:
        view = showing(case.view, t.mechanism.needs())
        check_outcome(t.who(case), view, compress(t.mechanism, view))


def check_identity_when_all_fits(t: Trial) -> None:
    """Check that an event whose target covers everything held keeps everything."""
    for case in t.tried:
        counts = case.view.counts
        aimed = case.aiming_at(counts.amax(dim=(0, 2)).clamp(min=case.view.n_protected + 1))
        kept = compress(t.mechanism, showing(aimed.view, t.mechanism.needs()))
        expect_equal(kept.counts, counts, f"{t.who(case)}: everything fits, so everything must be kept")


def check_row_independence(t: Trial) -> None:
    """Check that a row is given the same shares alone, and in another order."""
    for case in t.tried:
        scores, shares = t.adapted(case), t.shares(case)
        for rows in companies(case):
            other, who = of_rows(case, rows), f"{t.who(case)}: rows {rows} by themselves"
            expect_close(scores[:, rows], t.adapted(other), f"{who} have other scores")
            expect_equal(shares[:, rows], t.shares(other), f"{who} have other shares")


def check_head_permutation(t: Trial) -> None:
    """Check that permuting KV heads, with their query groups, permutes scores, and shares up to one token.

    The one token: remainders are given to lower heads first.
    """
    for case in t.tried:
        order = torch.arange(case.view.geometry.n_kv_heads).roll(1)
        if len(order) == 1:
            continue
        other, who = with_permuted_heads(case, order, case.view.geometry), f"{t.who(case)}: with KV heads permuted"
        expect_close(t.adapted(case)[:, :, order], t.adapted(other), f"{who} tokens have other scores")
        moved = (t.shares(case)[:, :, order] - t.shares(other)).abs()
        expect(int(moved.amax()) <= 1, f"{who} shares change by up to {int(moved.amax())} tokens, more than rounding")


def check_free_slots(t: Trial) -> None:
    """Check that neither the content of free slots nor their number has any effect."""
    for case in t.tried:
        shares = t.shares(case)
        other = t.shares(with_garbage(case, case.view, seed=77, scale=500.0))
        expect_equal(shares, other, f"{t.who(case)}: free slots with other numbers change shares")
        wider = t.shares(with_more_slots(case, 5))
        expect_equal(shares, wider, f"{t.who(case)}: five more free slots change shares")


def check_owners(t: Trial) -> None:
    """Check who owns the caches: one layer number per layer, each an earlier layer that owns its own, or itself."""
    for case in t.tried:
        owners = _owners(t, case, showing(case.view, t.strategy.needs()))
        if owners is None:
            continue
        n_layers = case.view.geometry.n_layers
        sound = len(owners) == n_layers and all(0 <= o <= i and owners[o] == o for i, o in enumerate(owners))
        expect(sound, f"{t.who(case)}: each layer must read its own cache or an earlier owner's, got {owners}")


def check_purity(t: Trial) -> None:
    """Check determinism, that inputs stay as they are, and that global generators do."""
    given = [cloned(case) for case in t.tried]
    check_pure(named(t.strategy), lambda: [list(t.decide(case)) for case in given], given)


CHECKS: dict[str, Callable[[Trial], None]] = {
    "needs": check_declared_needs,
    "purity": check_purity,
    "shares": check_shares,
    "adapted scores": check_adapted_scores,
    "event": check_event,
    "identity when all fits": check_identity_when_all_fits,
    "row independence": check_row_independence,
    "head permutation": check_head_permutation,
    "free slots": check_free_slots,
    "owners": check_owners,
}
