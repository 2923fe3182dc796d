"""TOVA: tokens that the newest query attends to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, View, Window
from designspace.axes.across_heads import gather_heads
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class TOVA(Scoring):
    """Prefer tokens that the newest query attends to, averaged over the heads of a layer [oren2024tova].

    All heads of a layer share one ranking. Where heads hold different tokens (with any head routing but `uniform`), the
    mean is taken over the heads that hold the token.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: number of newest tokens that are always kept; 1 by default. The original may evict even the newest
            token.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "tova"
    citation: ClassVar[str | None] = "oren2024tova"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())
    recent: Window = field(default=1, kw_only=True)

    def needs(self) -> Needs:
        """Return the need for the attention row of the newest query."""
        return Needs(last=True)

    def score(self, view: View) -> Tensor:
        """Return the mean attention over the heads of the layer, [L,E,H_kv,C]."""
        n_layers, n_rows, _, n_slots = view.last.shape
        by_kv_head = view.last.view(n_layers, n_rows, view.geometry.n_kv_heads, view.geometry.group, n_slots).mean(
            dim=3
        )
        return gather_heads(by_kv_head, view.positions, view.valid, view.width, over="heads", how="mean")
