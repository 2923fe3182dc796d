"""Full cache: every token is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from designspace.axes import Scoring, Selector, View
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class Full(Scoring):
    """Keep every token: nothing is ever evicted.

    This is the reference that compressed caches are compared with. It is allowed with the cadence `never` only.

    Attributes:
        selector, sinks, recent: as in every scoring; they have no effect here.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "full"
    keeps_everything: ClassVar[bool] = True

    selector: Selector = field(default=TopK())

    @property
    def one_ranking(self) -> bool:
        """True: all heads hold the same tokens, because nothing is evicted."""
        return True

    def score(self, view: View) -> Tensor:
        """Return equal scores [L,E,H_kv,C]; no compression event ever asks for them."""
        return view.positions.float() * 0.0
