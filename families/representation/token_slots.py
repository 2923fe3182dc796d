"""Slots that hold one token each: writing a token, and telling tokens that an event moved from new ones."""

from __future__ import annotations

import torch
from torch import Tensor

_FREE = torch.iinfo(torch.int32).max


def put(x: Tensor, slot: Tensor, new: Tensor, *, where: Tensor | None = None) -> None:
    """Set one slot per (row, head) of x [B,H,C,...] to new [B,H,...].

    slot: [B,H]. where: [B,H] bool, the slots to set; None for all.
    """
    if where is not None:
        new = torch.where(where.reshape(where.shape + (1,) * (new.dim() - 2)), new.to(x.dtype), get(x, slot))
    x[(*_heads(slot), slot)] = new.to(x.dtype)


def get(x: Tensor, slot: Tensor) -> Tensor:
    """Return one slot per (row, head) of x [B,H,C,...], [B,H,...]; slot: [B,H]."""
    return x[(*_heads(slot), slot)]


def _heads(slot: Tensor) -> tuple[Tensor, Tensor]:
    n_rows, n_heads = slot.shape
    return torch.arange(n_rows, device=slot.device)[:, None], torch.arange(n_heads, device=slot.device)


def position_at(positions: Tensor, slot: Tensor) -> Tensor:
    """Return the positions [B,H] of the tokens in `slot` [B,H]; positions: [B,H,C]."""
    return positions.gather(-1, slot[..., None])[..., 0]


def moved(before: Tensor, after: Tensor, read: Tensor, loaded: Tensor) -> tuple[Tensor, Tensor]:
    """Find the loaded tokens that were here already.

    Those have the same position, and exactly the bits that were read of them. before, after: positions [L,E,H,C], -1 =
    free, filled slots first and in position order. read, loaded: [L,E,H,C,D] in the order of before and after. Returns
    the former slot of each token, [L,E,H,C] int64, and whether it has one, bool.

    A compression event gives a store plain keys and values. So this is how a store keeps a code that cannot be found
    again from its decoded form: a range that was measured on lost data, or a width that was chosen earlier.
    """
    ordered = torch.where(before < 0, _FREE, before.long())
    index = torch.searchsorted(ordered, after.long().contiguous()).clamp(max=before.shape[-1] - 1)
    same = (ordered.gather(-1, index) == after) & (after >= 0)
    old = read.gather(3, index[..., None].expand_as(loaded))
    return index, same & (old == loaded).all(dim=-1)


def taken(x: Tensor, index: Tensor) -> Tensor:
    """Return the slots `index` [L,E,H,C] of x [L,E,H,C',...]."""
    return x.gather(3, like(index, x).expand(*index.shape, *x.shape[4:]))


def like(mask: Tensor, x: Tensor) -> Tensor:
    """Return a mask or index with as many dimensions as x, whose first ones are the mask's."""
    return mask.reshape(*mask.shape, *([1] * (x.dim() - mask.dim())))
