"""What an event shows to scoring, head routing and selectors: the rows being cut, and what was observed of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from designspace.errors import InvariantViolation
from designspace.geometry import Geometry

if TYPE_CHECKING:
    from designspace.models.calibration import QueryStatistics


@dataclass
class Observed:
    """What the observers hold for some rows; None where the mechanism declared no need.

    queries: [L,E,H_q,w,D] post-RoPE, oldest first. query_positions: [E,w] int64, -1 where fewer were seen.
    accumulated: [L,E,H_kv,C] float32. last: [L,E,H_q,C] float32.
    """

    queries: Tensor | None = None
    query_positions: Tensor | None = None
    accumulated: Tensor | None = None
    last: Tensor | None = None


@dataclass
class View:
    """The rows of one event. Everything is to be read, nothing to be written.

    keys, values: [L,E,H_kv,C,D] as attention sees them (post-RoPE, dequantised). positions: [L,E,H_kv,C] int64, -1 = free.
    next_position: [E] int64, the position of the token that comes next. streams: [E] int64, the rows' random keys.
    protected: [L,E,H_kv,C] bool, kept whatever their score. width: positions lie in [0, width).
    """

    geometry: Geometry
    keys: Tensor
    values: Tensor
    positions: Tensor
    next_position: Tensor
    streams: Tensor
    width: int
    observed: Observed
    calibration: QueryStatistics | None = None
    sinks: int = 0
    recent: int = 0
    comparable_scores: bool = False

    def __post_init__(self) -> None:
        """Derive the masks that every strategy uses."""
        self.valid = self.positions >= 0  # [L,E,H,C]
        self.counts = self.valid.sum(dim=-1)  # [L,E,H]
        newest = self.next_position[None, :, None, None] - self.recent
        self.protected = self.valid & ((self.positions < self.sinks) | (self.positions >= newest))
        self.candidates = self.valid & ~self.protected

    @property
    def queries(self) -> Tensor:
        """The newest post-RoPE queries, [L,E,H_q,w,D]."""
        return self._declared(self.observed.queries, "queries")

    @property
    def query_positions(self) -> Tensor:
        """Positions of the newest queries, [E,w] int64, -1 where fewer were seen."""
        return self._declared(self.observed.query_positions, "queries")

    @property
    def accumulated(self) -> Tensor:
        """Attention mass received so far, group mean, [L,E,H_kv,C] float32."""
        return self._declared(self.observed.accumulated, "accumulated")

    @property
    def last(self) -> Tensor:
        """Attention row of the newest query, [L,E,H_q,C] float32."""
        return self._declared(self.observed.last, "last")

    @property
    def statistics(self) -> QueryStatistics:
        """The calibration artefact."""
        if self.calibration is None:
            raise InvariantViolation("a strategy read calibration that it had not declared in needs()")
        return self.calibration

    @property
    def n_protected(self) -> int:
        """The most tokens per head that protection can claim."""
        return self.sinks + self.recent

    @staticmethod
    def _declared(observed: Tensor | None, name: str) -> Tensor:
        if observed is None:
            raise InvariantViolation(f"a strategy read {name} that it had not declared in needs()")
        return observed

    def grouped_queries(self) -> Tensor:
        """Return the newest queries by KV head, [L,E,H_kv,G,w,D]."""
        n_layers, n_rows, _, window, dim = self.queries.shape
        return self.queries.view(n_layers, n_rows, self.geometry.n_kv_heads, self.geometry.group, window, dim)


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over the last dimension of the entries where `mask`; all zeros where nothing is left."""
    filled = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    return torch.softmax(filled, dim=-1).masked_fill(~mask, 0.0)
