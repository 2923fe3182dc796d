"""Facility location: every token should have a similar one among the kept tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from designspace.axes import Composition, Geometry, Schedule
from designspace.axes.ranking import scaled
from families.scoring.selectors.greedy_loop import GreedySelector, Objective


class Coverage:
    """mix * rel_j + (1 - mix) * sum_i w_i [s(i, j) - c_i]_+, where c_i is the best similarity of i to a chosen slot."""

    def __init__(self, similarity: Tensor, relevance: Tensor, demand: Tensor, seeds: Tensor, mix: float) -> None:
        self.similarity, self.relevance, self.demand, self.mix = similarity, relevance, demand, mix
        self.covered = similarity.masked_fill(~seeds[..., None, :], 0.0).amax(dim=-1)  # [...,C]

    def gain(self) -> Tensor:
        """Return the marginal gain of each slot, [...,C]."""
        improvement = (self.similarity - self.covered[..., None]).clamp(min=0.0)
        return self.mix * self.relevance + (1 - self.mix) * (self.demand[..., None] * improvement).sum(dim=-2)

    def add(self, slot: Tensor) -> None:
        """Update the best similarities by the new member."""
        index = slot[..., None].expand(*slot.shape, self.similarity.shape[-1])
        self.covered = torch.maximum(self.covered, self.similarity.gather(-2, index)[..., 0, :])


@dataclass(frozen=True)
class FacilityLocation(GreedySelector):
    """Choose tokens so that every held token has a similar one among them [nemhauser1978].

    The greedy choice maximises sum_i max over chosen j of s(i, j), plus relevance. The similarity s is the cosine
    clipped at zero; every held token counts once. The objective is monotone and submodular, so the chosen set reaches
    at least 1 - 1/e of the best value.

    Attributes:
        mix: share of the relevance (the score scaled to [0, 1] in each head) in the objective, in [0, 1]; 0.5 by
            default. 1 is `top-k`.
        space: vectors that tokens are compared by: "values" or "keys"; keys by default.
        scope: "layer-head": each head's own vectors; "layer": averaged over the heads of the layer that hold the token;
            "global": averaged over all layers and heads that hold it. "layer-head" by default.
        seed_with_protected: count protected tokens as chosen from the start; on by default.
    """

    kind: ClassVar[str] = "facility-location"
    citation: ClassVar[str | None] = "nemhauser1978"

    mix: Annotated[float, Ge(0), Le(1)] = 0.5

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """Say so where the parameter makes it `top-k`."""
        return "mix=1 is top-k" if self.mix == 1 else None

    def objective(self, features: Tensor, scores: Tensor, candidates: Tensor, seeds: Tensor) -> Objective:
        """Return the coverage objective; every held token asks to be covered once."""
        held = (candidates | seeds).float()
        similarity = (features @ features.mT).clamp(min=0.0)
        return Coverage(similarity, scaled(scores, candidates), held, seeds, self.mix)
