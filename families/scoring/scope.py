"""SCOPE: the prompt's heavy hitters, and of the trace what the newest query attends to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, View, Window, WindowShare
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class Scope(Scoring):
    """Rank the prompt by the attention it received so far, and the trace by that of the newest query [wu2024scope].

    Both are attention per query: a token of the prompt scores its sum over all queries divided by their number, a token of
    the trace what the newest query gives it; the mean over the query heads that share a KV head. The published method
    compares neither with the other: run it at a budget in two parts, `{prompt: …, trace: …}`. At one budget for all it is a
    scoring of its own.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: number of newest tokens that are always kept, or a share of the size after an event; a tenth of it by
            default: the released 256 of 2,048 + 512.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "scope"
    citation: ClassVar[str | None] = "wu2024scope"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())
    recent: Window = field(default=WindowShare(0.1), kw_only=True)

    def needs(self) -> Needs:
        """Return the need for the running sum of attention probabilities and for the newest query's."""
        return Needs(accumulated=True, last=True)

    def score(self, view: View) -> Tensor:
        """Return the attention per query, [L,E,H_kv,C]."""
        n_layers, n_rows, n_heads, n_slots = view.positions.shape
        newest = view.last.view(n_layers, n_rows, n_heads, view.geometry.group, n_slots).mean(dim=3)
        n_queries = view.next_position.clamp(min=1)[None, :, None, None]
        return torch.where(view.of_prompt, view.accumulated / n_queries, newest)
