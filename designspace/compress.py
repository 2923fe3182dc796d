"""One compression event: score, allocate, select, and the order in which kept slots are packed.

Pure in its inputs: a `View` and a target size in, what to keep out. Every invariant of the axis contracts is checked here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from designspace.axes import Mechanism
from designspace.errors import InvariantViolation
from designspace.view import View


class Kept(NamedTuple):
    """The outcome of an event. order: [L,E,H_kv,C] int64, kept slots first, by position; counts: [L,E,H_kv] int64.

    keys, values: [L,E,H_kv,C,D], mass: [L,E,H_kv,C] or None, all in the order before packing. memory: [L,E,H_kv,n] or None.
    """

    order: Tensor
    counts: Tensor
    keys: Tensor
    values: Tensor
    mass: Tensor | None = None
    memory: Tensor | None = None


def compress(mechanism: Mechanism, view: View) -> Kept:
    """Decide what each (layer, row, head) keeps when its row is cut to a mean of `view.target` [E] tokens.

    Raises:
        InvariantViolation: a strategy returned NaN, a wrong shape, a wrong total, or dropped a protected token.
    """
    scoring, routing, representation = mechanism.scoring, mechanism.head_routing, mechanism.representation
    scores = scoring.score(view.narrowed(scoring.needs()))
    _check_scores(f"scoring {scoring.kind!r}", view, scores)
    for_routing = view.narrowed(routing.needs())
    scores = routing.adapt(for_routing, scores)
    _check_scores(f"head routing {routing.kind!r}", view, scores)
    shares = cap_shares(routing.allocate(for_routing, scores, view.target), view.counts)
    _check_shares(mechanism, view, shares, view.target)
    keep = scoring.selector.select(view.narrowed(scoring.selector.needs()), scores, shares)
    _check_kept(f"selector {scoring.selector.kind!r}", view, shares, keep)
    folded = representation.fold(view.narrowed(representation.needs()), scores, shares, keep)
    if folded.keep is not keep:
        _check_kept(f"representation {representation.kind!r}", view, shares, folded.keep)
    return Kept(packing_order(folded.keep), shares, folded.keys, folded.values, folded.mass, folded.memory)


def packing_order(keep: Tensor) -> Tensor:
    """Return slot indices [...,C] with the kept ones [...,C] first, both parts in slot order, which is position order."""
    kept = keep.cumsum(dim=-1)
    slot = torch.arange(keep.shape[-1], device=keep.device)
    # Counting says where each slot goes, several times faster than a stable sort.
    to = torch.where(keep, kept - 1, kept[..., -1:] + slot - kept)
    return torch.empty_like(to).scatter_(-1, to, slot.expand_as(to))


def largest_remainder(real: Tensor, total: Tensor) -> Tensor:
    """Round non-negative shares [..., N] to integers that sum exactly to `total` [...]; ties go to the lower index.

    The real shares must sum to `total` up to floating-point error.
    """
    floor = torch.floor(real + 1e-9)
    missing = (total - floor.sum(dim=-1).long()).unsqueeze(-1)
    rank = torch.argsort(torch.argsort(-(real - floor), dim=-1, stable=True), dim=-1, stable=True)
    return floor.long() + (rank < missing).long()


def cap_shares(shares: Tensor, counts: Tensor) -> Tensor:
    """Cap integer shares [L,E,H] at the tokens present and hand the surplus of each row to its heads with room.

    The surplus is spread evenly, leftover units to lower (layer, head) first. Totals are kept unless everything is kept.
    """
    capped = torch.minimum(shares, counts)
    surplus = (shares - capped).sum(dim=(0, 2))
    while bool((surplus > 0).any()):
        room = counts - capped
        is_open = (room > 0).permute(1, 0, 2).flatten(1)  # [E, L*H]
        n_open = is_open.sum(dim=1)
        if not bool(((surplus > 0) & (n_open > 0)).any()):
            break
        even = surplus // n_open.clamp(min=1)
        extra = surplus - even * n_open
        grant = even[:, None] + ((is_open.cumsum(dim=1) <= extra[:, None]) & is_open)
        grant = (grant * is_open).view(-1, shares.shape[0], shares.shape[2]).permute(1, 0, 2)
        given = torch.minimum(grant, room)
        capped = capped + given
        surplus = surplus - given.sum(dim=(0, 2))
    return capped


def _check_scores(who: str, view: View, scores: Tensor) -> None:
    if scores.shape != view.positions.shape or scores.dtype != torch.float32:
        raise InvariantViolation(
            f"{who} must return float32 scores {tuple(view.positions.shape)}, got {scores.dtype} {tuple(scores.shape)}"
        )
    if bool((torch.isnan(scores) & view.valid).any()):
        raise InvariantViolation(f"{who} returned NaN for a held token")


def _check_shares(mechanism: Mechanism, view: View, shares: Tensor, target: Tensor) -> None:
    total = shares.sum(dim=(0, 2))
    wanted = torch.minimum(target.long() * view.geometry.n_heads_total, view.counts.sum(dim=(0, 2)))
    if not torch.equal(total, wanted) or bool((shares < 0).any()):
        raise InvariantViolation(
            f"head routing {mechanism.head_routing.kind!r} must conserve the total, "
            f"got {total.tolist()} tokens per row instead of {wanted.tolist()}"
        )


def _check_kept(who: str, view: View, shares: Tensor, keep: Tensor) -> None:
    if not torch.equal(keep.sum(dim=-1), shares) or bool((keep & ~view.valid).any()):
        raise InvariantViolation(f"{who} must keep exactly each head's share of its held tokens")
    affordable = view.protected.sum(dim=-1) <= shares
    if bool((affordable & (view.protected & ~keep).any(dim=-1)).any()):
        raise InvariantViolation(f"{who} dropped a protected token although the share had room")
