"""Quantities of one token across heads and layers, wherever each of them keeps it.

Heads may hold different tokens in the same slot, so anything that compares or averages heads must go by position.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def gather_heads(
    x: Tensor,
    positions: Tensor,
    valid: Tensor,
    width: int,
    *,
    over: Literal["heads", "layers", "both"],
    how: Literal["mean", "amax"],
) -> Tensor:
    """Reduce a per-slot quantity over the heads (or layers, or both) that hold the same token, and give it back per slot.

    x: [L,E,H,C] or [L,E,H,C,D]; positions: [L,E,H,C]; valid: [L,E,H,C], other entries take no part.
    Returns the shape of x: each slot has its token's mean or maximum. Invalid slots come back as zero.
    """
    if over == "both" and bool((positions == positions[:1, :, :1]).all()) and bool((valid == valid[:1, :, :1]).all()):
        return _same_tokens(x.float(), valid, how)
    vector = x if x.dim() == 5 else x[..., None]
    pos = positions.clamp(min=0)
    n_layers, n_rows, n_heads, _, dim = vector.shape
    key = _group_key(over, n_layers, n_heads, x.device)[:, None, :, None] * width + pos  # [L,E,H,C]
    n_groups = {"heads": n_layers, "layers": n_heads, "both": 1}[over]
    row = torch.arange(n_rows, device=x.device)[None, :, None, None] * (n_groups * width)
    index = (key + row).reshape(-1)
    kept = valid.reshape(-1)
    total = torch.zeros(n_rows * n_groups * width, dim, dtype=torch.float32, device=x.device)
    flat = vector.float().reshape(-1, dim)
    if how == "amax":
        floor = torch.finfo(torch.float32).min
        total.fill_(floor)
        total.scatter_reduce_(0, index[:, None].expand(-1, dim), flat.masked_fill(~kept[:, None], floor), "amax")
    else:
        total.index_add_(0, index, flat * kept[:, None])
        holders = torch.zeros(total.shape[0], device=x.device).index_add_(0, index, kept.float())
        total /= holders.clamp(min=1.0)[:, None]
    back = total[index].masked_fill(~kept[:, None], 0.0).reshape(vector.shape)
    return back if x.dim() == 5 else back[..., 0]


def _same_tokens(x: Tensor, valid: Tensor, how: str) -> Tensor:
    """Reduce over layers and heads that all hold the same tokens in the same slots; the result is a view of one head's."""
    if how == "amax":
        total = x.amax(dim=(0, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).min)
    else:
        first, *others = (x[i : i + 1, :, j : j + 1] for i in range(x.shape[0]) for j in range(x.shape[2]))
        total = first.clone()
        for other in others:  # one after the other, in the order in which the general path adds
            total += other
        total /= x.shape[0] * x.shape[2]
    held = valid[:1, :, :1]
    if x.dim() == 4:
        return total.masked_fill_(~held, 0.0).expand(x.shape)
    return total.mul_(held[..., None]).expand(x.shape)  # along vectors a product is several times faster than a fill


def _group_key(over: str, n_layers: int, n_heads: int, device: torch.device) -> Tensor:
    layers = torch.arange(n_layers, device=device)[:, None].expand(n_layers, n_heads)
    heads = torch.arange(n_heads, device=device)[None].expand(n_layers, n_heads)
    return {"heads": layers, "layers": heads, "both": torch.zeros_like(layers)}[over]
