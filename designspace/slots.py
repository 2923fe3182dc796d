"""The slot cache: keys, values and positions of all layers in fixed slots.

Invariants, kept by construction and checked by tests: the filled slots of a (layer, row, head) are 0 … count-1 in position
order; a free slot has position -1 and takes no part in attention; a slot's content is touched only by writes and events.

Shapes: L layers, B rows, E rows of one event, H_kv KV heads, C slots, D head dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from designspace.axes import Needs, Representation
from designspace.compress import Kept
from designspace.errors import InvariantViolation
from designspace.geometry import Geometry
from designspace.models.calibration import QueryStatistics
from designspace.observers import Observers
from designspace.view import Observed, View


class Protection(NamedTuple):
    """How many first and newest tokens are always kept."""

    sinks: int
    recent: int


class Prompt(NamedTuple):
    """One row's prompt after its forward pass: keys, values [L,1,H_kv,P,D], positions [L,1,H_kv,P], what was observed."""

    keys: Tensor
    values: Tensor
    positions: Tensor
    observed: Observed
    n_tokens: int


class SlotCache:
    """`rows` x `capacity` slots per layer and KV head, their positions, and the observers' state."""

    def __init__(
        self,
        geometry: Geometry,
        representation: Representation,
        needs: Needs,
        *,
        rows: int,
        capacity: int,
        dtype: torch.dtype,
        device: torch.device,
        width: int,
    ) -> None:
        """Allocate everything once; `width` bounds positions (prompt plus generated tokens)."""
        self.geometry, self.rows, self.capacity, self.width = geometry, rows, capacity, width
        self.store = representation.allocate(geometry, rows, capacity, dtype, device)
        shape = (geometry.n_layers, rows, geometry.n_kv_heads)
        self.positions = torch.full((*shape, capacity), -1, dtype=torch.int32, device=device)
        self.counts = torch.zeros(shape, dtype=torch.int32, device=device)
        self.next_position = torch.zeros(rows, dtype=torch.int64, device=device)
        self.streams = torch.zeros(rows, dtype=torch.int64, device=device)
        self.active = torch.zeros(rows, dtype=torch.bool, device=device)
        self.observers = Observers(needs, geometry, rows, capacity, dtype, device)

    def begin_step(self) -> None:
        """Check that every active row has a free slot in every head, and open the step.

        Raises:
            InvariantViolation: a row is full: its cadence did not fire in time.
        """
        fullest = int(self.counts.amax())
        if fullest >= self.capacity:
            raise InvariantViolation(f"a row holds {fullest} tokens in one head, so no slot of {self.capacity} is free")
        self.observers.advance(self.next_position)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Write one token per row, keys and values [B,H_kv,D], and return the layer's keys, values and positions."""
        slot = self.counts[layer].long()
        self.store.write(layer, slot, keys, values)
        position = torch.where(self.active, self.next_position, -1).to(torch.int32)
        self.positions[layer].scatter_(2, slot[..., None], position[:, None, None].expand(*slot.shape, 1))
        self.counts[layer] += self.active[:, None]
        return (*self.store.read(layer, self.counts[layer]), self.positions[layer])

    def end_step(self) -> None:
        """Close the step: the next token of active rows comes one position later."""
        self.next_position += self.active

    def load(self, row: int, prompt: Prompt, kept: Kept, stream: int) -> None:
        """Fold a prompt into a row's slots, keeping what the prompt's event (or the identity) says."""
        rows = torch.tensor([row], device=self.positions.device)
        order, filled = self._fit(kept)
        self._move(rows, prompt.keys, prompt.values, prompt.positions, order, filled, kept.counts)
        self.observers.load(rows, self.observers.packed(prompt.observed, order, filled))
        self.next_position[row], self.streams[row], self.active[row] = prompt.n_tokens, stream, True

    def compact(self, rows: Tensor, view: View, kept: Kept) -> None:
        """Apply an event to rows [E], whose `view` it decided on."""
        order, filled = self._fit(kept)
        self._move(rows, view.keys, view.values, view.positions, order, filled, kept.counts)
        self.observers.compact(rows, order, filled)

    def retire(self, row: int) -> None:
        """Free a row: no slot, no position, no trace of the sample is left."""
        self.positions[:, row] = -1
        self.counts[:, row] = 0
        self.active[row] = False
        self.next_position[row] = 0

    def view(
        self, rows: Tensor, protection: Protection, calibration: QueryStatistics | None, *, comparable: bool
    ) -> View:
        """Return what an event may look at for rows [E]."""
        keys, values = self.store.read_rows(rows, self.counts[:, rows])
        return View(
            geometry=self.geometry,
            keys=keys,
            values=values,
            positions=self.positions[:, rows].long(),
            next_position=self.next_position[rows],
            streams=self.streams[rows],
            width=self.width,
            observed=self.observers.rows(rows),
            calibration=calibration,
            sinks=protection.sinks,
            recent=protection.recent,
            comparable_scores=comparable,
        )

    def _fit(self, kept: Kept) -> tuple[Tensor, Tensor]:
        """Cut or pad the packing order to this cache's capacity; return it with the mask of filled slots."""
        if int(kept.counts.amax()) > self.capacity:
            raise InvariantViolation(
                f"an event kept {int(kept.counts.amax())} tokens in one head of {self.capacity} slots"
            )
        missing = self.capacity - kept.order.shape[-1]
        order = torch.nn.functional.pad(kept.order, (0, missing)) if missing > 0 else kept.order[..., : self.capacity]
        filled = torch.arange(self.capacity, device=order.device) < kept.counts[..., None]
        return order, filled

    def _move(
        self,
        rows: Tensor,
        keys: Tensor,
        values: Tensor,
        positions: Tensor,
        order: Tensor,
        filled: Tensor,
        counts: Tensor,
    ) -> None:
        """Replace rows [E] by the packed tokens of keys, values [L,E,H_kv,C',D] and positions [L,E,H_kv,C']."""
        self.store.load(rows, take_slots(keys, order), take_slots(values, order), counts)
        self.positions[:, rows] = positions.gather(-1, order).masked_fill(~filled, -1).to(torch.int32)
        self.counts[:, rows] = counts.to(torch.int32)


def take_slots(x: Tensor, order: Tensor) -> Tensor:
    """Gather whole vectors x [L,E,H_kv,C',D] into `order` [L,E,H_kv,C]; beyond the filled slots anything finite stands."""
    n_slots, dim = x.shape[-2:]
    heads = torch.arange(order[..., 0].numel(), device=order.device).view(*order.shape[:-1], 1)
    return x.reshape(-1, dim).index_select(0, (heads * n_slots + order).flatten()).view(*order.shape, dim)
