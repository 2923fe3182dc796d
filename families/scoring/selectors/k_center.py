"""k-center: farthest first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from designspace.axes.ranking import scaled
from families.scoring.selectors.greedy_loop import GreedySelector, Objective


class Farthest:
    """Distance to the nearest chosen slot; with nothing chosen, the relevance."""

    def __init__(self, distance: Tensor, relevance: Tensor, seeds: Tensor, *, weigh: bool) -> None:
        self.distance, self.relevance, self.weigh = distance, relevance, weigh
        self.nearest = distance.masked_fill(~seeds[..., None, :], torch.inf).amin(dim=-1)

    def gain(self) -> Tensor:
        """Return how far each slot is from the chosen ones, [...,C]."""
        gain = self.nearest * self.relevance if self.weigh else self.nearest
        return torch.where(self.nearest == torch.inf, self.relevance, gain)

    def add(self, slot: Tensor) -> None:
        """Shorten the distances by the new member."""
        index = slot[..., None].expand(*slot.shape, self.distance.shape[-1])
        self.nearest = torch.minimum(self.nearest, self.distance.gather(-2, index)[..., 0, :])


@dataclass(frozen=True)
class KCenter(GreedySelector):
    """Farthest-first traversal from the protected tokens, or from the most relevant one [gonzalez1985].

    Euclidean distance of unit vectors, a metric; a 2-approximation of the smallest covering radius.

    Attributes:
        weigh: multiply distances by relevance (the score brought to [0, 1] per head), so that outliers nobody attends to
            do not come first.
    """

    kind: ClassVar[str] = "k-center"
    citation: ClassVar[str | None] = "gonzalez1985"

    weigh: bool = True

    def objective(self, features: Tensor, scores: Tensor, candidates: Tensor, seeds: Tensor) -> Objective:
        """Return the distances."""
        distance = (2 - 2 * features @ features.mT).clamp(min=0.0).sqrt()
        return Farthest(distance, scaled(scores, candidates), seeds, weigh=self.weigh)
