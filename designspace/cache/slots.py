"""The slot cache: keys, values and positions of all layers in fixed slots.

Invariants, kept by construction and checked by tests: the filled slots of a (layer, row, head) are 0 … count-1 in position
order; a free slot has position -1 and takes no part in attention; a slot's content is touched only by writes and events.

What a row *holds* are the tokens in its filled slots.

Shapes: L layers, B rows, E rows of one event, H_kv KV heads, C slots, D head dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from designspace.axes import (
    Artefact,
    Contents,
    Gate,
    Geometry,
    Needs,
    Observed,
    Representation,
    RunContext,
    SlotState,
    StoreSpec,
    View,
)
from designspace.axes.slot_store import take_rows, take_slots
from designspace.cache.observers import Observers, updated
from designspace.cache.packing import CompressionResult, Prompt
from designspace.errors import InvariantViolation
from designspace.kernels.compact_slots import in_place_move
from designspace.kernels.decode_attention import FusedAttention, fused_attention


@dataclass(frozen=True)
class RowSnapshot:
    """Everything that belongs to one row, to put it back later."""

    store: Mapping[str, Tensor]
    observed: Observed
    tensors: Mapping[str, Tensor]
    next_position: Tensor
    pinned: Tensor


class SlotCache:
    """`rows` x `capacity` slots per layer and KV head, their positions, and the observers' state.

    Where layers share caches, `geometry` counts the caches, and `cache_of[layer]` is the one that a layer reads.
    """

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
        owners: tuple[int, ...] | None = None,
        artefacts: Mapping[str, Artefact] | None = None,
        weighted: bool = False,
    ) -> None:
        """Allocate everything once; `width` bounds positions (prompt plus generated tokens).

        weighted: whether a selector draws slots, and weighs those that it keeps.
        """
        self.owners = owners if owners is not None else tuple(range(geometry.n_layers))
        self.geometry = geometry = geometry if owners is None else geometry.owning(owners)
        owning = [layer for layer, owner in enumerate(self.owners) if layer == owner]
        self.cache_of = tuple(owning.index(owner) for owner in self.owners)
        self.rows, self.capacity, self.width = rows, capacity, width
        self._store_needs, self.artefacts = representation.needs(), artefacts or {}
        self.store = representation.allocate(StoreSpec(geometry, rows, capacity, dtype, device, self.artefacts))
        shape = (geometry.n_layers, rows, geometry.n_kv_heads)
        self.positions = torch.full((*shape, capacity), -1, dtype=torch.int32, device=device)
        self.counts = torch.zeros(shape, dtype=torch.int32, device=device)
        self.mass = (
            torch.ones(*shape, capacity, dtype=torch.float32 if weighted else torch.int32, device=device)
            if weighted or representation.carries_mass
            else None
        )
        size = representation.memory_size
        self.memory = torch.zeros(*shape, size, device=device) if size else None
        self.pinned = torch.zeros(rows, width, dtype=torch.bool, device=device)
        self.next_position = torch.zeros(rows, dtype=torch.int64, device=device)
        self.n_prompt_tokens = torch.zeros(rows, dtype=torch.int64, device=device)
        self.streams = torch.zeros(rows, dtype=torch.int64, device=device)
        self.active = torch.zeros(rows, dtype=torch.bool, device=device)
        self.observers = Observers(needs, geometry, rows, capacity, dtype, device)
        self.fused = self._fused_attention()
        self.move_in_place = in_place_move(self.store.flat())

    def _fused_attention(self) -> FusedAttention | None:
        """Return the kernel that appends and attends in place, None where it does not apply or cannot be built."""
        return fused_attention(
            self.store.flat(), self.positions, self.counts, self.next_position, self.active, self.geometry.group
        )

    def owns(self, layer: int) -> bool:
        """Return whether a layer of the model has a cache of its own."""
        return self.owners[layer] == layer

    def check_room(self, n_steps: int) -> None:
        """Check that so many tokens fit into every head of every row, and make room for as many sentences as they may end.

        Raises:
            InvariantViolation: a row is full: its cadence did not fire in time.
        """
        fullest = int(self.counts.amax())
        if fullest + n_steps > self.capacity:
            raise InvariantViolation(
                f"a row holds {fullest} tokens in one head, so {n_steps} more do not fit into {self.capacity} slots"
            )
        if self.observers.sentences is not None:
            self.observers.sentences.make_room(n_steps)

    def begin_step(self) -> None:
        """Open a step for the tokens at `next_position`."""
        self.observers.advance(self.next_position)

    def append(self, index: int, keys: Tensor, values: Tensor) -> None:
        """Write one token per row into one cache, keys and values [B,H_kv,D]."""
        slot = self.counts[index].long()
        position = torch.where(self.active, self.next_position, -1).to(torch.int32)
        at = slot[..., None]
        self.positions[index].scatter_(2, at, position[:, None, None].expand(*slot.shape, 1))
        self.begin_mass(index)
        self.store.write(index, slot, keys, values, self._slot_state(index))
        self.counts[index] += self.active[:, None]

    def begin_mass(self, index: int) -> None:
        """Note that the token about to be appended stands for itself alone."""
        if self.mass is not None:
            self.mass[index].scatter_(2, self.counts[index].long()[..., None], 1)

    def record_gate(self, index: int, gate: Gate, opened: Tensor) -> None:
        """Note what a gate says, [B,H_kv], of the tokens that one cache was given in this step, or of those before them."""
        newest = (self.counts[index].long() - 1).clamp(min=0)
        arrived = self.active[:, None].expand_as(newest)
        if gate.of_previous:
            before = (newest - 1).clamp(min=0)
            position = self.positions[index].gather(2, before[..., None])[..., 0]
            held = arrived & (newest > 0) & (position == self.next_position[:, None] - 1)  # it may have been evicted
            self.observers.record_gate(index, gate, torch.full_like(opened, torch.inf), newest, arrived)
            self.observers.record_gate(index, gate, opened, before, held)
        else:
            self.observers.record_gate(index, gate, opened, newest, arrived)

    def record_sentences(self, hidden: Tensor, ended: Tensor) -> None:
        """Note the hidden states [B,hidden] of the tokens of this step, and which of them end a sentence, [B] bool."""
        if self.observers.sentences is not None:
            self.observers.sentences.record(hidden, ended, self.next_position, self.active)

    def read(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys, values [B,H_kv,C,D] and positions [B,H_kv,C] of one cache."""
        return (*self.store.read(index, self._slot_state(index)), self.positions[index])

    def visible(self, index: int, query: Tensor) -> Tensor | None:
        """Return which slots of one cache [B,H_kv,G,C] the queries [B,H_q,D] attend to; None: all filled ones."""
        return self.store.visible(index, query, self._slot_state(index))

    def log_mass(self, index: int) -> Tensor | None:
        """Return what attention adds to the logits of one cache's slots [B,H_kv,C]; None: nothing."""
        return None if self.mass is None else self.mass[index].float().log()

    def end_step(self) -> None:
        """Close the step: the next token of active rows comes one position later."""
        self.next_position += self.active

    def load(self, row: int, prompt: Prompt, kept: CompressionResult, stream: int) -> None:
        """Load a prompt into a free row: all of it, or what its event kept."""
        rows = torch.tensor([row], device=self.positions.device)
        self.pinned[row] = False
        self.n_prompt_tokens[row] = prompt.n_tokens
        self.reload(row, prompt, kept)
        self.streams[row], self.active[row] = stream, True
        if self.memory is not None and kept.memory is None:
            self.memory[:, rows] = 0.0

    def reload(self, row: int, text: Prompt, kept: CompressionResult) -> None:
        """Replace a row's content by a freshly encoded text; pins and the prompt's length stay."""
        rows = torch.tensor([row], device=self.positions.device)
        order, filled = kept.fitted(self.capacity)
        observed = self.observers.packed(updated(text.observed, kept.tracked), order, filled)
        observed = self.observers.after_compaction(observed)
        contents = kept.contents.over(Contents(text.keys, text.values))
        self._move(rows, text.positions, contents, kept, order, filled, observed)
        self.observers.load(rows, observed)
        self.next_position[row] = text.n_tokens

    def packed(self, text: Prompt, kept: CompressionResult, *, is_cut: bool) -> Prompt:
        """Return what is left of a text that is not loaded yet, in as many slots as its fullest head fills.

        is_cut: whether an event says so, and not only that free slots go to the end.
        """
        order, filled = kept.fitted(int(kept.counts.amax()))
        observed = self.observers.packed(updated(text.observed, kept.tracked), order, filled)
        return Prompt(
            take_slots(text.keys, order),
            take_slots(text.values, order),
            text.positions.gather(-1, order).masked_fill(~filled, -1),
            self.observers.after_compaction(observed) if is_cut else observed,
            text.n_tokens,
            text.is_whole and not is_cut,
        )

    def compact(self, rows: Tensor, n_rows: int, view: View, kept: CompressionResult) -> None:
        """Apply an event to rows [E], of which all after the first `n_rows` are padding; `view`: what it decided on."""
        order, filled = kept.fitted(self.capacity)
        observed = self.observers.compact(rows, order, filled, kept.tracked, view.observed)
        if self.move_in_place is None or kept.merged:
            contents = kept.contents.over(view.contents)
            contents = contents.over(self._lying(rows, contents.missing))
            self._move(rows, view.positions, contents, kept, order, filled, observed)
        else:  # nothing was merged: the kept slots stay what they are
            self.move_in_place(self.positions, order, kept.counts, rows[:n_rows])
            self._write_bookkeeping(rows, kept, order, filled)

    def retire(self, row: int) -> None:
        """Free a row: no slot, no position, no trace of the sample is left."""
        self.positions[:, row] = -1
        self.counts[:, row] = 0
        self.active[row] = False
        self.pinned[row] = False
        self.next_position[row] = self.n_prompt_tokens[row] = 0

    def view(self, rows: Tensor, context: RunContext, target: Tensor) -> View:
        """Return the view of an event that cuts rows [E] to `target` [E]."""
        counts, positions = take_rows(self.counts, rows), take_rows(self.positions, rows).long()
        observed, pinned = self.observers.rows(rows), self.pinned[rows]
        if self.move_in_place is None:  # what stays is loaded anew, so all of it is read, once
            held = SlotState(counts, positions, observed.narrowed(self._store_needs))
            contents = Contents(*self.store.read_rows(rows, held))
        else:
            contents = self._lying(rows, self.observers.needs)
        return View(
            context=context,
            contents=contents,
            positions=positions,
            next_position=self.next_position[rows],
            streams=self.streams[rows],
            target=target,
            n_prompt_tokens=self.n_prompt_tokens[rows],
            observed=observed,
            pinned=pinned if bool(pinned.any()) else None,
            mass=None if self.mass is None else self._as_seen(take_rows(self.mass, rows)),
            memory=None if self.memory is None else take_rows(self.memory, rows),
        )

    def text_view(
        self, row: int, text: Prompt, context: RunContext, *, target: int, stream: int, n_prompt_tokens: int
    ) -> View:
        """Return the view of an event that cuts an encoded text to `target` before it is loaded into a row."""
        device = text.positions.device
        return View(
            context=context,
            contents=Contents(text.keys, text.values),
            positions=text.positions,
            next_position=torch.tensor([text.n_tokens], device=device),
            streams=torch.tensor([stream], device=device),
            target=torch.tensor([target], device=device),
            n_prompt_tokens=torch.tensor([n_prompt_tokens], device=device),
            observed=text.observed,
            pinned=self.pinned[row : row + 1],
            mass=None if self.mass is None else self._as_seen(torch.ones_like(text.positions)),
            memory=None if self.memory is None else torch.zeros_like(self.memory[:, :1]),
        )

    def _lying(self, rows: Tensor, needs: Needs) -> Contents:
        """Return what `needs` declares of the contents of rows [E], where they lie as attention reads them."""
        keys, values = self.store.flat() or (None, None)
        return Contents(
            take_rows(keys, rows) if needs.keys and keys is not None else None,
            take_rows(values, rows) if needs.values and values is not None else None,
        )

    def _as_seen(self, mass: Tensor) -> Tensor:
        """Return masses in the number type of views: int64, or float32 where draws weigh them."""
        whole = self.mass is None or not self.mass.is_floating_point()
        return mass.long() if whole else mass.float()

    @property
    def bytes_follow_counts(self) -> bool:
        """Whether all bytes of a step can be told later from the counts of that step alone."""
        return self.store.bytes_follow_counts and self.observers.sentences is None

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: bytes of the keys, values and masses of rows with these counts [L,B,H_kv]."""
        return self.store.held_bytes(counts) + self._mass_bytes(counts)

    def read_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: those of them that one decode step reads."""
        return self.store.read_bytes(counts) + self._mass_bytes(counts)

    def _mass_bytes(self, counts: Tensor) -> Tensor | int:
        return 0 if self.mass is None else counts.long().sum(dim=(0, 2)) * self.mass.element_size()

    def aux_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: bytes of their positions, observations and the representation's memory.

        counts: those of all rows now, unless `bytes_follow_counts`.
        """
        tokens = counts.long().sum(dim=(0, 2))
        total = tokens * self.positions.element_size() + self.observers.held_bytes(counts)
        return total if self.memory is None else total + self.memory[:, 0].nbytes

    def snapshot(self, row: int) -> RowSnapshot:
        """Return a copy of a row."""
        return RowSnapshot(
            self.store.snapshot(row),
            self.observers.snapshot(row),
            {name: value[:, row].clone() for name, value in self._per_slot().items()},
            self.next_position[row].clone(),
            self.pinned[row].clone(),
        )

    def restore(self, row: int, snapshot: RowSnapshot) -> None:
        """Put a row back as it was."""
        self.store.restore(row, snapshot.store)
        self.observers.load(torch.tensor([row], device=self.positions.device), snapshot.observed)
        for name, value in self._per_slot().items():
            value[:, row] = snapshot.tensors[name]
        self.next_position[row], self.pinned[row] = snapshot.next_position, snapshot.pinned

    def _per_slot(self) -> dict[str, Tensor]:
        named = {"positions": self.positions, "counts": self.counts, "mass": self.mass, "memory": self.memory}
        return {name: value for name, value in named.items() if value is not None}

    def _slot_state(self, index: int) -> SlotState:
        observed = self.observers.layer(index, self._store_needs)
        return SlotState(self.counts[index], self.positions[index], observed)

    def _move(
        self,
        rows: Tensor,
        positions: Tensor,
        contents: Contents,
        kept: CompressionResult,
        order: Tensor,
        filled: Tensor,
        observed: Observed,
    ) -> None:
        """Replace rows [E] by the kept tokens in packing order; positions: [L,E,H_kv,C'] before it.

        contents: of all those slots after it, in the order before packing.
        """
        if contents.keys is None or contents.values is None:
            raise InvariantViolation("slots cannot be loaded without both keys and values")
        packed = positions.gather(-1, order).masked_fill(~filled, -1)
        state = SlotState(kept.counts, packed, observed.narrowed(self._store_needs))
        self.store.load(rows, take_slots(contents.keys, order), take_slots(contents.values, order), state)
        self.positions[:, rows] = packed.to(torch.int32)
        self._write_bookkeeping(rows, kept, order, filled)

    def _write_bookkeeping(self, rows: Tensor, kept: CompressionResult, order: Tensor, filled: Tensor) -> None:
        """Write counts, masses and memory as an event left them."""
        self.counts[:, rows] = kept.counts.to(torch.int32)
        if self.mass is not None:
            mass = torch.ones_like(order) if kept.mass is None else kept.mass.gather(-1, order)
            self.mass[:, rows] = mass.masked_fill(~filled, 1).to(self.mass.dtype)
        if self.memory is not None and kept.memory is not None:
            self.memory[:, rows] = kept.memory
