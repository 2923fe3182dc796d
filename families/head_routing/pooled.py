"""Pooled: the tokens of all layers and heads compete for one budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from designspace.axes import Geometry, HeadRouting, Schedule, View
from designspace.axes.ranking import rank_descending
from designspace.axes.strategy import Composition


@dataclass(frozen=True)
class Pooled(HeadRouting):
    """Let the tokens of all layers and heads compete by their scores, as they are [kim2026fastkvzip].

    Beside its protected tokens a head keeps those that are among the L H_kv b' best candidates of the row, where b' is the
    target without the protected tokens. So scores of different layers must be on one scale: this is not checked. There is
    no safeguard, as released. There are no parameters.
    """

    kind: ClassVar[str] = "pooled"
    citation: ClassVar[str | None] = "kim2026fastkvzip"
    follows_scores: ClassVar[bool] = True

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """A single head has nobody to compete with."""
        if geometry is not None and geometry.n_heads_total == 1:
            return "this model has one layer with one KV head, so no head competes with another"
        return super().idle_reason(mechanism, schedule, geometry)

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv] for scores [L,E,H_kv,C] and targets [E]."""
        n_layers, n_rows, n_heads, n_slots = scores.shape
        free = (target.long() - view.n_protected).clamp(min=0)  # [E]
        places = n_layers * n_heads * free
        by_row = (1, 0, 2, 3)
        pool = view.candidates.permute(by_row).reshape(n_rows, -1)
        rank = rank_descending(scores.permute(by_row).reshape(n_rows, -1), pool)
        won = (pool & (rank < places[:, None])).view(n_rows, n_layers * n_heads, n_slots).sum(dim=-1)
        # Fewer candidates than places: what nobody can fill is spread evenly, and capped later.
        idle = (places - won.sum(dim=-1))[:, None]
        head = torch.arange(n_layers * n_heads, device=won.device)
        shares = won + idle // len(head) + (head < idle % len(head)) + (target.long() - free)[:, None]
        return shares.view(n_rows, n_layers, n_heads).transpose(0, 1)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the share of a head that wins every contested place."""
        return target + max(target - protected, 0) * (geometry.n_heads_total - 1)
