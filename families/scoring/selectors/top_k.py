"""Top-k: the highest scores of each head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from designspace.axes import Selector, View
from designspace.axes.ranking import highest, keep_protected


@dataclass(frozen=True)
class TopK(Selector):
    """Keep the tokens with the highest scores of each head.

    Protected tokens come first and count in the head's share. Ties go to the larger position. There are no parameters.
    """

    kind: ClassVar[str] = "top-k"

    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Return the kept mask [L,E,H_kv,C]."""
        protected = keep_protected(view, shares)
        left = shares - protected.sum(dim=-1)
        return protected | highest(scores, view.candidates, left)
