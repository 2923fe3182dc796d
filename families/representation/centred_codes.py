"""Uniform codes around the mean of a token's elements, with its smallest and largest elements stored apart."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Coded(NamedTuple):
    """Centred codes. codes: [...,D] uint8; bits: [...] uint8; scale, mean: [...]; outliers, places: [...,2h].

    A code c of n bits stands for (c - 2^(n-1)) * scale + mean.
    """

    codes: Tensor
    bits: Tensor
    scale: Tensor
    mean: Tensor
    outliers: Tensor
    places: Tensor

    def decoded(self) -> Tensor:
        """Return the elements [...,D] in the scale's type."""
        steps = self.codes.float() - _half(self.bits)
        x = steps * self.scale.float()[..., None] + self.mean.float()[..., None]
        return x.to(self.scale.dtype).scatter(-1, self.places.long(), self.outliers)


def span(x: Tensor, n_outliers: int) -> Tensor:
    """Return the range [...] float32 of x [...,D] without the `n_outliers` smallest and largest elements."""
    ordered = x.float().sort(dim=-1).values
    return ordered[..., x.shape[-1] - 1 - n_outliers] - ordered[..., n_outliers]


def encode(x: Tensor, bits: Tensor, n_outliers: int) -> Coded:
    """Encode x [...,D] with `bits` [...] of 0 … 8 per token, `n_outliers` elements at each end left as they are.

    The scale is the range over 2^bits; rounding is half to even; what lies beyond the codes takes the last one. A token
    without a range gets scale 0 and is exact.
    """
    order = x.argsort(dim=-1, stable=True)
    last = x.shape[-1] - n_outliers
    places = torch.cat([order[..., :n_outliers], order[..., last:]], dim=-1)
    inside = x.gather(-1, order[..., n_outliers:last]).float()
    half = _half(bits)
    scale = ((inside[..., -1] - inside[..., 0]) / (2 * half[..., 0])).to(x.dtype)
    mean = inside.double().mean(dim=-1).to(x.dtype)  # in double: no order of adding shows
    unit = torch.where(scale > 0, scale, torch.ones_like(scale)).float()[..., None]
    steps = ((x.float() - mean.float()[..., None]) / unit).round()
    codes = torch.minimum((steps + half).clamp(min=0), (2 * half - 1).clamp(min=0)).to(torch.uint8)
    return Coded(codes, bits, scale, mean, x.gather(-1, places), places.to(torch.int16))


def _half(bits: Tensor) -> Tensor:
    """Return half the number of codes, 2^(bits-1), [...,1] float32."""
    return 2.0 ** (bits.float() - 1)[..., None]
