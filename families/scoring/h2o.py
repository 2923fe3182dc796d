"""H2O: tokens that have received much attention (heavy hitters), and a window of recent tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, View, Window, WindowShare
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class H2O(Scoring):
    """Prefer tokens that have received the most attention from all queries so far [zhang2023h2o].

    The score of a token is the sum of its attention probabilities over all past queries, averaged over the query heads
    that share a KV head, in float32. The authors' models have no such groups. Their code states the numbers of heavy
    hitters and of newest tokens outright, or as shares of the prompt's length; here both are parts of the budget.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        normalise: "sum" as published (the default), or "mean": the sum divided by the number of queries that could see
            the token. The mean weakens the sum's bias towards old tokens.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: number of newest tokens that are always kept, or a share of the size after an event; half of it by
            default, as published. With a fixed number, what part of the cache the window has depends on the budget.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "h2o"
    citation: ClassVar[str | None] = "zhang2023h2o"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())
    normalise: Literal["sum", "mean"] = "sum"
    recent: Window = field(default=WindowShare(0.5), kw_only=True)

    def needs(self) -> Needs:
        """Return the need for the running sum of attention probabilities."""
        return Needs(accumulated=True)

    def score(self, view: View) -> Tensor:
        """Return the attention mass that each held token has received, [L,E,H_kv,C]."""
        if self.normalise == "sum":
            return view.accumulated
        age = (view.next_position[None, :, None, None] - view.positions).clamp(min=1)
        return view.accumulated / age
