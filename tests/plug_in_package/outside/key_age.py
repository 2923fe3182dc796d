"""The scoring `key-age`: the older a token, the more it is worth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from designspace.axes import Scoring, Selector, View
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class KeyAge(Scoring):
    """Keep the oldest tokens, and the newest `recent` ones."""

    kind: ClassVar[str] = "key-age"

    selector: Selector = field(default=TopK())

    def score(self, view: View) -> Tensor:
        """Return minus the position."""
        return -view.positions.float()
