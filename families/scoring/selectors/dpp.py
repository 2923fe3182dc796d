"""Determinantal point process: tokens that are relevant and differ from each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes.ranking import scaled
from families.scoring.selectors.greedy_loop import GreedySelector, Objective

_SPENT = 1e-6  # below this residual a kernel has nothing left to tell apart


class LogDeterminant:
    """The residual variance d_i^2 of each slot given the chosen slots, by incremental Cholesky [chen2018fastdpp].

    A kernel of rank r has no residual left after r choices. Further choices follow `fallback`, always below any
    residual.
    """

    def __init__(self, kernel: Tensor, fallback: Tensor) -> None:
        self.kernel, self.fallback = kernel, fallback
        self.residual = kernel.diagonal(dim1=-2, dim2=-1).clone()
        self.rows: list[Tensor] = []

    def gain(self) -> Tensor:
        """Return the residuals [...,C]; where they are used up, the order of the fallback, below zero."""
        return torch.where(self.residual > _SPENT, self.residual, self.fallback - self.fallback.amax() - 1.0)

    def add(self, slot: Tensor) -> None:
        """Condition on one more slot per head; slot: [...,1]."""
        self._condition(slot, torch.ones_like(slot, dtype=torch.bool))

    def seed(self, seeds: Tensor) -> None:
        """Condition on the slots chosen from the start, bool [...,C]; heads may have different numbers of them."""
        left = seeds.clone()
        for _ in range(int(seeds.sum(dim=-1).max())):
            slot = left.int().argmax(dim=-1, keepdim=True)
            self._condition(slot, left.any(dim=-1, keepdim=True))
            left.scatter_(-1, slot, False)

    def _condition(self, slot: Tensor, takes: Tensor) -> None:
        """Append one row of the Cholesky factor to the heads that take a slot, a row of zeros to the others."""
        column = self.kernel.gather(-2, slot[..., None].expand(*slot.shape, self.kernel.shape[-1]))[..., 0, :]
        for row in self.rows:
            column = column - row.gather(-1, slot) * row
        pivot = self.residual.gather(-1, slot)
        counts = takes & (pivot > _SPENT)
        row = torch.where(counts, column / pivot.clamp(min=_SPENT).sqrt(), torch.zeros_like(column))
        self.rows.append(row)
        self.residual = (self.residual - row.square()).clamp(min=0.0)


@dataclass(frozen=True)
class DPP(GreedySelector):
    """Choose tokens that are relevant and differ from each other, by a determinantal point process [kulesza2012dpp].

    The greedy choice maximises log det of diag(q) S diag(q). The quality is q = exp(theta * rel), where rel is the
    score scaled to [0, 1] in each head. S is the cosine matrix plus eta on its diagonal. Without eta the rank of the
    kernel is the head dimension, and choices beyond it would be arbitrary.

    Attributes:
        theta: weight of the relevance in the quality, at least 0; 1 by default.
        eta: number added to the diagonal of the kernel, at least 0; 0.1 by default.
        space: vectors that tokens are compared by: "values" or "keys"; keys by default.
        scope: "layer-head": each head's own vectors; "layer": averaged over the heads of the layer that hold the token;
            "global": averaged over all layers and heads that hold it. "layer-head" by default.
        seed_with_protected: count protected tokens as chosen from the start; on by default.
    """

    kind: ClassVar[str] = "dpp"
    citation: ClassVar[str | None] = "kulesza2012dpp"

    theta: Annotated[float, Ge(0)] = 1.0
    eta: Annotated[float, Ge(0)] = 0.1

    def objective(self, features: Tensor, scores: Tensor, candidates: Tensor, seeds: Tensor) -> Objective:
        """Return the objective, with the seeds as chosen slots."""
        relevance = scaled(scores, candidates)
        quality = torch.exp(self.theta * relevance)
        similarity = features @ features.mT + self.eta * torch.eye(features.shape[-2], device=features.device)
        objective = LogDeterminant(quality[..., None] * similarity * quality[..., None, :], relevance)
        objective.seed(seeds)
        return objective
