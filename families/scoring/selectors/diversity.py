"""Greedy selection with a V-space diversity penalty: α of the source paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from designspace.errors import DeclarationError
from designspace.view import View
from families.scoring.selectors.greedy import GreedySelector, Objective, Scope, Space
from families.scoring.selectors.top_k import TopK


class Penalised:
    """s_i - weight * (largest similarity to a chosen slot), floored at zero on request; nothing chosen: no penalty."""

    def __init__(self, similarity: Tensor, scores: Tensor, seeds: Tensor, weight: float, *, floor: bool) -> None:
        self.similarity, self.scores, self.weight = similarity, scores, weight
        lowest = 0.0 if floor else -torch.inf
        self.closest = similarity.masked_fill(~seeds[..., None, :], lowest).amax(dim=-1).clamp(min=lowest)

    def gain(self) -> Tensor:
        """Return the penalised scores [...,C]."""
        return self.scores - self.weight * self.closest.masked_fill(self.closest == -torch.inf, 0.0)

    def add(self, slot: Tensor) -> None:
        """Note the similarities to the new member."""
        index = slot[..., None].expand(*slot.shape, self.similarity.shape[-1])
        self.closest = torch.maximum(self.closest, self.similarity.gather(-2, index)[..., 0, :])


@dataclass(frozen=True)
class Diversity(GreedySelector):
    """argmax of s_i - weight * max(0, max over chosen j of v_i . v_j), one slot after the other [sun2026minimal].

    v_i is the token's value averaged over all layers and heads that hold it, normalised. Protected slots do not seed the
    chosen set unless asked to. Weight 0 is exactly `top-k`. The weight is meaningful only relative to the scale of the scores.

    Attributes:
        weight: the paper's λ. floor: clip similarities at zero, so that opposites earn no bonus.
        space, scope: whose similarity; the paper's are values and global.
    """

    kind: ClassVar[str] = "diversity"
    citation: ClassVar[str | None] = "sun2026minimal"

    weight: float = 0.5
    floor: bool = True
    space: Space = "values"
    scope: Scope = "global"
    seed_with_protected: bool = False

    def __post_init__(self) -> None:
        """Check the weight."""
        if self.weight < 0:
            raise DeclarationError(f"weight must be at least 0, got weight={self.weight}")

    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Return the kept mask [L,E,H_kv,C]; weight 0 takes the path of `top-k`, bit for bit."""
        return super().select(view, scores, shares) if self.weight else TopK().select(view, scores, shares)

    def objective(self, features: Tensor, scores: Tensor, candidates: Tensor, seeds: Tensor) -> Objective:
        """Return the penalised scores."""
        return Penalised(features @ features.mT, scores, seeds, self.weight, floor=self.floor)
