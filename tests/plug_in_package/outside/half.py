"""The representation `half`: keys and values as 16-bit floats, in a store of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from designspace.axes import Representation, SlotState, SlotStore, StoreSpec


class HalfStore(SlotStore):
    """pair: [2,L,B,H_kv,C,D] float16 would have its rows in the third dimension, so keys and values stand apart."""

    bytes_follow_counts: ClassVar[bool] = True

    def __init__(self, spec: StoreSpec) -> None:
        geometry = spec.geometry
        shape = (geometry.n_layers, spec.rows, geometry.n_kv_heads, spec.capacity, geometry.head_dim)
        self.keys = torch.zeros(shape, dtype=torch.float16, device=spec.device)
        self.values = torch.zeros(shape, dtype=torch.float16, device=spec.device)
        self._dtype = spec.dtype

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Append one token per (row, head)."""
        index = slot[:, :, None, None].expand(-1, -1, 1, keys.shape[-1])
        self.keys[layer].scatter_(2, index, keys[:, :, None].half())
        self.values[layer].scatter_(2, index, values[:, :, None].half())

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys and values in the model's type."""
        return self.keys[layer].to(self._dtype), self.values[layer].to(self._dtype)

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return some rows of all layers in the model's type."""
        return self.keys[:, rows].to(self._dtype), self.values[:, rows].to(self._dtype)

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Replace rows."""
        self.keys[:, rows], self.values[:, rows] = keys.half(), values.half()

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return 4 D bytes per token and head."""
        return counts.long().sum(dim=(0, 2)) * 4 * self.keys.shape[-1]

    def allocated_bytes(self) -> int:
        """Return the size of both tensors."""
        return self.keys.nbytes + self.values.nbytes


@dataclass(frozen=True)
class Half(Representation):
    """Keys and values rounded to float16."""

    kind: ClassVar[str] = "half"

    def allocate(self, spec: StoreSpec) -> SlotStore:
        """Return an empty store."""
        return HalfStore(spec)
