"""Ada-KV: the heads of a layer compete for its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from designspace.axes import Composition, Geometry, HeadRouting, Schedule, View
from designspace.axes.ranking import rank_descending, scaled
from designspace.axes.shares import largest_remainder


@dataclass(frozen=True)
class AdaKV(HeadRouting):
    """Let the heads of a layer compete for its tokens by their scores [feng2024adakv].

    A top-k over all heads of a layer decides how many tokens each head keeps. Let b' be the target without the
    protected tokens, and n_h the number of head h's tokens among the H_kv b' best candidates of the layer. A safeguard
    gives each head a minimum. The two published safeguards are different methods. "floor" gives each head its own best
    floor(floor b') tokens and lets the others compete. "blend" mixes n_h with the uniform share, (1 - floor) n_h +
    floor b', rounded by largest remainder (the rounding of the released code does not keep the total).

    Attributes:
        floor: strength of the safeguard, in [0, 1]; 0.2 by default. 1 is `uniform`.
        safeguard: "floor" (the default) or "blend".
        normalise: how each head's scores are scaled before they compete. "auto" (the default): "none" if the scoring
            says that its scores are comparable between heads, else "min-max". "min-max": scaled to [0, 1]. "none": as
            they are. "mass": the option of the released code, which multiplies the scores of a head by the share of
            their sum that its best b' tokens hold.
    """

    kind: ClassVar[str] = "ada-kv"
    citation: ClassVar[str | None] = "feng2024adakv"
    follows_scores: ClassVar[bool] = True

    floor: Annotated[float, Ge(0), Le(1)] = 0.2
    safeguard: Literal["floor", "blend"] = "floor"
    normalise: Literal["auto", "none", "min-max", "mass"] = "auto"

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """Heads that cannot outdo each other, or are not let to, all keep the same number of tokens."""
        if self.floor == 1:
            return "a floor of 1 gives every head the same share"
        if geometry is not None and geometry.n_kv_heads == 1:
            return "a layer of this model has one KV head, so no head competes with another"
        return super().idle_reason(mechanism, schedule, geometry)

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv] for scores [L,E,H_kv,C] and targets [E]; each layer's total is exact."""
        free = (target.long() - view.n_protected).clamp(min=0)  # [E]
        scores = self._comparable(view, scores, free)
        if self.safeguard == "floor":
            certain = (self.floor * free.double() + 1e-9).floor().long()
            return self._compete(view, scores, free, certain) + (target.long() - free)[None, :, None]
        won = self._compete(view, scores, free, torch.zeros_like(free)).double()
        real = (1 - self.floor) * won + self.floor * free[None, :, None] + (target.long() - free)[None, :, None]
        return largest_remainder(real, (target.long() * view.geometry.n_kv_heads)[None].expand(real.shape[0], -1))

    def _comparable(self, view: View, scores: Tensor, free: Tensor) -> Tensor:
        """Return scores [L,E,H_kv,C] that may compete across heads."""
        how = ("none" if view.comparable_scores else "min-max") if self.normalise == "auto" else self.normalise
        if how == "min-max":
            return scaled(scores, view.candidates)
        return top_mass(scores, view.candidates, free) if how == "mass" else scores

    def _compete(self, view: View, scores: Tensor, free: Tensor, certain: Tensor) -> Tensor:
        """Return how many of the layer's H_kv * free places each head wins, [L,E,H_kv].

        free: [E], places per head. certain: [E], the best tokens of each head that need not compete.
        """
        n_layers, n_rows, n_heads, n_slots = scores.shape
        own = view.candidates & (rank_descending(scores, view.candidates) < certain[None, :, None, None])
        pool = (view.candidates & ~own).reshape(n_layers, n_rows, -1)
        places = n_heads * free[None, :] - own.sum(dim=(2, 3))
        rank = rank_descending(scores.reshape(n_layers, n_rows, -1), pool)
        won = (pool & (rank < places[..., None])).view(n_layers, n_rows, n_heads, n_slots).sum(dim=-1)
        shares = own.sum(dim=-1) + won
        # Fewer candidates than places: what nobody can fill is spread evenly, and capped later.
        idle = n_heads * free[None, :] - shares.sum(dim=-1)
        spread = idle[..., None] // n_heads + (torch.arange(n_heads, device=idle.device) < idle[..., None] % n_heads)
        return shares + spread

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the share of a head that wins every contested place of its layer."""
        free = max(target - protected, 0)
        contested = (1 - self.floor) * free * (geometry.n_kv_heads - 1)
        return target + int(contested) + geometry.n_kv_heads


def top_mass(scores: Tensor, mask: Tensor, n_best: Tensor) -> Tensor:
    """Multiply each head's masked scores [L,E,H,C] by the share of their sum that its `n_best` [E] highest ones hold."""
    held = scores.masked_fill(~mask, 0.0)
    best = held.masked_fill(rank_descending(scores, mask) >= n_best[None, :, None, None], 0.0)
    share = best.sum(dim=-1, keepdim=True) / held.sum(dim=-1, keepdim=True).clamp(min=1e-30)
    return held * share
