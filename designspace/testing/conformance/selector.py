"""What must be true of every selector, whatever the scores and shares it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from designspace.axes import Contents, Selector, View
from designspace.testing.conformance.cases import Case, cases
from designspace.testing.conformance.probes import HostMechanism, composed
from designspace.testing.conformance.purity import check_pure
from designspace.testing.conformance.recording import check_needs
from designspace.testing.conformance.scoring import accepted, companies
from designspace.testing.conformance.verdict import expect, expect_equal, named
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
    """A selector and the events it is tried on, with random scores and shares."""

    strategy: Selector
    tried: list[Case]
    known: dict[int, Tensor] = field(default_factory=dict)

    def who(self, case: Case) -> str:
        """Return how a message begins."""
        return f"{named(self.strategy)}, {case.name}"

    def select(self, case: Case) -> Tensor:
        """Return the kept mask [L,E,H_kv,C]."""
        return self.strategy.select(showing(case.view, self.strategy.needs()), case.scores, case.shares)

    def usual(self, index: int) -> Tensor:
        """Return the outcome of one of the trial's own cases, formed once."""
        if index not in self.known:
            self.known[index] = self.select(self.tried[index])
        return self.known[index]


def trial(strategy: Selector, company: HostMechanism) -> Trial:
    """Return what the checks of a selector need: every case with two sinks and three recent tokens, some with neither."""
    mechanism, needs = composed(strategy, company.within), strategy.needs()
    made = [
        *cases(needs, sinks=2, recent=3, artefacts=company.artefacts, shapes=company.shapes),
        *cases(needs, artefacts=company.artefacts, shapes=company.shapes[:2], seed=1),
    ]
    return Trial(strategy, accepted(mechanism, made))


def check_declared_needs(t: Trial) -> None:
    """Check that the selector works from what it declares alone, and reads all of it."""
    check_needs(t.strategy, t.tried, lambda case, view: _used(t.strategy, case, view))


def _used(selector: Selector, case: Case, view: View) -> None:
    """Do what an event does with a selector."""
    inclusion = selector.draw(view, case.scores, case.shares).inclusion
    if inclusion is not None:
        selector.expected_error(view, inclusion)


def check_shares(t: Trial) -> None:
    """Check that each head keeps exactly its share of its held tokens, protected ones first, with extreme scores too."""
    for case in t.tried:
        for scores in (case.scores, torch.zeros_like(case.scores), case.scores * 1e30):
            _check_kept(t, replace(case, scores=scores))
        _check_kept(t, replace(case, shares=torch.zeros_like(case.shares)))


def _check_kept(t: Trial, case: Case) -> None:
    view, keep = case.view, t.select(case)
    expect(
        keep.dtype == torch.bool and keep.shape == view.positions.shape,
        f"{t.who(case)}: must return a bool mask {tuple(view.positions.shape)}, got {keep.dtype} {tuple(keep.shape)}",
    )
    expect(bool((keep <= view.valid).all()), f"{t.who(case)}: a free slot was kept")
    expect_equal(keep.sum(dim=-1), case.shares, f"{t.who(case)}: each head must keep exactly its share")
    affordable = (view.protected.sum(dim=-1) <= case.shares)[..., None]
    lost = (affordable & view.protected & ~keep).any() | (~affordable & keep & ~view.protected).any()
    expect(not bool(lost), f"{t.who(case)}: protected tokens come first")
    _check_inclusion(t, case, keep)


def _check_inclusion(t: Trial, case: Case, keep: Tensor) -> None:
    """Check the probabilities of a selector that weighs: those of a draw of each head's share, and of this one."""
    drawn = t.strategy.draw(showing(case.view, t.strategy.needs()), case.scores, case.shares)
    expect_equal(drawn.keep, keep, f"{t.who(case)}: draw and select must choose alike")
    if drawn.inclusion is None:
        expect(not t.strategy.weighs, f"{t.who(case)}: a selector that overrides draw must return probabilities")
        return
    pi, valid = drawn.inclusion, case.view.valid
    possible = (
        bool(((pi >= 0) & (pi <= 1))[valid].all())
        and bool((pi > 0)[keep].all())
        and bool((pi < 1)[valid & ~keep].all())
    )
    expect(possible, f"{t.who(case)}: kept slots must have a probability above 0, others one below 1")
    excess = (pi.masked_fill(~valid, 0.0).sum(dim=-1) - case.shares).abs().amax()
    expect(
        float(excess) < 1e-6,
        f"{t.who(case)}: the probabilities must sum to each head's share, got {float(excess):.2g} off",
    )


def check_identity_when_all_fits(t: Trial) -> None:
    """Check that a share as large as what is held keeps all of it."""
    for case in t.tried:
        keep = t.select(replace(case, shares=case.view.counts))
        expect_equal(keep, case.view.valid, f"{t.who(case)}: everything fits, so everything must be kept")


def check_ties(t: Trial) -> None:
    """Check that among tokens that nothing tells apart the newest are kept: same score, same key, same value."""
    for case in t.tried:
        view, one = case.view, torch.zeros_like(case.view.keys)
        one[..., 0] = 1.0
        same = replace(case, view=replace(view, contents=Contents(one, one)), scores=torch.ones_like(case.scores))
        keep, candidates = t.select(same), view.candidates
        n_kept = (keep & candidates).sum(dim=-1, keepdim=True)
        age = candidates.flip(-1).cumsum(dim=-1).flip(-1)  # 1 for the newest candidate, 2 for the one before it, …
        newest = candidates & (age <= n_kept)
        expect_equal(keep & candidates, newest, f"{t.who(case)}: ties must go to the larger position")


def check_row_independence(t: Trial) -> None:
    """Check that a row keeps the same alone, and in another order."""
    for i, case in enumerate(t.tried):
        for rows in companies(case):
            keep = t.select(of_rows(case, rows))
            expect_equal(t.usual(i)[:, rows], keep, f"{t.who(case)}: rows {rows} by themselves keep other tokens")


def check_head_permutation(t: Trial) -> None:
    """Check that permuting KV heads permutes kept sets."""
    for i, case in enumerate(t.tried):
        order = torch.arange(case.view.geometry.n_kv_heads).roll(1)
        if len(order) > 1:
            keep = t.select(with_permuted_heads(case, order, case.view.geometry))
            who = f"{t.who(case)}: with KV heads in the order {order.tolist()}"
            expect_equal(t.usual(i)[:, :, order], keep, f"{who} other tokens are kept")


def check_free_slots(t: Trial) -> None:
    """Check that neither the content of free slots nor their number has any effect."""
    for i, case in enumerate(t.tried):
        keep = t.usual(i)
        other = t.select(with_garbage(case, case.view, seed=77, scale=500.0))
        expect_equal(keep, other, f"{t.who(case)}: free slots with other numbers change what is kept")
        wider = t.select(with_more_slots(case, 5))[..., : keep.shape[-1]]
        expect_equal(keep, wider, f"{t.who(case)}: five more free slots change what is kept")


def check_purity(t: Trial) -> None:
    """Check determinism, that inputs stay as they are, and that global generators do."""
    given = [cloned(case) for case in t.tried]
    check_pure(named(t.strategy), lambda: [t.select(case) for case in given], given)


CHECKS: dict[str, Callable[[Trial], None]] = {
    "needs": check_declared_needs,
    "purity": check_purity,
    "shares": check_shares,
    "identity when all fits": check_identity_when_all_fits,
    "ties": check_ties,
    "row independence": check_row_independence,
    "head permutation": check_head_permutation,
    "free slots": check_free_slots,
}
