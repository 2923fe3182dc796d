"""Maximal marginal relevance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from designspace.axes.ranking import scaled
from families.scoring.selectors.diversity import Penalised
from families.scoring.selectors.greedy_loop import GreedySelector, Objective


@dataclass(frozen=True)
class MMR(GreedySelector):
    """argmax of lam * rel_i - (1 - lam) * max over chosen j of s(i, j) [carbonell1998mmr].

    Relevance is the score brought to [0, 1] per head, similarity the cosine brought to [0, 1].

    Attributes:
        lam: weight of relevance; 1 is `top-k`.
    """

    kind: ClassVar[str] = "mmr"
    citation: ClassVar[str | None] = "carbonell1998mmr"

    lam: Annotated[float, Ge(0), Le(1)] = 0.5

    def objective(self, features: Tensor, scores: Tensor, candidates: Tensor, seeds: Tensor) -> Objective:
        """Return the mix of relevance and similarity."""
        # One more channel, and (1 + cosine) / 2 is a dot product too.
        halved = torch.cat([features, torch.ones_like(features[..., :1])], dim=-1) * 0.5**0.5
        return Penalised(halved, self.lam * scaled(scores, candidates), seeds, 1 - self.lam, floor=False)
