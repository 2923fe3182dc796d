"""The fused move of an event: kept slots to the front, in place, touching nothing but them; on CPUs.

Without it an event gathers the kept slots into new tensors and writes whole rows back. It applies where slots keep their
content bit for bit, in stores that keep keys and values as attention reads them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from designspace.kernels.build import load_library

Move = Callable[[Tensor, Tensor, Tensor, Tensor], None]


def in_place_move(flat: tuple[Tensor, Tensor] | None) -> Move | None:
    """Return the kernel for keys and values [L,B,H_kv,C,D], None where it does not apply or cannot be built.

    It takes positions [L,B,H_kv,C] int32, order [L,E,H_kv,C] int64, kept [L,E,H_kv] int64 and rows [n] int64, n <= E, each
    row once, and moves keys and values along with the positions.
    """
    if flat is None or flat[0].device.type != "cpu":
        return None
    library = load_library("compact_slots")
    if library is None:
        return None
    keys, values = flat
    run = library.compact_slots
    run.argtypes = [*[ctypes.c_int64] * 7, ctypes.c_int32, *[ctypes.c_void_p] * 6]
    run.restype = None

    def move(positions: Tensor, order: Tensor, kept: Tensor, rows: Tensor) -> None:
        order, kept = order.contiguous(), kept.contiguous()
        pointers = (x.data_ptr() for x in (keys, values, positions, order, kept, rows))
        slot_bytes = keys.shape[-1] * keys.element_size()
        run(*keys.shape[:-1], slot_bytes, len(rows), order.shape[1], torch.get_num_threads(), *pointers)

    return move
