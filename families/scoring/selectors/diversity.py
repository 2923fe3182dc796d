"""Greedy selection with a penalty on similar values: the method α of the source paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Composition, Geometry, Needs, Schedule, View
from designspace.kernels.greedy_penalised import greedy_penalised
from families.scoring.selectors.greedy_loop import GreedySelector, Objective, Scope, Space
from families.scoring.selectors.top_k import TopK


class Penalised:
    """s_i - weight * (largest similarity to a chosen slot), floored at zero on request; no penalty before a choice."""

    def __init__(self, features: Tensor, scores: Tensor, seeds: Tensor, weight: float, *, floor: bool) -> None:
        lowest = 0.0 if floor else -torch.inf
        self.features, self.scores, self.weight = features, scores, weight
        self.penalty = torch.full_like(scores, lowest)
        if bool(seeds.any()):
            similarity = (weight * (features @ features.mT)).masked_fill(~seeds[..., None, :], lowest)
            self.penalty = similarity.amax(dim=-1).clamp(min=lowest)
        self.penalised = scores - self.penalty.masked_fill(self.penalty == -torch.inf, 0.0)

    def gain(self) -> Tensor:
        """Return the penalised scores [...,C]."""
        return self.penalised

    def chosen(self, candidates: Tensor, n_picks: Tensor) -> Tensor | None:
        """Return the mask [...,C] of the whole selection by the fused loop, or None if there is no kernel for it."""
        now = (self.scores, self.penalty, self.penalised)
        return greedy_penalised(self.features, self.weight, *now, candidates, n_picks)

    def add(self, slot: Tensor) -> None:
        """Update the penalties by the new member."""
        index = slot[..., None].expand(*slot.shape, self.features.shape[-1])
        similarity = (self.features @ self.features.gather(-2, index).mT)[..., 0]
        self.penalty = torch.maximum(self.penalty, self.weight * similarity)
        self.penalised = self.scores - self.penalty


class PenalisedTotal:
    """s_i - weight * (sum or mean of the similarities to all chosen slots); no penalty before a choice."""

    def __init__(self, similarity: Tensor, scores: Tensor, seeds: Tensor, weight: float, *, mean: bool) -> None:
        self.similarity, self.scores, self.weight, self.mean = similarity, scores, weight, mean
        self.total = similarity.masked_fill(~seeds[..., None, :], 0.0).sum(dim=-1)
        self.n_chosen = seeds.sum(dim=-1, keepdim=True)

    def gain(self) -> Tensor:
        """Return the penalised scores [...,C]."""
        return self.scores - self.weight * (self.total / self.n_chosen.clamp(min=1) if self.mean else self.total)

    def add(self, slot: Tensor) -> None:
        """Add the similarities to the new member."""
        index = slot[..., None].expand(*slot.shape, self.similarity.shape[-1])
        self.total = self.total + self.similarity.gather(-2, index)[..., 0, :]
        self.n_chosen = self.n_chosen + 1


@dataclass(frozen=True)
class Diversity(GreedySelector):
    """Choose tokens one by one by score minus similarity of values to the tokens chosen before [sun2026minimal].

    Each choice is the argmax of s_i - weight * max(0, max over chosen j of v_i . v_j). v_i is the value of the token,
    averaged over all layers and heads that hold it and normalised.

    Attributes:
        weight: the λ of the paper, at least 0; 0.5 by default. It is meaningful only relative to the scale of the
            scores. 0 is exactly `top-k`.
        floor: clip each similarity at zero before they are reduced (the default). Then opposite values earn no bonus
            and, in a sum or mean, do not make up for copies.
        reducer: how the similarities to the chosen tokens become one penalty: "max" as in the paper (the default),
            "sum" or "mean". A sum grows with the number of chosen tokens, so it wants a smaller weight.
        space: vectors that tokens are compared by: "values" as in the paper (the default) or "keys".
        scope: "global" as in the paper (the default): averaged over all layers and heads that hold the token; "layer":
            over the heads of the layer that hold it; "layer-head": each head's own vectors.
        seed_with_protected: count protected tokens as chosen from the start; off by default.
    """

    kind: ClassVar[str] = "diversity"
    citation: ClassVar[str | None] = "sun2026minimal"

    weight: Annotated[float, Ge(0)] = 0.5
    floor: bool = True
    reducer: Literal["max", "sum", "mean"] = "max"
    space: Space = "values"
    scope: Scope = "global"
    seed_with_protected: bool = False

    def needs(self) -> Needs:
        """Return the vectors that tokens are compared by, if they are."""
        return super().needs() if self.weight else Needs()

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """Say so where the parameter makes it `top-k`."""
        return "weight=0 is top-k" if self.weight == 0 else None

    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Return the kept mask [L,E,H_kv,C]; weight 0 gives exactly the result of `top-k`."""
        return super().select(view, scores, shares) if self.weight else TopK().select(view, scores, shares)

    def objective(self, features: Tensor, scores: Tensor, candidates: Tensor, seeds: Tensor) -> Objective:
        """Return the penalised scores as an objective."""
        if self.reducer == "max":
            return Penalised(features, scores, seeds, self.weight, floor=self.floor)
        similarity = features @ features.mT
        similarity = similarity.clamp(min=0.0) if self.floor else similarity
        return PenalisedTotal(similarity, scores, seeds, self.weight, mean=self.reducer == "mean")
