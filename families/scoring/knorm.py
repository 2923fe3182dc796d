"""Key norm: small keys attract attention."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from designspace.axes import Scoring, Selector, View
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class KNorm(Scoring):
    """The negative L2 norm of the key [devoto2024l2norm].

    Deviation: all layers take part; the published recommendation leaves layers 0 and 1 uncompressed.

    Attributes:
        recent: newest tokens protected while decoding; 0 in the original, which prunes prompts.
    """

    kind: ClassVar[str] = "knorm"
    citation: ClassVar[str | None] = "devoto2024l2norm"

    selector: Selector = field(default=TopK())
    recent: int = field(default=8, kw_only=True)

    def score(self, view: View) -> Tensor:
        """Return minus the norm of each key, [L,E,H_kv,C]."""
        return -view.keys.float().norm(dim=-1)
