"""The fused loop of a greedy selection with a penalty for the largest similarity; float32 on CPUs."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from designspace.kernels.build import load_library


def greedy_penalised(
    similarity: Tensor,
    weight: float,
    scores: Tensor,
    penalty: Tensor,
    gain: Tensor,
    candidates: Tensor,
    n_picks: Tensor,
) -> Tensor | None:
    """Return the chosen slots, bool [...,C], None where the kernel does not apply or cannot be built.

    similarity: [...,C,C]; scores, penalty, gain: [...,C]; candidates: bool [...,C]; n_picks: [...] int64, at most
    the candidates. Ties go to the later slot. Gains must be finite.
    """
    floats = (similarity, scores, penalty, gain)
    if any(x.dtype != torch.float32 or x.device.type != "cpu" for x in floats) or not bool(torch.isfinite(gain).all()):
        return None
    library = load_library("greedy_penalised")
    if library is None:
        return None
    run = library.greedy_penalised
    run.argtypes = [ctypes.c_int64, ctypes.c_int64, ctypes.c_int32, ctypes.c_float, *[ctypes.c_void_p] * 7]
    run.restype = None
    chosen = torch.zeros(candidates.shape, dtype=torch.bool)
    inputs = (
        similarity.contiguous(),
        *(x.clone(memory_format=torch.contiguous_format) for x in (scores, penalty, gain)),
        candidates.contiguous(),
        n_picks.contiguous(),
    )
    n_slots = candidates.shape[-1]
    run(n_picks.numel(), n_slots, torch.get_num_threads(), weight, *(x.data_ptr() for x in inputs), chosen.data_ptr())
    return chosen
