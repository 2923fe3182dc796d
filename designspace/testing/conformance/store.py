"""A store driven as the slot cache drives it, and the bytes that its reading really depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from designspace.axes import Contents, Geometry, Needs, Observed, Representation, RunContext, SlotState, StoreSpec, View
from designspace.testing.conformance.cases import ArtefactMaker, artefacts_for, observed_of
from designspace.testing.conformance.recording import NotedMapping, noted_observed
from designspace.testing.conformance.view_changes import of_layer, of_rows

_CAPACITY = 24
_BLOCK = 128
_FLIPS = (0xFF, 0x80, 0x41)  # a low bit of a float may be rounded away, a high one is not


class StoreDriver:
    """A store with the positions, counts and observations that the slot cache would keep for it.

    written: what keys and values each slot was given, [L,B,H_kv,C,D]. reads: what the store read of observations.
    """

    def __init__(
        self,
        representation: Representation,
        geometry: Geometry,
        rows: int,
        dtype: torch.dtype,
        artefacts: ArtefactMaker | None,
        *,
        together: bool = False,
    ) -> None:
        """`together`: all layers and heads of a row hold the same tokens."""
        self.needs, self.geometry, self.rows, self.together = representation.needs(), geometry, rows, together
        self.capacity, self.reads = _CAPACITY, set[Any]()
        made = NotedMapping(artefacts_for(geometry, self.needs, artefacts), self.reads)
        self.store = representation.allocate(StoreSpec(geometry, rows, _CAPACITY, dtype, torch.device("cpu"), made))
        heads = (geometry.n_layers, rows, geometry.n_kv_heads)
        self.positions = torch.full((*heads, _CAPACITY), -1)
        self.counts = torch.zeros(heads, dtype=torch.int32)
        shape = (*heads, _CAPACITY, geometry.head_dim)
        self.written = (torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype))
        self.next_position = torch.zeros(rows, dtype=torch.int64)
        self.n_appended = 0

    @property
    def filled(self) -> Tensor:
        """Which slots hold a token, bool [L,B,H_kv,C]."""
        return self.positions >= 0

    def load(self, rows: Sequence[int], seed: int = 0, *, alike: bool = False) -> None:
        """Put texts into rows, other tokens and other numbers of them in every head; `alike`: the same in every row.

        Content differs from head to head even where the tokens are the same.
        """
        generator = torch.Generator().manual_seed(1000 + seed)
        shape = (self.geometry.n_layers, 1 if alike else self.rows, self.geometry.n_kv_heads)
        counts, rank = torch.randint(7, 15, shape, generator=generator), torch.rand(*shape, 19, generator=generator)
        if self.together:
            counts, rank = counts[:1, :, :1], rank[:1, :, :1]
        counts, rank = counts.expand(self.counts.shape), rank.expand(*self.counts.shape, 19)
        # The newest tokens are always held, as after any event.
        newest = torch.arange(19) >= 17
        chosen = rank.masked_fill(newest, -1.0).argsort(dim=-1)[..., :_CAPACITY]
        chosen = torch.nn.functional.pad(chosen, (0, _CAPACITY - 19), value=99)
        filled = torch.arange(_CAPACITY) < counts[..., None]
        positions = chosen.masked_fill(~filled, 99).sort(dim=-1).values.masked_fill(~filled, -1)
        vectors = (*shape, _CAPACITY, self.geometry.head_dim)
        index = torch.tensor(rows)
        self.positions[:, index], self.counts[:, index] = positions[:, index], counts[:, index].to(torch.int32)
        self.next_position[index] = 19
        for written in self.written:
            drawn = torch.randn(vectors, generator=generator).expand(written.shape)
            # Free slots are full of garbage, as after any event.
            written[:, index] = torch.where(filled[..., None], drawn, 40 * drawn)[:, index].to(written.dtype)
        self._load(index, self.written[0][:, index], self.written[1][:, index])

    def reload(self, rows: Sequence[int]) -> None:
        """Load into rows what is read of them, as an event that keeps everything does."""
        index = torch.tensor(rows)
        self._load(index, *self.read_rows(rows))

    def _load(self, index: Tensor, keys: Tensor, values: Tensor) -> None:
        self.store.load(index, keys.clone(), values.clone(), self._held_rows(index))

    def append(self, seed: int = 0, *, except_rows: Sequence[int] = (), alike: bool = False) -> None:
        """Write one token per row and head; rows in `except_rows` are given other numbers than without it."""
        self.n_appended += 1
        generator = torch.Generator().manual_seed(5000 + 10 * self.n_appended + seed)
        geometry = self.geometry
        shape = (1 if alike else self.rows, geometry.n_kv_heads, geometry.head_dim)
        for layer in range(geometry.n_layers):
            slot = self.counts[layer].long()
            self.positions[layer].scatter_(2, slot[..., None], self.next_position[:, None, None].expand(*slot.shape, 1))
            vectors = []
            for written in self.written:
                drawn = torch.randn(shape, generator=generator).expand(self.rows, *shape[1:]).to(written.dtype).clone()
                drawn[list(except_rows)] = -drawn[list(except_rows)] - 1.0
                written[layer].scatter_(
                    2, slot[..., None, None].expand(*slot.shape, 1, geometry.head_dim), drawn[:, :, None]
                )
                vectors.append(drawn)
            self.store.write(layer, slot, vectors[0], vectors[1], self._held_layer(layer))
            self.counts[layer] += 1
        self.next_position += 1

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return copies of one layer's keys and values [B,H_kv,C,D]."""
        keys, values = self.store.read(layer, self._held_layer(layer))
        return keys.clone(), values.clone()

    def read_rows(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return copies of keys and values [L,E,H_kv,C,D] of some rows."""
        index = torch.tensor(rows)
        keys, values = self.store.read_rows(index, self._held_rows(index))
        return keys.clone(), values.clone()

    def visible(self, layer: int, query: Tensor) -> Tensor | None:
        """Return which slots queries [B,H_q,D] attend to."""
        return self.store.visible(layer, query, self._held_layer(layer))

    def saved_state(self) -> tuple[Tensor, ...]:
        """Return a copy of positions, counts and next positions, which the driver keeps itself."""
        return (self.positions.clone(), self.counts.clone(), self.next_position.clone())

    def restore_state(self, state: tuple[Tensor, ...]) -> None:
        """Put that back."""
        self.positions, self.counts, self.next_position = (x.clone() for x in state)

    def _observed(self) -> Observed:
        if self.needs == Needs():
            return Observed()
        view = View(
            RunContext(self.geometry, 99),
            Contents(*self.written),
            self.positions,
            self.next_position,
            torch.arange(self.rows),
            self.next_position,
            self.next_position,
            Observed(),
        )
        return observed_of(view, self.needs, torch.Generator().manual_seed(self.n_appended))

    def _held_rows(self, index: Tensor) -> SlotState:
        observed = noted_observed(of_rows(self._observed(), index.tolist()), self.reads)
        return SlotState(self.counts[:, index], self.positions[:, index], observed)

    def _held_layer(self, layer: int) -> SlotState:
        observed = noted_observed(of_layer(self._observed(), layer), self.reads)
        return SlotState(self.counts[layer], self.positions[layer], observed)


class HeldBytes:
    """Finds out which bytes of a store matter, by flipping them: row r of one store has the r-th byte flipped.

    All rows hold the same, so one reading tries as many bytes as there are rows.
    """

    def __init__(
        self, representation: Representation, geometry: Geometry, artefacts: ArtefactMaker | None, *, together: bool
    ) -> None:
        self.rows = 256
        self.driver = StoreDriver(representation, geometry, self.rows, torch.float32, artefacts, together=together)
        self.driver.load(range(self.rows), alike=True)
        for _ in range(4):
            self.driver.append(alike=True)
        shape = (1, geometry.n_query_heads, geometry.head_dim)
        self.query = torch.randn(shape, generator=torch.Generator().manual_seed(3)).expand(self.rows, -1, -1)
        self.baseline = self._read()

    def said(self) -> int:
        """Return what the store says that a row holds."""
        return int(self.driver.store.held_bytes(self.driver.counts)[0])

    def measured(self) -> int:
        """Return how many bytes of a row's tensors change what is read of its filled slots."""
        tensors = [x for x in vars(self.driver.store).values() if isinstance(x, Tensor)]
        return sum(self._count(x) for x in tensors if x.numel() and x.shape[1:2] == (self.rows,))

    def _count(self, x: Tensor) -> int:
        raw = x.view(torch.uint8).view(x.shape[0], self.rows, -1)  # [L,B,bytes of a row]
        n_bytes = raw.shape[2]
        starts = torch.cartesian_prod(torch.arange(raw.shape[0]), torch.arange(0, n_bytes, _BLOCK))
        used = starts[self._matters(raw, starts, _FLIPS[0], _BLOCK)]
        left = (used[:, None] + torch.stack([torch.zeros(_BLOCK), torch.arange(_BLOCK)], dim=1).long()).flatten(0, 1)
        left = left[left[:, 1] < n_bytes]
        n_left = len(left)
        for flip in _FLIPS:
            left = left[~self._matters(raw, left, flip, 1)]
        return n_left - len(left)

    def _matters(self, raw: Tensor, places: Tensor, flip: int, width: int) -> Tensor:
        """Return for each place (layer, byte) whether flipping `width` bytes from there on changes what is read."""
        matters = [torch.zeros(0, dtype=torch.bool)]
        for chunk in places.split(self.rows):
            layer, first, row = chunk[:, :1], chunk[:, 1:], torch.arange(len(chunk))[:, None]
            # Past the end the last byte stands several times: it is written once.
            at = (layer, row, (first + torch.arange(width)).clamp(max=raw.shape[2] - 1))
            before = raw[at]
            raw[at] = before ^ flip
            matters.append((self._read() != self.baseline).any(dim=1)[: len(chunk)])
            raw[at] = before
        return torch.cat(matters)

    def _read(self) -> Tensor:
        """Return the bits that reading gives, filled slots alone, one line per row."""
        driver = self.driver
        lines = []
        for x in driver.read_rows(range(self.rows)):
            bits = x.contiguous().view(torch.int32).masked_fill(~driver.filled[..., None], 0)
            lines.append(bits.transpose(0, 1).reshape(self.rows, -1))
        for layer in range(driver.geometry.n_layers):
            visible = driver.visible(layer, self.query)
            if visible is not None:
                filled = driver.filled[layer][:, :, None]
                lines.append((visible & filled).int().reshape(self.rows, -1))
        return torch.cat(lines, dim=1)
