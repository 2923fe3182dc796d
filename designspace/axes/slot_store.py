"""What a representation must provide: the payload of the slots.

The store owns keys and values (or their codes). `SlotCache` owns positions and counts and says where things go: the filled
slots of a (layer, row, head) are 0 … count-1, in position order.

Shapes: L layers, B rows, E rows of one event, H_kv KV heads, C slots, D head dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from designspace.axes.artefact import Artefact
from designspace.axes.geometry import Geometry
from designspace.axes.view import Observed


class StoreSpec(NamedTuple):
    """How much a store must hold, of what model, and where."""

    geometry: Geometry
    rows: int
    capacity: int
    dtype: torch.dtype
    device: torch.device
    artefacts: Mapping[str, Artefact]


class SlotState(NamedTuple):
    """What the cache knows of the slots that a store's call is about, for representations that go by it.

    counts: [B,H_kv], or [L,E,H_kv] where the call is about rows of all layers. positions: the same with C, -1 = free.
    observed: as far as the mechanism declared, with the same leading dimensions.
    """

    counts: Tensor
    positions: Tensor
    observed: Observed


def take_rows(x: Tensor, rows: Tensor | slice) -> Tensor:
    """Return rows [E] of x [L,B,...]. On a CPU, indexing by a tensor goes element by element, nine times slower than this."""
    return x[:, rows] if isinstance(rows, slice) else x.index_select(1, rows)


def take_slots(x: Tensor, order: Tensor) -> Tensor:
    """Gather whole vectors x [L,E,H_kv,C',D] into `order` [L,E,H_kv,C]; beyond the filled slots anything finite stands."""
    n_slots, dim = x.shape[-2:]
    heads = torch.arange(order[..., 0].numel(), device=order.device).view(*order.shape[:-1], 1)
    return x.reshape(-1, dim).index_select(0, (heads * n_slots + order).flatten()).view(*order.shape, dim)


class SlotStore(ABC):
    """Keys and values of all layers in fixed slots. Every tensor attribute has the rows in its second dimension.

    bytes_follow_counts: do `held_bytes` and `read_bytes` go by the counts they are given and by nothing that the store holds?
        Then many steps are measured together; otherwise every step is measured when it is over.
    """

    bytes_follow_counts: ClassVar[bool] = False

    @abstractmethod
    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Append one token per (row, head): slot [B,H_kv] int64 is its index, keys and values are [B,H_kv,D].

        `held.positions` has the new token already, `held.observed` knows nothing of it yet.
        """

    @abstractmethod
    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys and values [B,H_kv,C,D] as attention sees them. Free slots hold anything finite."""

    @abstractmethod
    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys and values [L,E,H_kv,C,D] of some rows as attention sees them."""

    @abstractmethod
    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Replace the content of rows [E] by keys and values [L,E,H_kv,C,D], of which `held.counts` are filled."""

    @abstractmethod
    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: the bytes a row's tokens really take in this representation; counts: [L,B,H_kv]."""

    def read_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: the bytes one decode step reads. Everything held, unless the representation reads less."""
        return self.held_bytes(counts)

    @abstractmethod
    def allocated_bytes(self) -> int:
        """Return the bytes this layout reserves, filled or not."""

    def flat(self) -> tuple[Tensor, Tensor] | None:
        """Return keys and values [L,B,H_kv,C,D] where they lie slot by slot just as attention reads them, else None.

        A fused kernel then writes and reads them itself, in place of `write`, `read` and `visible`.
        """
        return None

    @property
    def selects_slots(self) -> bool:
        """Whether queries may attend to some of the filled slots only: true of each store that overrides `visible`."""
        return type(self).visible is not SlotStore.visible

    def visible(self, layer: int, query: Tensor, held: SlotState) -> Tensor | None:
        """Return which slots [B,H_kv,G,C] these queries [B,H_q,D] attend to, or None: to all that are held."""
        return None

    def snapshot(self, row: int) -> dict[str, Tensor]:
        """Return a copy of everything that belongs to a row."""
        return {name: value[:, row].clone() for name, value in vars(self).items() if isinstance(value, Tensor)}

    def restore(self, row: int, snapshot: Mapping[str, Tensor]) -> None:
        """Put a row back as it was."""
        for name, value in snapshot.items():
            getattr(self, name)[:, row] = value
