"""What the attention function remembers for scoring: only what a mechanism declared, moved along when slots move.

Shapes: L layers, B rows, E rows of one event, H_q query heads, H_kv KV heads, C slots, D head dimension, w window.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from designspace.axes import Needs
from designspace.geometry import Geometry
from designspace.view import Observed


class Observers:
    """Per-row query window, accumulated attention and newest attention row, as far as needed."""

    def __init__(
        self, needs: Needs, geometry: Geometry, rows: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.needs, self.geometry = needs, geometry
        n_layers, n_query, n_kv = geometry.n_layers, geometry.n_query_heads, geometry.n_kv_heads
        window = (n_layers, rows, n_query, needs.queries, geometry.head_dim)
        self.queries = torch.zeros(window, dtype=dtype, device=device) if needs.queries else None
        self.query_positions = torch.full((rows, needs.queries), -1, device=device) if needs.queries else None
        held = torch.zeros(n_layers, rows, n_kv, capacity, device=device)
        self.accumulated = held if needs.accumulated else None
        self.last = torch.zeros(n_layers, rows, n_query, capacity, device=device) if needs.last else None

    @property
    def wants_weights(self) -> bool:
        """Whether attention probabilities must be formed."""
        return self.needs.accumulated or self.needs.last

    def advance(self, positions: Tensor) -> None:
        """Open a new decode step for tokens at `positions` [B]: shift the query window by one."""
        if self.query_positions is not None and self.queries is not None:
            self.query_positions = torch.cat([self.query_positions[:, 1:], positions[:, None]], dim=1)
            self.queries = torch.roll(self.queries, -1, dims=3)

    def record(self, layer: int, query: Tensor, weights: Tensor | None) -> None:
        """Take in one layer of a decode step; query: [B,H_q,1,D], weights: [B,H_q,C] float32 if wanted."""
        if self.queries is not None:
            self.queries[layer, :, :, -1] = query[:, :, 0]
        if weights is None:
            return
        if self.accumulated is not None:
            self.accumulated[layer] += group_mean(weights, self.geometry)
        if self.last is not None:
            self.last[layer] = weights

    def rows(self, rows: Tensor) -> Observed:
        """Return what is held for rows [E]."""
        return Observed(
            None if self.queries is None else self.queries[:, rows],
            None if self.query_positions is None else self.query_positions[rows],
            None if self.accumulated is None else self.accumulated[:, rows],
            None if self.last is None else self.last[:, rows],
        )

    def load(self, rows: Tensor, observed: Observed) -> None:
        """Replace rows [E] by what was observed of their prompts."""
        pairs = (
            (self.queries, observed.queries),
            (self.accumulated, observed.accumulated),
            (self.last, observed.last),
        )
        for held, seen in pairs:
            if held is not None and seen is not None:
                held[:, rows] = seen
        if self.query_positions is not None and observed.query_positions is not None:
            self.query_positions[rows] = observed.query_positions

    def compact(self, rows: Tensor, order: Tensor, filled: Tensor) -> None:
        """Move per-slot state along with the slots of rows [E]; queries belong to no slot and stay."""
        moving = Observed(
            accumulated=None if self.accumulated is None else self.accumulated[:, rows],
            last=None if self.last is None else self.last[:, rows],
        )
        self.load(rows, self.packed(moving, order, filled))

    def packed(self, observed: Observed, order: Tensor, filled: Tensor) -> Observed:
        """Return observations with per-slot numbers in packing order; order, filled: [L,E,H_kv,C]. Free slots forget."""
        group, accumulated, last = self.geometry.group, observed.accumulated, observed.last
        return replace(
            observed,
            accumulated=None if accumulated is None else move_slots(accumulated, order, filled),
            last=None
            if last is None
            else move_slots(last, order.repeat_interleave(group, 2), filled.repeat_interleave(group, 2)),
        )

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: bytes a row's observers hold; counts: [L,B,H_kv]."""
        tokens = counts.long().sum(dim=(0, 2))
        total = torch.zeros_like(tokens)
        if self.queries is not None:
            total += self.queries[:, 0].nbytes
        if self.accumulated is not None:
            total += 4 * tokens
        if self.last is not None:
            total += 4 * tokens * self.geometry.group
        return total


def group_mean(weights: Tensor, geometry: Geometry) -> Tensor:
    """Average [B,H_q,...] over the query heads of each KV head, [B,H_kv,...]."""
    return weights.unflatten(1, (geometry.n_kv_heads, geometry.group)).mean(dim=2)


def move_slots(x: Tensor, order: Tensor, filled: Tensor) -> Tensor:
    """Gather per-slot numbers [L,E,H,C'] into `order` [L,E,H,C] and zero what is not filled."""
    return x.gather(-1, order).masked_fill(~filled, 0.0)
