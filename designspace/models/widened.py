"""A model in float32 for a while, so that a difference in its logits is one in what is computed, not one of rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from designspace.models.free_memory import free_bytes

_NARROW = (torch.bfloat16, torch.float16)  # every number of these is one of float32's
_ROOM = 1.2  # free memory to growth: a trial's own tensors need some too


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """Hold a model's weights in float32, and give back what they were, to the bit.

    They stay as they are where they do not fit, or are packed: what runs meanwhile must look at their type.
    """
    narrow = _narrow(model)
    grown = sum(weight.numel() * (torch.float32.itemsize - weight.dtype.itemsize) for weight in narrow)
    if not narrow or grown * _ROOM > free_bytes(narrow[0].device):
        yield
        return
    types = [weight.dtype for weight in narrow]
    for weight in narrow:
        weight.data = weight.data.float()
    try:
        yield
    finally:
        for weight, dtype in zip(narrow, types, strict=True):
            weight.data = weight.data.to(dtype)


def _narrow(model: Any) -> list[Tensor]:
    """Return parameters and buffers of a narrow type, each once; none where weights are packed in a type of their own."""
    tensors = list(chain(model.parameters(), model.buffers()))
    if any(not parameter.is_floating_point() for parameter in model.parameters()):
        return []
    return [tensor for tensor in tensors if tensor.dtype in _NARROW]
