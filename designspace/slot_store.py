"""What a representation must provide: the payload of the slots.

The store owns keys and values (or their codes). `SlotCache` owns positions and counts and says where things go: the filled
slots of a (layer, row, head) are 0 … count-1, in position order.

Shapes: L layers, B rows, E rows of one event, H_kv KV heads, C slots, D head dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class SlotStore(ABC):
    """Keys and values of all layers in fixed slots."""

    @abstractmethod
    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor) -> None:
        """Append one token per (row, head): slot [B,H_kv] int64 is its index, keys and values are [B,H_kv,D]."""

    @abstractmethod
    def read(self, layer: int, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [B,H_kv,C,D] as attention sees them; counts: [B,H_kv]. Free slots hold anything finite."""

    @abstractmethod
    def read_rows(self, rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [L,E,H_kv,C,D] of some rows as attention sees them; counts: [L,E,H_kv]."""

    @abstractmethod
    def load(self, rows: Tensor, keys: Tensor, values: Tensor, counts: Tensor) -> None:
        """Replace the content of rows [E] by keys and values [L,E,H_kv,C,D], of which counts [L,E,H_kv] are filled."""

    @abstractmethod
    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: the bytes a row's tokens really take in this representation; counts: [L,B,H_kv]."""

    def read_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: the bytes one decode step reads. Everything held, unless the representation reads less."""
        return self.held_bytes(counts)

    @abstractmethod
    def allocated_bytes(self) -> int:
        """Return the bytes this layout reserves, filled or not."""
