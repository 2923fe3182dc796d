"""Selection primitives shared by all selectors and routings: deterministic ranks and protection."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from designspace.axes.view import View


def rank_descending(scores: Tensor, candidates: Tensor) -> Tensor:
    """Return each slot's rank among the candidates, 0 = best, non-candidates last; ties go to the later slot.

    scores, candidates: [..., C]. Slots are in position order, so "later slot" is "more recent".
    """
    floor = torch.finfo(scores.dtype).min
    masked = scores.clamp(min=floor).masked_fill(~candidates, -torch.inf)
    order = masked.shape[-1] - 1 - torch.argsort(masked.flip(-1), dim=-1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(
        -1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order)
    )


def highest(scores: Tensor, candidates: Tensor, n: Tensor) -> Tensor:
    """Return the `n` best candidates of each head, bool [...,C], as `rank_descending` < n does, without ranking the rest.

    scores, candidates: [..., C]; n: [...] int64.
    """
    masked = scores.clamp(min=torch.finfo(scores.dtype).min).masked_fill(~candidates, -torch.inf)
    worst = _descending(masked).gather(-1, (n - 1).clamp(0, scores.shape[-1] - 1)[..., None])
    chosen = candidates & (masked >= worst)
    if torch.equal(chosen.sum(dim=-1), n):
        return chosen
    better, equal = masked > worst, masked == worst
    seen = equal.cumsum(dim=-1)
    surplus = seen[..., -1:] - (n - better.sum(dim=-1))[..., None]  # of equal ones, the earliest go
    return candidates & (better | (equal & (seen > surplus))) & (n > 0)[..., None]


def _descending(x: Tensor) -> Tensor:
    """Return x sorted along the last dimension. NumPy's sort is vectorised, several times faster than torch's on a CPU."""
    if x.device.type == "cpu":
        return torch.from_numpy(np.sort(-x.numpy(), axis=-1)).neg_()
    return torch.sort(x, dim=-1, descending=True).values


def keep_protected(view: View, shares: Tensor) -> Tensor:
    """Return which protected slots are kept: all, or where the share is too small the first ones, then the newest.

    The first ones are the sinks, and the prompt where that is protected.

    shares: [L,E,H_kv]. Returns bool [L,E,H_kv,C].
    """
    if bool((view.protected.sum(dim=-1) <= shares).all()):
        return view.protected
    first = view.valid & (view.positions < view.sinks)
    if view.context.protects_prompt:
        first |= view.of_prompt
    first_rank = first.cumsum(dim=-1) - 1
    kept_first = first & (first_rank < shares[..., None])
    others = view.protected & ~first
    left = (shares - kept_first.sum(dim=-1))[..., None]
    newest_rank = others.flip(-1).cumsum(dim=-1).flip(-1) - 1
    return kept_first | (others & (newest_rank < left))


def scaled(scores: Tensor, mask: Tensor) -> Tensor:
    """Bring each head's masked scores [...,C] to [0, 1]; equal scores become 0.5, other entries 0."""
    low = scores.masked_fill(~mask, torch.inf).amin(dim=-1, keepdim=True)
    span = scores.masked_fill(~mask, -torch.inf).amax(dim=-1, keepdim=True) - low
    relative = torch.where(span > 0, (scores - low) / span.clamp(min=1e-30), torch.full_like(scores, 0.5))
    return relative.masked_fill(~mask, 0.0)


def packing_order(keep: Tensor) -> Tensor:
    """Return slot indices [...,C] with the kept ones [...,C] first, both parts in slot order, which is position order."""
    kept = keep.cumsum(dim=-1)
    slot = torch.arange(keep.shape[-1], device=keep.device)
    # Counting says where each slot goes, several times faster than a stable sort.
    to = torch.where(keep, kept - 1, kept[..., -1:] + slot - kept)
    return torch.empty_like(to).scatter_(-1, to, slot.expand_as(to))
