"""What is observed of queries and attention for scoring: only what a mechanism declared, moved along when slots move.

Shapes: L layers, B rows, E rows of one event, H_q query heads, H_kv KV heads, C slots, D head dimension, w window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from designspace.axes import Gate, Geometry, Needs, Observed, Tracker
from designspace.axes.slot_store import take_rows
from designspace.cache.sentence_log import SentenceLog

Rows = Tensor | slice


class Observers:
    """Per-row query window, attention statistics of the slots and layer statistics of the prompt, as far as needed."""

    def __init__(
        self, needs: Needs, geometry: Geometry, rows: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.needs, self.geometry = needs, geometry
        n_layers, n_query, n_kv = geometry.n_layers, geometry.n_query_heads, geometry.n_kv_heads
        window = (n_layers, rows, n_query, needs.queries, geometry.head_dim)
        slots = (n_layers, rows, n_kv, capacity)
        # A ring, as shifting would move the whole window at every step; the newest query stands at `newest`.
        self.queries = torch.zeros(window, dtype=dtype, device=device) if needs.queries else None
        self.query_positions = torch.full((rows, needs.queries), -1, device=device) if needs.queries else None
        self.newest = torch.zeros(1 if needs.queries else 0, dtype=torch.int64, device=device)
        self.accumulated = torch.zeros(slots, device=device) if needs.accumulated else None
        self.last = torch.zeros(n_layers, rows, n_query, capacity, device=device) if needs.last else None
        self.tracked = {t: torch.zeros(*slots, t.channels, dtype=t.dtype, device=device) for t in needs.per_slot}
        self.layer_cosine = torch.zeros(n_layers, rows, device=device) if needs.layer_cosine else None
        self.sentences = SentenceLog(rows, device) if needs.sentences else None

    def advance(self, positions: Tensor) -> None:
        """Open a new decode step for tokens at `positions` [B]: the oldest query gives up its place."""
        if self.query_positions is not None:
            # In place: a captured graph knows these tensors by their addresses.
            self.newest.add_(1).remainder_(self.needs.queries)
            self.query_positions.index_copy_(1, self.newest, positions[:, None])

    def record(self, layer: int, query: Tensor, weights: Tensor | None, positions: Tensor, now: Tensor) -> None:
        """Record one layer of a decode step.

        query: [B,H_q,1,D]. weights: [B,H_q,C] float32 if wanted. positions: [L,B,H_kv,C]. now: [B], the queries' positions.
        """
        if self.queries is not None:
            self.queries[layer].index_copy_(2, self.newest, query)
        if weights is None:
            return
        if self.accumulated is not None:
            self.accumulated[layer] += group_mean(weights, self.geometry)
        if self.last is not None:
            self.last[layer] = weights
        for tracker in self.needs.trackers:
            if not tracker.observes:
                continue
            state, free = self.tracked[tracker], (positions[layer] < 0)[..., None]
            state[layer] = tracker.observe(state[layer], weights, positions[layer], now).masked_fill(free, 0)

    def record_gate(self, layer: int, gate: Gate, opened: Tensor, slot: Tensor, arrived: Tensor) -> None:
        """Record what a gate said of one token in each row and head of a layer.

        opened: [B,H_kv]. slot: [B,H_kv], where they are. arrived: [B,H_kv] bool, where there is one.
        """
        state, at = self.tracked[gate][layer], slot[..., None, None]
        new = torch.where(arrived, opened.to(gate.dtype), state.gather(2, at)[..., 0, 0])
        state.scatter_(2, at, new[..., None, None])

    def rows(self, rows: Rows) -> Observed:
        """Return the observations of rows [E] in all layers."""
        return Observed(
            None if self.queries is None else take_rows(self.queries, rows).index_select(3, self._oldest_first()),
            None if self.query_positions is None else self.query_positions[rows].index_select(1, self._oldest_first()),
            None if self.accumulated is None else take_rows(self.accumulated, rows),
            None if self.last is None else take_rows(self.last, rows),
            {tracker: take_rows(state, rows) for tracker, state in self.tracked.items()},
            None if self.layer_cosine is None else take_rows(self.layer_cosine, rows),
            sentence_ends=None if self.sentences is None else self.sentences.ends[rows],
            sentence_sums=None if self.sentences is None else self.sentences.sums[rows],
        )

    def layer(self, layer: int, needs: Needs) -> Observed:
        """Return the observations of all rows in one layer, without the leading dimension, as far as `needs` declares them."""
        queries = self.queries if needs.queries else None
        query_positions = self.query_positions if needs.queries else None
        return Observed(
            None if queries is None else queries[layer].index_select(2, self._oldest_first()),
            None if query_positions is None else query_positions.index_select(1, self._oldest_first()),
            None if self.accumulated is None else self.accumulated[layer],
            None if self.last is None else self.last[layer],
            {tracker: state[layer] for tracker, state in self.tracked.items()},
            None if self.layer_cosine is None else self.layer_cosine[layer],
            sentence_ends=None if self.sentences is None else self.sentences.ends,
            sentence_sums=None if self.sentences is None else self.sentences.sums,
        ).narrowed(needs)

    def _oldest_first(self) -> Tensor:
        """Return the places of the ring from the oldest query to the newest, [w]."""
        return (torch.arange(1, self.needs.queries + 1, device=self.newest.device) + self.newest) % self.needs.queries

    def load(self, rows: Tensor, observed: Observed) -> None:
        """Replace the observations of rows [E]; what `observed` lacks stays as it is."""
        pairs = (
            (self.accumulated, observed.accumulated),
            (self.last, observed.last),
            (self.layer_cosine, observed.layer_cosine),
            *((state, observed.tracked.get(tracker)) for tracker, state in self.tracked.items()),
        )
        for stored, seen in pairs:
            if stored is not None and seen is not None:
                stored[:, rows] = seen
        if self.queries is not None and observed.queries is not None:
            self.queries[:, rows] = observed.queries.index_select(3, self._oldest_first().argsort())
        if self.query_positions is not None and observed.query_positions is not None:
            self.query_positions[rows] = observed.query_positions.index_select(1, self._oldest_first().argsort())
        if self.sentences is not None and observed.sentence_ends is not None and observed.sentence_sums is not None:
            self.sentences.load(rows, observed.sentence_ends, observed.sentence_sums)

    def compact(
        self,
        rows: Tensor,
        order: Tensor,
        filled: Tensor,
        tracked: Mapping[Tracker, Tensor] = MappingProxyType({}),
        before: Observed | None = None,
    ) -> Observed:
        """Move per-slot state along with the slots of rows [E] and return it; what belongs to no slot stays.

        tracked: the states that the event updated, before the move. before: what `rows` says of them now, if it is at hand.
        """
        before = self.rows(rows) if before is None else before
        moved = self.after_compaction(self.packed(updated(before, tracked), order, filled))
        self.load(rows, replace(moved, queries=None, query_positions=None, sentence_ends=None, sentence_sums=None))
        return moved

    def after_compaction(self, observed: Observed) -> Observed:
        """Return packed observations after the trackers have been told that their rows were cut."""
        tracked = dict(observed.tracked)
        tracked.update(
            {tracker: tracker.on_compressed(tracked[tracker]) for tracker in self.needs.trackers if tracker in tracked}
        )
        return replace(observed, tracked=tracked)

    def packed(self, observed: Observed, order: Tensor, filled: Tensor) -> Observed:
        """Return observations with per-slot numbers in packing order; order, filled: [L,E,H_kv,C]. Free slots forget."""
        group, accumulated, last = self.geometry.group, observed.accumulated, observed.last
        return replace(
            observed,
            accumulated=None if accumulated is None else move_slots(accumulated, order, filled),
            last=None
            if last is None
            else move_slots(last, order.repeat_interleave(group, 2), filled.repeat_interleave(group, 2)),
            tracked={tracker: move_slots(state, order, filled) for tracker, state in observed.tracked.items()},
        )

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: bytes of the observations of rows with these counts [L,B,H_kv]."""
        tokens = counts.long().sum(dim=(0, 2))
        total = torch.zeros_like(tokens)
        for per_row in (self.queries, self.layer_cosine):
            if per_row is not None:
                total += per_row[:, 0].nbytes
        if self.sentences is not None:
            total += self.sentences.held_bytes()
        if self.accumulated is not None:
            total += 4 * tokens
        if self.last is not None:
            total += 4 * tokens * self.geometry.group
        for state in self.tracked.values():
            total += tokens * state.shape[-1] * state.element_size()
        return total

    def snapshot(self, row: int) -> Observed:
        """Return a copy of a row's observations."""
        return self.rows(torch.tensor([row], device=self.newest.device))


def updated(observed: Observed, tracked: Mapping[Tracker, Tensor]) -> Observed:
    """Return observations with some trackers' states replaced."""
    changed: dict[Tracker | Gate, Tensor] = dict(tracked.items())
    return replace(observed, tracked={**observed.tracked, **changed})


def group_mean(weights: Tensor, geometry: Geometry) -> Tensor:
    """Average [B,H_q,...] over the query heads of each KV head, [B,H_kv,...]."""
    return weights.unflatten(1, (geometry.n_kv_heads, geometry.group)).mean(dim=2)


def move_slots(x: Tensor, order: Tensor, filled: Tensor) -> Tensor:
    """Gather per-slot numbers [L,E,H,C'] or [L,E,H,C',n] into `order` [L,E,H,C] and zero what is not filled."""
    if x.dim() == order.dim():
        return x.gather(-1, order).masked_fill(~filled, 0)
    index = order[..., None].expand(*order.shape, x.shape[-1])
    return x.gather(-2, index).masked_fill(~filled[..., None], 0)
