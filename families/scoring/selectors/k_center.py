"""k-center: each choice is as far as possible from those before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from designspace.axes.ranking import scaled
from families.scoring.selectors.greedy_loop import GreedySelector, Objective


class Farthest:
    """Distance of each slot to the nearest chosen slot; the relevance as long as nothing is chosen."""

    def __init__(self, distance: Tensor, relevance: Tensor, seeds: Tensor, *, weigh: bool) -> None:
        self.distance, self.relevance, self.weigh = distance, relevance, weigh
        self.nearest = distance.masked_fill(~seeds[..., None, :], torch.inf).amin(dim=-1)

    def gain(self) -> Tensor:
        """Return the distance of each slot to the chosen ones, [...,C]."""
        gain = self.nearest * self.relevance if self.weigh else self.nearest
        return torch.where(self.nearest == torch.inf, self.relevance, gain)

    def add(self, slot: Tensor) -> None:
        """Update the distances by the new member."""
        index = slot[..., None].expand(*slot.shape, self.distance.shape[-1])
        self.nearest = torch.minimum(self.nearest, self.distance.gather(-2, index)[..., 0, :])


@dataclass(frozen=True)
class KCenter(GreedySelector):
    """Choose tokens one by one, each as far as possible from those chosen before [gonzalez1985].

    The traversal starts from the protected tokens, or else from the most relevant token; apart from that first choice
    the scores have no say. Distances are Euclidean between unit vectors, which is a metric. So the
    largest distance of a token to the nearest chosen one is at most twice the smallest that is possible with as many
    choices and the same protected tokens.

    Attributes:
        weigh: multiply distances by the relevance (the score scaled to [0, 1] in each head), so that outliers without
            attention do not come first; off by default. With it there is no bound: a token of relevance 0 is never
            chosen before another, however far away it is.
        space: vectors that tokens are compared by: "values" or "keys"; keys by default.
        scope: "layer-head": each head's own vectors; "layer": averaged over the heads of the layer that hold the token;
            "global": averaged over all layers and heads that hold it. "layer-head" by default.
        seed_with_protected: count protected tokens as chosen from the start; on by default.
    """

    kind: ClassVar[str] = "k-center"
    citation: ClassVar[str | None] = "gonzalez1985"

    weigh: bool = False

    def objective(self, features: Tensor, scores: Tensor, candidates: Tensor, seeds: Tensor) -> Objective:
        """Return the distances as an objective."""
        distance = (2 - 2 * features @ features.mT).clamp(min=0.0).sqrt()
        return Farthest(distance, scaled(scores, candidates), seeds, weigh=self.weigh)
