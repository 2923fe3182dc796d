"""The fused scores of rotary keys that are linear in their halves and in the moduli of their bands; on CPUs, in float32."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from designspace.kernels.build import load_library

_MOST_GROUP = 16  # query heads per KV head that the kernel has room for, its MOST_GROUP


def band_scores(keys: Tensor, halves: Tensor, moduli: Tensor) -> Tensor | None:
    """Return halves . keys + moduli . (moduli of the keys' bands), [...,G,C], None where the kernel does not apply.

    keys: [...,C,D] as a rotary model keeps them, real parts first, float32 or bfloat16, which is widened. halves: [...,G,D];
    moduli: [...,G,D/2]; both float32.
    """
    (n_slots, dim), group = keys.shape[-2:], halves.shape[-2]
    half = keys.dtype == torch.bfloat16
    if any(x.dtype != torch.float32 for x in (halves, moduli)) or not (half or keys.dtype == torch.float32):
        return None
    if any(x.device.type != "cpu" for x in (keys, halves, moduli)):
        return None
    library = load_library("band_scores") if dim % 32 == 0 and group <= _MOST_GROUP else None
    if library is None:
        return None
    run = library.band_scores
    run.argtypes = [*[ctypes.c_int64] * 4, *[ctypes.c_int32] * 2, *[ctypes.c_void_p] * 4]
    run.restype = None
    keys, weights = keys.contiguous(), torch.cat([halves, moduli.expand(*halves.shape[:-1], -1)], dim=-1)
    scores = torch.empty(*halves.shape[:-1], n_slots)
    n_heads, threads = scores[..., 0, 0].numel(), torch.get_num_threads()
    room = torch.empty(threads if half else 0, n_slots, dim)
    pointers = (x.data_ptr() for x in (keys, weights, scores, room))
    run(n_heads, n_slots, group, dim // 2, threads, half, *pointers)
    return scores
