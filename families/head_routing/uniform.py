"""Uniform shares: every layer and head holds the same number of tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from designspace.axes import Geometry, HeadRouting, View


@dataclass(frozen=True)
class Uniform(HeadRouting):
    """Give every layer and KV head the same number of tokens.

    There are no parameters.
    """

    kind: ClassVar[str] = "uniform"
    works_without_events: ClassVar[bool] = True

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return the target for all heads, [L,E,H_kv]; target: [E]."""
        return target.long()[None, :, None].expand_as(view.counts)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the target."""
        return target
