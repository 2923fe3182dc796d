"""How a layer turns its keys by their positions, found from two sets of keys of one text at different positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

# half: band f pairs components f and f + D_rot/2. pairs: components 2f and 2f + 1. none: positions change nothing.
Rotation = Literal["half", "pairs", "none", "unknown"]


class Frequencies(NamedTuple):
    """One set of a model's rotary frequencies [D_rot/2], with what cosine and sine are scaled by, and what names it."""

    name: str
    inv_freq: Tensor
    scaling: float


class LayerRotation(NamedTuple):
    """How a layer turns its keys: its layout, the name of its frequencies, and the error of turning keys back.

    error: as a share of the largest key. frequencies: empty where nothing is turned, or the layout is not known.
    """

    layout: Rotation
    frequencies: str
    error: float


def frequencies_of(model: Any) -> list[Frequencies]:
    """Return the sets of frequencies of a model's rotary embedding: one, or one for each kind of its layers; none: no such."""
    rotary = getattr(getattr(model, "model", None), "rotary_emb", None)
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    found = []
    for prefix in ("", "full_attention_", *(f"{kind}_" for kind in sorted(kinds) if kind != "full_attention")):
        inv_freq = getattr(rotary, f"{prefix}inv_freq", None)
        if isinstance(inv_freq, Tensor):
            scaling = float(getattr(rotary, f"{prefix}attention_scaling", 1.0))
            found.append(Frequencies(prefix.removesuffix("_"), inv_freq.detach().float().cpu(), scaling))
    return found


_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 6e-2, torch.float16: 1e-2}


def rotation_of_layer(
    here: Tensor,
    there: Tensor,
    positions: Tensor,
    offset: int,
    candidates: Sequence[Frequencies],
    dtype: torch.dtype,
) -> LayerRotation:
    """Return how a layer turns its keys.

    here, there: keys [1,H_kv,T,D] of one text at `positions` [T] and at `positions + offset`. candidates: the frequencies
    that the model has; of several that fit, the one of the smallest error.
    """
    here, there = here[0].float(), there[0].float()
    scale, tolerance = float(here.abs().max().clamp(min=1e-6)), _TOLERANCE.get(dtype, 1e-3)
    if float((here - there).abs().max()) / scale <= tolerance:
        return LayerRotation("none", "", 0.0)
    layouts: tuple[Rotation, ...] = ("half", "pairs")
    for layout in layouts:
        tried = []
        for one in candidates:
            back = [_turned_back(x, at, layout, one) for x, at in ((here, positions), (there, positions + offset))]
            tried.append(LayerRotation(layout, one.name, float((back[0] - back[1]).abs().max()) / scale))
        best = min(tried, key=lambda rotation: rotation.error)
        if best.error <= tolerance:
            return best
    return LayerRotation("unknown", "", 0.0)


def _turned_back(keys: Tensor, positions: Tensor, rotation: Rotation, frequencies: Frequencies) -> Tensor:
    """Return keys [H,T,D] with the rotation of their positions undone; what is not rotated stays."""
    n_bands = frequencies.inv_freq.numel()
    angle = positions.double()[:, None] * frequencies.inv_freq.double().to(keys.device)
    cos, sin = (f.to(torch.float32) / frequencies.scaling for f in (angle.cos(), angle.sin()))
    turned, rest = keys[..., : 2 * n_bands], keys[..., 2 * n_bands :]
    if rotation == "half":
        first, second = turned[..., :n_bands], turned[..., n_bands:]
        return torch.cat([first * cos + second * sin, second * cos - first * sin, rest], dim=-1)
    first, second = turned[..., ::2], turned[..., 1::2]
    both = torch.stack([first * cos + second * sin, second * cos - first * sin], dim=-1).flatten(-2)
    return torch.cat([both, rest], dim=-1)
