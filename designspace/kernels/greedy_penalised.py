"""The fused loop of a greedy selection with a penalty for the largest similarity; float32, in C on CPUs, in Triton on GPUs."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec

import torch
from torch import Tensor

from designspace.kernels.build import load_library, switched_off

_BLOCK = 64  # slots that the kernel compares at a time
_ASIDE = 16  # numbers between rows, as rows a power of two apart would share a few lines of the first-level cache
_ROWS = 6  # that the kernel keeps beside the features


def greedy_penalised(
    features: Tensor,
    weight: float,
    scores: Tensor,
    penalty: Tensor,
    gain: Tensor,
    candidates: Tensor,
    n_picks: Tensor,
) -> Tensor | None:
    """Return the chosen slots, bool [...,C], None where the kernel does not apply or cannot be built.

    features: [...,C,D]; scores, penalty, gain: [...,C]; candidates: bool [...,C]; n_picks: [...] int64, at most the
    candidates. Ties go to the later slot. Gains must be finite.
    """
    floats = (features, scores, penalty, gain)
    if any(x.dtype != torch.float32 for x in floats) or not bool(torch.isfinite(gain).all()):
        return None
    if features.device.type == "cuda" and find_spec("triton") and not switched_off():
        from designspace.kernels.greedy_on_gpu import greedy_on_gpu  # here, as Triton is on machines with a GPU only

        return greedy_on_gpu(features, weight, scores, penalty, gain, candidates, n_picks)
    library = load_library("greedy_penalised") if features.device.type == "cpu" else None
    if library is None:
        return None
    run = library.greedy_penalised
    run.argtypes = [*[ctypes.c_int64] * 4, ctypes.c_int32, ctypes.c_float, *[ctypes.c_void_p] * 8]
    run.restype = None
    (n_slots, dim), n_heads, threads = features.shape[-2:], n_picks.numel(), torch.get_num_threads()
    stride = -(-n_slots // _BLOCK) * _BLOCK + _ASIDE
    chosen = torch.zeros(candidates.shape, dtype=torch.bool)
    inputs = (
        *(x.contiguous() for x in (*floats, candidates, n_picks)),
        chosen,
        torch.zeros(threads, stride * (dim + _ROWS)),
    )
    run(n_heads, n_slots, dim, stride, threads, weight, *(x.data_ptr() for x in inputs))
    return chosen
