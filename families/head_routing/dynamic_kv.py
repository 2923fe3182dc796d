"""Layers compete for slots at every event."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Geometry, HeadRouting, View
from designspace.axes.ranking import highest, scaled
from designspace.axes.shares import largest_remainder


@dataclass(frozen=True)
class DynamicKV(HeadRouting):
    """DynamicKV [zhou2024dynamickv]: a layer's share is its part of the best tokens of all layers, capped.

    With b' the target less the protected tokens, layer l's tokens among the L H_kv b' best candidates of all heads are
    counted, and its share is proportional to the count, at most `ratio_max` b' per head and what its heads hold. What a cap
    leaves over goes to the other layers by their counts. Layers' totals are rounded by largest remainder, then divided
    evenly among the layer's heads, lower heads first; protected tokens come on top. The published method does this layer by
    layer while the prompt is read; here it is done at every event, over all layers at once.

    Attributes:
        ratio_max: the most a layer may get, in multiples of b'.
        normalise: what is done to each head's scores before they compete: "min-max" brings them to [0, 1], "none" takes them
            as they are, "auto" is "none" where the scoring says that its scores are comparable between heads.
    """

    kind: ClassVar[str] = "dynamic-kv"
    citation: ClassVar[str | None] = "zhou2024dynamickv"

    ratio_max: Annotated[float, Ge(1)] = 10.0
    normalise: Literal["auto", "none", "min-max"] = "auto"

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv]; within a layer they differ by at most one."""
        n_heads, n_layers = view.geometry.n_kv_heads, view.geometry.n_layers
        free = (target.long() - view.n_protected).clamp(min=0)  # [E]
        total = free * n_heads * n_layers
        counts = self._counts(view, scores, total)  # [E,L]
        most = (self.ratio_max * free * n_heads)[:, None].expand(-1, n_layers)
        held = view.candidates.sum(dim=(2, 3)).T
        real = pour(counts.double(), total.double(), torch.minimum(most, held.double()))
        # Too little is held to fill the total: what nobody can use is spread evenly, and capped later.
        real = real + pour(torch.ones_like(real), total - real.sum(dim=1), most - real)
        per_layer = largest_remainder(real, total)  # [E,L]
        head = torch.arange(n_heads, device=per_layer.device)
        shares = per_layer[..., None] // n_heads + (head < per_layer[..., None] % n_heads)
        return (shares + (target.long() - free)[:, None, None]).permute(1, 0, 2)

    def _counts(self, view: View, scores: Tensor, total: Tensor) -> Tensor:
        """Return how many of the `total` [E] best candidates of all heads each layer has, [E,L]."""
        raw = self.normalise == "none" or (self.normalise == "auto" and view.comparable_scores)
        scores = scores if raw else scaled(scores, view.candidates)
        pool, flat = (x.transpose(0, 1).flatten(1) for x in (view.candidates, scores))  # [E, L*H*C]
        won = highest(flat, pool, total)
        return won.unflatten(1, (view.geometry.n_layers, -1)).sum(dim=-1)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the cap, or less where all slots of all layers are less."""
        free = max(target - protected, 0)
        return target - free + math.ceil(free * min(self.ratio_max, geometry.n_layers))


def pour(weights: Tensor, total: Tensor, most: Tensor) -> Tensor:
    """Divide `total` [E] in proportion to `weights` [E,N], none above `most` [E,N]; what a cap leaves over goes to the rest.

    float64. Where no weight is left, the rest shares evenly; where everything is at its cap, the sum stays below the total.
    """
    full = torch.zeros_like(weights, dtype=torch.bool)
    while True:
        left = total - most.masked_fill(~full, 0.0).sum(dim=1)
        open_weights = weights.masked_fill(full, 0.0)
        weightless = open_weights.sum(dim=1, keepdim=True) == 0
        open_weights = torch.where(weightless, (~full).double(), open_weights)
        parts = left[:, None] * open_weights / open_weights.sum(dim=1, keepdim=True).clamp(min=1e-30)
        over = ~full & (parts > most)
        if not bool(over.any()):
            return torch.where(full, most, parts)
        full = full | over
