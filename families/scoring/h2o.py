"""H2O: heavy hitters by accumulated attention, and a recent window."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, View
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class H2O(Scoring):
    """Attention mass summed over all queries so far, group mean per row, float32 [zhang2023h2o].

    Attributes:
        normalise: "sum" as published, or "mean": divided by the number of queries that could see the token, which
            weakens the sum's bias towards old tokens.
        recent: protected recent tokens. The original gives them half of the budget; a fixed number keeps one
            declaration valid at every budget.
    """

    kind: ClassVar[str] = "h2o"
    citation: ClassVar[str | None] = "zhang2023h2o"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())
    normalise: Literal["sum", "mean"] = "sum"
    recent: int = field(default=16, kw_only=True)

    def needs(self) -> Needs:
        """Return the running attention mass."""
        return Needs(accumulated=True)

    def score(self, view: View) -> Tensor:
        """Return the mass received by each held token, [L,E,H_kv,C]."""
        if self.normalise == "sum":
            return view.accumulated
        age = (view.next_position[None, :, None, None] - view.positions).clamp(min=1)
        return view.accumulated / age
