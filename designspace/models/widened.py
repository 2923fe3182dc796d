"""A model in float32 for a while, so that a difference in its logits is one in what is computed, not one of rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from designspace.models.free_memory import free_bytes
from designspace.models.quantization import is_packed, packed_layers, unpacked

_NARROW = (torch.bfloat16, torch.float16)  # every number of these is one of float32's
_ROOM = 1.2  # free memory to growth: a trial's own tensors need some too


@contextmanager
def in_float32(model: Any) -> Iterator[bool]:
    """Hold a model's weights in float32, and give back what they were, to the bit; yields whether any are others meanwhile.

    Quantised weights are replaced by the numbers that they stand for. All stay as they are where they do not fit, or are
    packed in a checkpoint's own way: what runs meanwhile must look at their type.
    """
    narrow, packed = _narrow(model), [(layer, layer.weight) for layer in packed_layers(model)]
    grown = sum(weight.numel() * (torch.float32.itemsize - weight.dtype.itemsize) for weight in narrow)
    grown += sum(weight.numel() * torch.float32.itemsize for _, weight in packed)
    if not (narrow or packed) or grown * _ROOM > free_bytes(next(model.parameters()).device):
        yield False
        return
    types = [weight.dtype for weight in narrow]
    try:
        for weight in narrow:
            weight.data = weight.data.float()
        for layer, weight in packed:
            layer.weight = nn.Parameter(unpacked(weight, torch.float32), requires_grad=False)
        yield True
    finally:
        for weight, dtype in zip(narrow, types, strict=True):
            weight.data = weight.data.to(dtype)
        for layer, weight in packed:
            layer.weight = weight


def _narrow(model: Any) -> list[Tensor]:
    """Return plain parameters and buffers of a narrow type, each once; none where some are of a type that does not compute."""
    tensors = list(chain(model.parameters(), model.buffers()))
    if any(not parameter.is_floating_point() for parameter in model.parameters()):
        return []
    return [tensor for tensor in tensors if tensor.dtype in _NARROW and not is_packed(tensor)]
