"""Determinantal point process: greedy MAP of quality times spread."""

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
    """The residual variance d_i^2 of each slot given the chosen ones, by incremental Cholesky [chen2018fastdpp].

    A kernel of rank r has no residual after r picks; what is left is then filled by `fallback`, always below any residual.
    """

    def __init__(self, kernel: Tensor, fallback: Tensor) -> None:
        self.kernel, self.fallback = kernel, fallback
        self.residual = kernel.diagonal(dim1=-2, dim2=-1).clone()
        self.rows: list[Tensor] = []

    def gain(self) -> Tensor:
        """Return the residuals, or where they are spent the fallback's order below zero."""
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
    """Greedy MAP of log det of diag(q) S diag(q), q = exp(theta * rel), S the cosine matrix plus eta on its diagonal.

    [kulesza2012dpp]. Without eta the kernel's rank is the head dimension and picks beyond it would be arbitrary.

    Attributes:
        theta: weight of relevance (the score brought to [0, 1] per head) in the quality. eta: added to the diagonal.
    """

    kind: ClassVar[str] = "dpp"
    citation: ClassVar[str | None] = "kulesza2012dpp"

    theta: Annotated[float, Ge(0)] = 1.0
    eta: Annotated[float, Ge(0)] = 0.1

    def objective(self, features: Tensor, scores: Tensor, candidates: Tensor, seeds: Tensor) -> Objective:
        """Return the objective, conditioned on the seeds."""
        relevance = scaled(scores, candidates)
        quality = torch.exp(self.theta * relevance)
        similarity = features @ features.mT + self.eta * torch.eye(features.shape[-2], device=features.device)
        objective = LogDeterminant(quality[..., None] * similarity * quality[..., None, :], relevance)
        objective.seed(seeds)
        return objective
