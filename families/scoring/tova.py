"""TOVA: what the newest query attends to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, View
from designspace.axes.across_heads import gather_heads
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class TOVA(Scoring):
    """The newest query's attention, averaged over all query heads of the layer: one ranking per layer [oren2024tova].

    Where heads hold different tokens (a routing other than uniform), a token's mean is over the heads that hold it.

    Attributes:
        recent: the newest token is protected by default; the original may evict even that.
    """

    kind: ClassVar[str] = "tova"
    citation: ClassVar[str | None] = "oren2024tova"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())
    recent: int = field(default=1, kw_only=True)

    def needs(self) -> Needs:
        """Return the newest attention row."""
        return Needs(last=True)

    def score(self, view: View) -> Tensor:
        """Return the layer-wide mean attention, [L,E,H_kv,C]."""
        n_layers, n_rows, _, n_slots = view.last.shape
        by_kv_head = view.last.view(n_layers, n_rows, view.geometry.n_kv_heads, view.geometry.group, n_slots).mean(
            dim=3
        )
        return gather_heads(by_kv_head, view.positions, view.valid, view.width, over="heads", how="mean")
