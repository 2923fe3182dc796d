"""Facility location: every token should have a similar one among the kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from designspace.axes.ranking import scaled
from families.scoring.selectors.greedy_loop import GreedySelector, Objective


class Coverage:
    """mix * rel_j + (1 - mix) * sum_i w_i [s(i, j) - c_i]_+, with c_i the best similarity to a chosen slot."""

    def __init__(self, similarity: Tensor, relevance: Tensor, demand: Tensor, seeds: Tensor, mix: float) -> None:
        self.similarity, self.relevance, self.demand, self.mix = similarity, relevance, demand, mix
        self.covered = similarity.masked_fill(~seeds[..., None, :], 0.0).amax(dim=-1)  # [...,C]

    def gain(self) -> Tensor:
        """Return the marginal gain of each slot, [...,C]."""
        improvement = (self.similarity - self.covered[..., None]).clamp(min=0.0)
        return self.mix * self.relevance + (1 - self.mix) * (self.demand[..., None] * improvement).sum(dim=-2)

    def add(self, slot: Tensor) -> None:
        """Cover what the new member is similar to."""
        index = slot[..., None].expand(*slot.shape, self.similarity.shape[-1])
        self.covered = torch.maximum(self.covered, self.similarity.gather(-2, index)[..., 0, :])


@dataclass(frozen=True)
class FacilityLocation(GreedySelector):
    """Greedy maximisation of sum_i max over chosen j of s(i, j), plus relevance [nemhauser1978].

    Similarity is the cosine clipped at zero, every held token counts once. Monotone submodular, so the greedy set is
    within 1 - 1/e of the best.

    Attributes:
        mix: share of relevance (the score brought to [0, 1] per head) in the objective; 1 is `top-k`.
    """

    kind: ClassVar[str] = "facility-location"
    citation: ClassVar[str | None] = "nemhauser1978"

    mix: Annotated[float, Ge(0), Le(1)] = 0.5

    def objective(self, features: Tensor, scores: Tensor, candidates: Tensor, seeds: Tensor) -> Objective:
        """Return the coverage objective; the demand is spread over the held tokens."""
        held = (candidates | seeds).float()
        similarity = (features @ features.mT).clamp(min=0.0)
        return Coverage(similarity, scaled(scores, candidates), held, seeds, self.mix)
