"""Rotary position embeddings in complex form: band f of a head pairs components f and f + D/2."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes.geometry import Geometry


def as_bands(x: Tensor) -> Tensor:
    """Pair component f with f + D/2 of a rotary vector [..., D] as a complex number, [..., D/2] complex64."""
    half = x.shape[-1] // 2
    return torch.complex(x[..., :half].contiguous(), x[..., half:].contiguous())


def unrotate(bands: Tensor, positions: Tensor, geometry: Geometry) -> Tensor:
    """Undo RoPE in one layer: bands [...,T,D/2] complex64 of vectors at `positions` [T]; phases are formed in float64."""
    angle = positions.double()[:, None] * geometry.inv_freq.double().to(positions.device)
    turn = torch.polar(torch.full_like(angle, 1 / geometry.attention_scaling), -angle)
    return bands * turn.to(torch.complex64)


def unrotate_layers(bands: Tensor, positions: Tensor, geometry: Geometry) -> Tensor:
    """Undo RoPE in all layers with a cache: bands [L,H,T,D/2] complex64 of vectors at `positions` [T]."""
    if geometry.layer_inv_freq is None:
        return unrotate(bands, positions, geometry)
    layers = range(len(geometry.layer_inv_freq)) if geometry.layers is None else geometry.layers
    turned = [unrotate(own, positions, geometry.of_layer(n)) for own, n in zip(bands, layers, strict=True)]
    return torch.stack(turned)


def unrotate_slots(keys: Tensor, positions: Tensor, geometry: Geometry) -> Tensor:
    """Return keys [L,E,H,C,D] of all layers with a cache before RoPE, float32; positions: [L,E,H,C], at least 0."""
    frequencies = geometry.frequencies().to(keys.device)[:, None, None, None]  # [L|1,1,1,1,F]
    scalings = geometry.scalings().to(keys.device).view(-1, 1, 1, 1, 1)
    angle = positions.double()[..., None] * frequencies
    turned = as_bands(keys.float()) * torch.polar((1 / scalings).expand_as(angle), -angle).to(torch.complex64)
    return torch.cat([turned.real, turned.imag], dim=-1)


def unrotation_error(who: str, geometry: Geometry) -> str | None:
    """Return why something that turns whole keys back, in every layer, cannot work on this model, or None."""
    rotated = 2 * geometry.inv_freq.numel()
    if rotated != geometry.head_dim:
        return (
            f"{who} needs rotary embeddings over the whole head dimension of {geometry.head_dim}, "
            f"this model rotates {rotated}"
        )
    if geometry.rotation_note:
        return f"{who} turns keys back in every layer, but in this model {geometry.rotation_note}"
    return None
