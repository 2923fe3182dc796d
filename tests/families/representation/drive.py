"""A store in the hands of a plain cache: what the slot cache does to it, one head at a time."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from designspace.axes import Artefact, Geometry, Observed, Representation, SlotState, StoreSpec


def geometry_of(layers: int = 2, heads: int = 2, dim: int = 16, group: int = 2) -> Geometry:
    """Return a model's numbers."""
    inv_freq = 10000.0 ** (-torch.arange(0, dim, 2) / dim)
    return Geometry(layers, heads * group, heads, dim, inv_freq)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Return normally distributed numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Driver:
    """A store, and what a cache knows of its slots. `observed` is what the store is told of observations."""

    def __init__(
        self,
        representation: Representation,
        geometry: Geometry,
        *,
        rows: int = 1,
        capacity: int = 24,
        artefacts: Mapping[str, Artefact] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.geometry, self.observed = geometry, Observed()
        self.store = representation.allocate(
            StoreSpec(geometry, rows, capacity, dtype, torch.device("cpu"), artefacts or {})
        )
        shape = (geometry.n_layers, rows, geometry.n_kv_heads, capacity)
        self.positions, self.counts = torch.full(shape, -1), torch.zeros(shape[:3], dtype=torch.long)

    @property
    def rows(self) -> Tensor:
        """All rows."""
        return torch.arange(self.positions.shape[1])

    def load(self, keys: Tensor, values: Tensor, positions: Tensor | None = None) -> None:
        """Load keys and values [L,B,H,N,D] into all rows, at 0 … N-1 unless positions [L,B,H,N] say otherwise."""
        n, capacity = keys.shape[3], self.positions.shape[3]
        positions = torch.arange(n).expand(keys.shape[:4]) if positions is None else positions
        self.positions = torch.nn.functional.pad(positions, (0, capacity - n), value=-1)
        self.counts = (self.positions >= 0).sum(dim=-1)
        padded = [torch.nn.functional.pad(x, (0, 0, 0, capacity - n), value=3.5) for x in (keys, values)]
        self.store.load(self.rows, padded[0], padded[1], self._held_rows())

    def append(self, keys: Tensor, values: Tensor, position: int) -> None:
        """Write one token to all rows, keys and values [L,B,H,D]."""
        for layer in range(self.geometry.n_layers):
            slot = self.counts[layer].clone()
            self.positions[layer].scatter_(2, slot[..., None], position)
            self.store.write(layer, slot, keys[layer], values[layer], self._held(layer))
            self.counts[layer] += 1

    def append_all(self, keys: Tensor, values: Tensor) -> None:
        """Write keys and values [L,B,H,N,D] token by token."""
        for position in range(keys.shape[3]):
            self.append(keys[:, :, :, position], values[:, :, :, position], position)

    def keep(self, keep: Tensor) -> None:
        """Cut every head to the slots where keep [L,B,H,C], as an event does: from what is read."""
        keys, values = self.read()
        order = torch.argsort((~keep).to(torch.uint8), dim=-1, stable=True)
        self.counts = keep.sum(dim=-1)
        filled = torch.arange(keep.shape[-1]) < self.counts[..., None]
        self.positions = self.positions.gather(-1, order).masked_fill(~filled, -1)
        index = order[..., None].expand_as(keys)
        self.store.load(self.rows, keys.gather(3, index), values.gather(3, index), self._held_rows())

    def read(self) -> tuple[Tensor, Tensor]:
        """Return copies of all keys and values [L,B,H,C,D]; layer by layer they are the same."""
        keys, values = self.store.read_rows(self.rows, self._held_rows())
        for layer in range(self.geometry.n_layers):
            for of_all, of_layer in zip((keys, values), self.store.read(layer, self._held(layer)), strict=True):
                held = self.positions[layer][..., None] >= 0
                assert torch.equal(of_all[layer] * held, of_layer * held)
        return keys.clone(), values.clone()

    def held_bytes(self) -> list[int]:
        """Return what the store says its rows hold."""
        return self.store.held_bytes(self.counts).tolist()

    def _held_rows(self) -> SlotState:
        return SlotState(self.counts, self.positions, self.observed)

    def _held(self, layer: int) -> SlotState:
        seen = self.observed
        return SlotState(
            self.counts[layer],
            self.positions[layer],
            Observed(
                queries=None if seen.queries is None else seen.queries[layer],
                query_positions=seen.query_positions,
                tracked={tracker: state[layer] for tracker, state in seen.tracked.items()},
            ),
        )
