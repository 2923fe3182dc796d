"""The fused decode attention: append the new token to its slot and attend to the filled ones; float32, bfloat16, on CPUs.

It reads only filled slots, once, and the softmax never leaves the cache lines it is computed in; PyTorch's own attention
reads all slots through a mask. Sums are float32 either way. `designspace.cache.attention.DecodePass` is the plain
path that it is compared with.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from designspace.errors import InvariantViolation
from designspace.kernels.build import load_library


class _Shape(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "heads", "group", "slots", "dim")),
        *((f"{what}_{of}", ctypes.c_int64) for what in ("query", "key", "value") for of in ("row", "head")),
        ("window", ctypes.c_int64),
        ("append", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("half", ctypes.c_int32),
        ("scale", ctypes.c_float),
    )


class FusedAttention:
    """Bound to the tensors of one cache, which stay where they are for its whole life."""

    def __init__(
        self,
        keys: Tensor,
        values: Tensor,
        positions: Tensor,
        counts: Tensor,
        next_position: Tensor,
        active: Tensor,
        group: int,
        library: ctypes.CDLL,
    ) -> None:
        """Take keys, values [L,B,H_kv,C,D] float32 or bfloat16, contiguous; positions [L,B,H_kv,C], counts [L,B,H_kv].

        next_position, active: [B]. group: query heads per KV head.
        """
        self._run = library.decode_attention
        self._run.argtypes = [ctypes.POINTER(_Shape), *[ctypes.c_void_p] * 13]
        self._run.restype = None
        _, n_rows, n_heads, self._capacity, head_dim = keys.shape
        self._shape = (n_rows, n_heads, group, self._capacity, head_dim)
        self._dtype, self._threads = keys.dtype, torch.get_num_threads()
        self._scratch = torch.empty(self._threads, group, self._capacity + head_dim)
        for slots in (keys, values):
            library.in_huge_pages(ctypes.c_void_p(slots.data_ptr()), ctypes.c_int64(slots.nbytes))
        self._per_row = (next_position, active)
        per_layer = (keys, values, positions, counts)
        self._layers = [tuple(x[layer].data_ptr() for x in per_layer) for layer in range(len(keys))]

    def __call__(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
        window: int | None,
        *,
        log_mass: Tensor | None,
        append: bool,
        wants_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return output [B,1,H_q,D] in the query's type and, if wanted, attention weights [B,H_q,C] float32.

        query: [B,H_q,1,D]; key, value: [B,H_kv,1,D], written to the next free slot where `append`. layer: of the cache.
        log_mass: [B,H_kv,C] float32, added to the logits of the slots; None: nothing.
        """
        given = query.dtype
        self._check(query, key, value)
        query, key, value = query.float(), key.to(self._dtype), value.to(self._dtype)
        query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
        out = torch.empty(query.shape[0], 1, query.shape[1], query.shape[3])
        weights = torch.empty(*query.shape[:2], self._capacity) if wants_weights else None
        shape = _Shape(
            *self._shape,
            *query.stride()[:2],
            *key.stride()[:2],
            *value.stride()[:2],
            window or 0,
            append,
            self._threads,
            self._dtype == torch.bfloat16,
            scaling,
        )
        self._run(
            ctypes.byref(shape),
            query.data_ptr(),
            key.data_ptr(),
            value.data_ptr(),
            *self._layers[layer],
            *(x.data_ptr() for x in self._per_row),
            None if log_mass is None else log_mass.data_ptr(),
            None if weights is None else weights.data_ptr(),
            self._scratch.data_ptr(),
            out.data_ptr(),
        )
        return out.to(given), weights

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Refuse other shapes than those it is bound to: C would read and write where they point."""
        n_rows, n_heads, group, _, head_dim = self._shape
        if tuple(query.shape) != (n_rows, n_heads * group, 1, head_dim) or not (
            tuple(key.shape) == tuple(value.shape) == (n_rows, n_heads, 1, head_dim)
        ):
            raise InvariantViolation(
                f"the kernel is bound to {n_rows} rows of {n_heads * group} and {n_heads} heads of {head_dim}, got queries "
                f"{tuple(query.shape)}, keys {tuple(key.shape)}, values {tuple(value.shape)}"
            )


def fused_attention(
    flat: tuple[Tensor, Tensor] | None,
    positions: Tensor,
    counts: Tensor,
    next_position: Tensor,
    active: Tensor,
    group: int,
) -> FusedAttention | None:
    """Return the kernel for a cache's tensors, None where it does not apply or cannot be built.

    flat: keys and values as attention reads them, None where the cache keeps them otherwise.
    """
    if flat is None or flat[0].dtype not in (torch.float32, torch.bfloat16) or flat[0].device.type != "cpu":
        return None
    library = load_library("decode_attention")
    return None if library is None else FusedAttention(*flat, positions, counts, next_position, active, group, library)
