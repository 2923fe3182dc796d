"""Uniform asymmetric quantisation in groups, and packing of codes into bytes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Quantised(NamedTuple):
    """Codes 0 … 2^bits - 1 as uint8, and a scale and a minimum per group of the last dimension in the input's type."""

    codes: Tensor
    scale: Tensor
    minimum: Tensor


def quantise(x: Tensor, bits: int) -> Quantised:
    """Quantise groups along the last dimension of x [..., g]. Scale and minimum are [..., 1]; rounding is half to even.

    A constant group gets scale 1, so it is exact.
    """
    minimum = x.amin(dim=-1, keepdim=True)
    span = x.amax(dim=-1, keepdim=True) - minimum
    scale = torch.where(span > 0, span / (2**bits - 1), torch.ones_like(span))
    codes = ((x - minimum) / scale).round().clamp(0, 2**bits - 1)
    return Quantised(codes.to(torch.uint8), scale, minimum)


def dequantise(codes: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    """Return code * scale + minimum in the scale's type."""
    return codes.to(scale.dtype) * scale + minimum


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes [..., n] of `bits` 1 … 8 into bytes [..., n * bits / 8], first code in the low bits.

    Widths that do not divide 8 need n to be a multiple of 8: eight codes lie in `bits` bytes.
    """
    if 8 % bits:
        words = (codes.unflatten(-1, (-1, 8)).long() << _shifts(8, bits, codes)).sum(dim=-1)
        return ((words[..., None] >> _shifts(bits, 8, codes)) & 255).flatten(-2).to(torch.uint8)
    per_byte = 8 // bits
    return (codes.unflatten(-1, (-1, per_byte)) << _shifts(per_byte, bits, codes)).sum(dim=-1, dtype=torch.uint8)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """Undo `pack`."""
    if 8 % bits:
        words = (packed.unflatten(-1, (-1, bits)).long() << _shifts(bits, 8, packed)).sum(dim=-1)
        return ((words[..., None] >> _shifts(8, bits, packed)) & (2**bits - 1)).flatten(-2).to(torch.uint8)
    return ((packed[..., None] >> _shifts(8 // bits, bits, packed)) & (2**bits - 1)).flatten(-2)


def _shifts(n: int, step: int, like: Tensor) -> Tensor:
    return torch.arange(n, device=like.device, dtype=torch.uint8) * step
