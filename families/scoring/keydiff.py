"""KeyDiff: keep the keys that point away from the mean direction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from designspace.axes import Scoring, Selector, View
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class KeyDiff(Scoring):
    """Minus the cosine between a key and the mean of the normalised held keys [park2025keydiff].

    The anchor is the mean over the cache as it is at the event, as in the paper's block-wise form.

    Attributes:
        recent: newest tokens protected while decoding; none in the base method.
    """

    kind: ClassVar[str] = "keydiff"
    citation: ClassVar[str | None] = "park2025keydiff"

    selector: Selector = field(default=TopK())
    recent: int = field(default=8, kw_only=True)

    def score(self, view: View) -> Tensor:
        """Return minus the cosine to the anchor, [L,E,H_kv,C]."""
        unit = functional.normalize(view.keys.float(), dim=-1, eps=1e-8).masked_fill(~view.valid[..., None], 0.0)
        anchor = unit.sum(dim=-2, keepdim=True) / view.counts[..., None, None].clamp(min=1)
        return -functional.cosine_similarity(unit, anchor, dim=-1)
