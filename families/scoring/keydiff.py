"""KeyDiff: keys that point away from the mean direction of all keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from designspace.axes import Needs, Scoring, Selector, View, Window
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class KeyDiff(Scoring):
    """Prefer keys that point away from the mean direction of the held keys [park2025keydiff].

    The score is minus the cosine between a key and the mean of all normalised keys that the head holds. The mean is
    taken over the cache as it is at the compression event, as in the paper's block-wise form.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: number of newest tokens that are always kept; 8 by default. The original method has none.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "keydiff"
    citation: ClassVar[str | None] = "park2025keydiff"

    selector: Selector = field(default=TopK())
    recent: Window = field(default=8, kw_only=True)

    def needs(self) -> Needs:
        """Return the need for the keys."""
        return Needs(keys=True)

    def score(self, view: View) -> Tensor:
        """Return minus the cosine between each key and the mean direction, [L,E,H_kv,C]."""
        unit = functional.normalize(view.keys.float(), dim=-1, eps=1e-8).masked_fill(~view.valid[..., None], 0.0)
        anchor = unit.sum(dim=-2, keepdim=True) / view.counts[..., None, None].clamp(min=1)
        return -functional.cosine_similarity(unit, anchor, dim=-1)
