"""How a layer turns its keys by their positions, found from two sets of keys of one text at different positions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from designspace.axes import Geometry

# half: band f pairs components f and f + D_rot/2. pairs: components 2f and 2f + 1. none: positions change nothing.
Rotation = Literal["half", "pairs", "none", "unknown"]

_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 6e-2, torch.float16: 1e-2}


def rotation_of_layer(
    here: Tensor, there: Tensor, positions: Tensor, offset: int, geometry: Geometry, dtype: torch.dtype
) -> tuple[Rotation, float]:
    """Return how a layer turns its keys, and the error of turning them back as a share of the largest key.

    here, there: keys [1,H_kv,T,D] of one text at `positions` [T] and at `positions + offset`.
    """
    here, there = here[0].float(), there[0].float()
    scale, tolerance = float(here.abs().max().clamp(min=1e-6)), _TOLERANCE.get(dtype, 1e-3)
    for rotation in ("half", "pairs"):
        back = [
            _turned_back(keys, at, rotation, geometry) for keys, at in ((here, positions), (there, positions + offset))
        ]
        error = float((back[0] - back[1]).abs().max()) / scale
        if error <= tolerance and float((here - there).abs().max()) / scale > tolerance:
            return rotation, error
    unmoved = float((here - there).abs().max()) / scale
    return ("none", 0.0) if unmoved <= tolerance else ("unknown", 0.0)


def _turned_back(keys: Tensor, positions: Tensor, rotation: Rotation, geometry: Geometry) -> Tensor:
    """Return keys [H,T,D] with the rotation of their positions undone; what is not rotated stays."""
    n_bands = geometry.inv_freq.numel()
    angle = positions.double()[:, None] * geometry.inv_freq.double().to(keys.device)
    cos, sin = (f.to(torch.float32) / geometry.attention_scaling for f in (angle.cos(), angle.sin()))
    turned, rest = keys[..., : 2 * n_bands], keys[..., 2 * n_bands :]
    if rotation == "half":
        first, second = turned[..., :n_bands], turned[..., n_bands:]
        return torch.cat([first * cos + second * sin, second * cos - first * sin, rest], dim=-1)
    first, second = turned[..., ::2], turned[..., 1::2]
    both = torch.stack([first * cos + second * sin, second * cos - first * sin], dim=-1).flatten(-2)
    return torch.cat([both, rest], dim=-1)
