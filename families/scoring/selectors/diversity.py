"""Greedy selection with a V-space diversity penalty: α of the source paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from designspace.axes import Selector
from designspace.by_position import gather_heads
from designspace.errors import DeclarationError
from designspace.selection import keep_protected
from designspace.view import View
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class Diversity(Selector):
    """argmax of s_i - weight * max(0, max over chosen j of v_i . v_j), one slot after the other [sun2026minimal].

    v_i is the token's value averaged over all layers and heads that hold it, normalised (`signature`: [E,C,D] per token).
    Protected slots do not seed the chosen set unless `seed_with_protected`. Weight 0 is exactly `top-k`. The weight is
    meaningful only relative to the scale of the scores.

    Attributes:
        weight: the paper's λ. scope: "global" averages the signature over all layers and heads; "layer-head" uses each
            head's own values. floor: clip similarities at zero, so that opposites earn no bonus.
        seed_with_protected: let protected slots count as chosen from the start.
    """

    kind: ClassVar[str] = "diversity"
    citation: ClassVar[str | None] = "sun2026minimal"

    weight: float = 0.5
    scope: Literal["global", "layer-head"] = "global"
    floor: bool = True
    seed_with_protected: bool = False

    def __post_init__(self) -> None:
        """Check the weight."""
        if self.weight < 0:
            raise DeclarationError(f"weight must be at least 0, got weight={self.weight}")

    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Return the kept mask [L,E,H_kv,C]."""
        if self.weight == 0:
            return TopK().select(view, scores, shares)
        protected = keep_protected(view, shares)
        n_picks = shares - protected.sum(dim=-1)
        signature = self.signature(view)
        candidates, seeds = view.candidates, protected if self.seed_with_protected else torch.zeros_like(protected)
        inputs = (signature, scores, candidates, seeds, n_picks)
        # One ranking for all heads (mode "global"): the greedy loop runs once per row and is shared.
        if all(bool((x == x[:1, :, :1]).all()) for x in (*inputs, view.positions)):
            picked = self.greedy(*(x[:1, :, :1] for x in inputs)).expand_as(protected)
        else:
            picked = self.greedy(*inputs)
        return protected | picked

    def signature(self, view: View) -> Tensor:
        """Return unit value signatures per slot, [L,E,H_kv,C,D] float32; free slots and zero values stay zero."""
        values = view.values.float().masked_fill(~view.valid[..., None], 0.0)
        if self.scope == "global":
            values = gather_heads(values, view.positions, view.valid, view.width, over="both", how="mean")
        return values / (values.norm(dim=-1, keepdim=True) + 1e-8)

    def greedy(self, signature: Tensor, scores: Tensor, candidates: Tensor, seeds: Tensor, n_picks: Tensor) -> Tensor:
        """Pick `n_picks` [L,E,H] candidates one after the other; ties go to the later slot. Returns bool [L,E,H,C]."""
        similarity = signature @ signature.mT  # [L,E,H,C,C]
        lowest = 0.0 if self.floor else -torch.inf
        closest = similarity.masked_fill(~seeds[..., None, :], lowest).amax(dim=-1)
        n_slots = scores.shape[-1]
        gain_floor = torch.finfo(scores.dtype).min
        # Flipped slots: argmax returns the first maximum, which must be the most recent token.
        scores, closest = scores.flip(-1), closest.flip(-1)
        similarity, open_ = similarity.flip(-1, -2), candidates.flip(-1)
        picked = torch.zeros_like(open_)
        for step in range(int(n_picks.max())):
            penalty = closest.masked_fill(closest == -torch.inf, 0.0)  # nothing chosen yet: no penalty
            gain = (scores - self.weight * penalty).clamp(min=gain_floor).masked_fill(~open_, -torch.inf)
            best = gain.argmax(dim=-1, keepdim=True)
            take = (n_picks > step)[..., None]
            picked.scatter_(-1, best, picked.gather(-1, best) | take)
            open_ = open_ & ~picked
            row = similarity.gather(-2, best[..., None].expand(*best.shape, n_slots))[..., 0, :]
            closest = torch.maximum(closest, row)
        return picked.flip(-1)
