"""Maximal marginal relevance: score against similarity to the tokens chosen before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from designspace.axes import Composition, Geometry, Schedule
from designspace.axes.ranking import scaled
from families.scoring.selectors.diversity import Penalised
from families.scoring.selectors.greedy_loop import GreedySelector, Objective


@dataclass(frozen=True)
class MMR(GreedySelector):
    """Choose tokens one by one by their score minus their similarity to the tokens chosen before [carbonell1998mmr].

    Each choice is the argmax of lam * rel_i - (1 - lam) * max over chosen j of s(i, j). The relevance rel_i is the
    score scaled to [0, 1] in each head; the similarity s is the cosine scaled to [0, 1].

    Attributes:
        lam: weight of the relevance, in [0, 1]; 0.5 by default. 1 is `top-k`.
        space: vectors that tokens are compared by: "values" or "keys"; keys by default.
        scope: "layer-head": each head's own vectors; "layer": averaged over the heads of the layer that hold the token;
            "global": averaged over all layers and heads that hold it. "layer-head" by default.
        seed_with_protected: count protected tokens as chosen from the start; on by default.
    """

    kind: ClassVar[str] = "mmr"
    citation: ClassVar[str | None] = "carbonell1998mmr"

    lam: Annotated[float, Ge(0), Le(1)] = 0.5

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """Say so where the parameter makes it `top-k`."""
        return "lam=1 is top-k" if self.lam == 1 else None

    def objective(self, features: Tensor, scores: Tensor, candidates: Tensor, seeds: Tensor) -> Objective:
        """Return the weighted difference of relevance and similarity as an objective."""
        # One more channel, and (1 + cosine) / 2 is a dot product too.
        halved = torch.cat([features, torch.ones_like(features[..., :1])], dim=-1) * 0.5**0.5
        return Penalised(halved, self.lam * scaled(scores, candidates), seeds, 1 - self.lam, floor=False)
