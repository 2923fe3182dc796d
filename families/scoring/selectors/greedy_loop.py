"""The greedy loop that several selectors share, with the vectors that tokens are compared by, protection and seeding.

Shapes: L layers, E rows of one event, H_kv KV heads, C slots, D feature dimension; `...` stands for L,E,H_kv.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from designspace.axes import Needs, Selector, View
from designspace.axes.across_heads import gather_heads
from designspace.axes.ranking import keep_protected

Space = Literal["values", "keys"]
Scope = Literal["global", "layer", "layer-head"]


class Objective(Protocol):
    """The state of one greedy selection over all heads at once."""

    def gain(self) -> Tensor:
        """Return how much each slot would add to the chosen set, [...,C]; entries of chosen slots are ignored."""

    def add(self, slot: Tensor) -> None:
        """Add one slot per head to the chosen set; slot: [...,1] int64."""


@runtime_checkable
class FusedObjective(Protocol):
    """An objective whose whole loop may run as one kernel."""

    def chosen(self, candidates: Tensor, n_picks: Tensor) -> Tensor | None:
        """Return the mask [...,C] that `pick` would choose, or None if there is no kernel for it."""


def pick(objective: Objective, candidates: Tensor, n_picks: Tensor) -> Tensor:
    """Choose `n_picks` [...] candidates [...,C] one after the other; ties go to the later slot.

    Returns the picks in order, [...,K] int64 with K the largest number, -1 where a head already has all of its picks.
    """
    # What a slot may gain at most: -inf once it is taken, or no candidate.
    ceiling = torch.where(candidates, torch.inf, -torch.inf)
    slot, picks = torch.arange(candidates.shape[-1], dtype=ceiling.dtype, device=candidates.device), []
    for _ in range(int(n_picks.max())):
        gain = torch.minimum(objective.gain().nan_to_num(nan=torch.inf, posinf=torch.inf), ceiling)
        # The last of the largest, by comparison: masked fills and argmax are several times slower on a CPU.
        best = gain.eq_(gain.amax(dim=-1, keepdim=True)).mul_(slot).amax(dim=-1, keepdim=True).long()
        ceiling.scatter_(-1, best, -torch.inf)
        objective.add(best)
        picks.append(best)
    if not picks:
        return candidates.new_zeros((*n_picks.shape, 0), dtype=torch.int64)
    step = torch.arange(len(picks), device=candidates.device)
    return torch.cat(picks, dim=-1).masked_fill(step >= n_picks[..., None], -1)


def mask_of(picks: Tensor, n_slots: int) -> Tensor:
    """Return the mask [...,C] bool of the slots that are among the picks [...,K]."""
    chosen = torch.zeros(*picks.shape[:-1], n_slots + 1, dtype=torch.bool, device=picks.device)
    return chosen.scatter_(-1, picks.where(picks >= 0, n_slots), True)[..., :n_slots]


def space_needs(space: Space) -> Needs:
    """Return the need for the vectors of a space."""
    return Needs(values=True) if space == "values" else Needs(keys=True)


def unit_features(view: View, space: Space, scope: Scope) -> Tensor:
    """Return unit vectors to compare tokens by, [L,E,H_kv,C,D] float32; free slots and zero vectors stay zero.

    "global" averages a token's vectors over all layers and heads that hold it, "layer" over the heads of the layer that
    hold it, "layer-head" takes each head's own.
    """
    vectors = (view.values if space == "values" else view.keys).float()
    if scope == "layer-head":
        vectors = vectors.masked_fill(~view.valid[..., None], 0.0)
    else:
        over: Literal["heads", "both"] = "both" if scope == "global" else "heads"
        vectors = gather_heads(vectors, view.positions, view.valid, view.width, over=over, how="mean")
    # Where all heads hold the same tokens they share one head's averages: one head's worth of work.
    shared = vectors[:1, :, :1] if vectors.stride(0) == 0 == vectors.stride(2) else vectors
    return (shared / (shared.norm(dim=-1, keepdim=True) + 1e-8)).expand(vectors.shape)


@dataclass(frozen=True)
class GreedySelector(Selector):
    """Choose one slot after the other, where each choice depends on those before it.

    Attributes:
        space: vectors that tokens are compared by: "values" or "keys"; keys by default.
        scope: "layer-head": each head's own vectors; "layer": averaged over the heads of the layer that hold the token;
            "global": averaged over all layers and heads that hold it. "layer-head" by default.
        seed_with_protected: count protected tokens as chosen from the start; on by default.
    """

    space: Space = "keys"
    scope: Scope = "layer-head"
    seed_with_protected: bool = True

    def needs(self) -> Needs:
        """Return the vectors that tokens are compared by."""
        return space_needs(self.space)

    @abstractmethod
    def objective(self, features: Tensor, scores: Tensor, candidates: Tensor, seeds: Tensor) -> Objective:
        """Return the objective before the first choice.

        features: [...,C,D] unit vectors. scores: [...,C]. candidates: [...,C] bool. seeds: [...,C] bool, chosen
        already.
        """

    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Return the kept mask [L,E,H_kv,C]."""
        protected = keep_protected(view, shares)
        seeds = protected if self.seed_with_protected else torch.zeros_like(protected)
        n_picks = shares - protected.sum(dim=-1)
        features = unit_features(view, self.space, self.scope)
        inputs = [features, scores, view.candidates, seeds, n_picks]
        # One ranking for all heads: the loop runs once per row and is shared. Global features differ only with positions.
        if self.scope == "global" and all(bool((x == x[:1, :, :1]).all()) for x in (view.positions, *inputs[1:])):
            inputs = [x[:1, :, :1] for x in inputs]
        features, scores, candidates, seeds, n_picks = inputs
        objective = self.objective(features, scores, candidates, seeds)
        chosen = objective.chosen(candidates, n_picks) if isinstance(objective, FusedObjective) else None
        if chosen is None:
            chosen = mask_of(pick(objective, candidates, n_picks), scores.shape[-1])
        return protected | chosen.expand_as(protected)
