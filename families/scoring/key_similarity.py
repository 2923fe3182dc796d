"""How alike a key is to the other held keys, as the released codes of R-KV and of G-KV measure it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from designspace.axes import View
from designspace.axes.view import masked_softmax

_ROWS, _COLUMNS = 16, 64  # keys of a block in G-KV's kernel: what it spares depends on them


def column_similarity(view: View, threshold: float) -> Tensor:
    """Return the softmax over tokens of the column means of the keys' cosine matrix, [L,E,H_kv,C].

    In each row of the matrix the most recent neighbour above `threshold` is spared: its entry counts as 0.
    """
    unit = _unit_keys(view)
    cosine = unit @ unit.mT  # [L,E,H,C,C]
    cosine.diagonal(dim1=-2, dim2=-1).zero_()
    above = (cosine > threshold) & view.valid[..., None, :] & view.valid[..., None]
    mean = cosine.masked_fill(_last_of(above), 0.0).sum(dim=-2) / view.counts[..., None].clamp(min=1)
    return masked_softmax(mean, view.valid)


def row_similarity(view: View, threshold: float) -> Tensor:
    """Return the softmax over tokens of the row means of the keys' cosine matrix, [L,E,H_kv,C].

    The matrix is worked through in blocks of 16 rows, the newest first, and of 64 columns, the first first. A row spares
    its last neighbour above `threshold` in every block of columns, of those columns that no newer block of rows has spared.
    """
    unit, n_slots = _unit_keys(view), view.positions.shape[-1]
    columns = functional.pad(unit, (0, 0, 0, -n_slots % _COLUMNS))
    filled = functional.pad(view.valid, (0, -n_slots % _COLUMNS))[..., None, :]
    column = torch.arange(columns.shape[-2], device=unit.device)
    # Newest first; the same step leads back, as filled slots are 0 … count-1.
    slot = view.counts[..., None] - 1 - torch.arange(n_slots, device=unit.device)
    rows = unit.gather(-2, slot.clamp(min=0)[..., None].expand_as(unit))
    spent, sums = torch.zeros_like(filled), []
    for start in range(0, n_slots, _ROWS):
        own = slot[..., start : start + _ROWS, None]  # [L,E,H,16,1]
        cosine = (rows[..., start : start + _ROWS, :] @ columns.mT).masked_fill(own == column, 0.0)
        above = (cosine > threshold) & filled & (own >= 0) & ~spent
        spared = _last_of(above.unflatten(-1, (-1, _COLUMNS))).flatten(-2)
        spent = spent | spared.any(dim=-2, keepdim=True)
        sums.append(cosine.masked_fill(spared, 0.0).sum(dim=-1))
    mean = torch.cat(sums, dim=-1).gather(-1, slot.clamp(min=0)) / view.counts[..., None].clamp(min=1)
    return masked_softmax(mean, view.valid)


def _unit_keys(view: View) -> Tensor:
    """Return keys of length 1, zero in free slots, [L,E,H_kv,C,D] float32."""
    unit = functional.normalize(view.keys.float(), dim=-1, eps=1e-8)
    return unit.masked_fill(~view.valid[..., None], 0.0)


def _last_of(marked: Tensor) -> Tensor:
    """Return the last marked entry along the last dimension alone, bool of the same shape."""
    return marked & (marked.flip(-1).cumsum(dim=-1).flip(-1) == 1)
