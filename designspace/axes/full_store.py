"""The plain store: keys and values in the model's own number type, slot by slot as attention reads them."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from designspace.axes.slot_store import SlotState, SlotStore, StoreSpec, take_rows


class FullStore(SlotStore):
    """Keys and values [L,B,H_kv,C,D] in the model's number type."""

    bytes_follow_counts: ClassVar[bool] = True

    def __init__(self, room: StoreSpec) -> None:
        geometry = room.geometry
        shape = (geometry.n_layers, room.rows, geometry.n_kv_heads, room.capacity, geometry.head_dim)
        self.keys = torch.zeros(shape, dtype=room.dtype, device=room.device)
        self.values = torch.zeros(shape, dtype=room.dtype, device=room.device)

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Put one token per (row, head) into its slot; keys, values: [B,H_kv,D]."""
        index = slot[:, :, None, None].expand(-1, -1, 1, keys.shape[-1])
        self.keys[layer].scatter_(2, index, keys[:, :, None])
        self.values[layer].scatter_(2, index, values[:, :, None])

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return views [B,H_kv,C,D] of one layer, without a copy."""
        return self.keys[layer], self.values[layer]

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return copies of some rows of all layers."""
        return take_rows(self.keys, rows), take_rows(self.values, rows)

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Replace rows [E] by keys and values [L,E,H_kv,C,D]."""
        self.keys[:, rows] = keys
        self.values[:, rows] = values

    def flat(self) -> tuple[Tensor, Tensor] | None:
        """Return both tensors; None for subclasses, which may do more when they write or read."""
        return (self.keys, self.values) if type(self) is FullStore else None

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: 2 D itemsize bytes per token and head."""
        token_bytes = 2 * self.keys.shape[-1] * self.keys.element_size()
        return counts.long().sum(dim=(0, 2)) * token_bytes

    def allocated_bytes(self) -> int:
        """Return the size of both tensors."""
        return self.keys.nbytes + self.values.nbytes
