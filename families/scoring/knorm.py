"""Key norm: keys of small norm attract attention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, View, Window
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class KNorm(Scoring):
    """Prefer keys of small L2 norm, because such keys attract attention [devoto2024l2norm].

    The score is minus the norm of the key. Deviation: all layers are compressed; the published recommendation leaves
    layers 0 and 1 uncompressed.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: number of newest tokens that are always kept; 8 by default. The original has none, because it prunes
            prompts.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "knorm"
    citation: ClassVar[str | None] = "devoto2024l2norm"

    selector: Selector = field(default=TopK())
    recent: Window = field(default=8, kw_only=True)

    def needs(self) -> Needs:
        """Return the need for the keys."""
        return Needs(keys=True)

    def score(self, view: View) -> Tensor:
        """Return minus the norm of each key, [L,E,H_kv,C]."""
        return -view.keys.float().norm(dim=-1)
