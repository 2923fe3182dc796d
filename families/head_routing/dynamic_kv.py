"""DynamicKV: the layers compete for tokens at every compression event."""

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
    """Give each layer its part of the best tokens of all layers, up to a maximum [zhou2024dynamickv].

    Let b' be the target without the protected tokens. Layer l's tokens among the L H_kv b' best candidates of all heads
    are counted, and its share is proportional to that count. It is at most `ratio_max` b' per head, and at most the
    tokens that its heads hold. The surplus of a maximum goes to the other layers by their counts. Totals of layers are
    rounded by largest remainder, then divided evenly among the heads, lower heads first; protected tokens come on top.
    The published method decides layer by layer while the prompt is read; here all layers are compared at every event.
    The released code rounds down at three places, for up to two tokens per head and layer, and gives the rest to the
    last layer.

    Attributes:
        ratio_max: the most that a layer may get, in multiples of b', at least 1; 10 by default.
        normalise: how each head's scores are scaled before they compete. "auto" (the default): "none" if the scoring
            says that its scores are comparable between heads, else "min-max". "min-max": scaled to [0, 1]. "none": as
            they are.
    """

    kind: ClassVar[str] = "dynamic-kv"
    citation: ClassVar[str | None] = "zhou2024dynamickv"
    follows_scores: ClassVar[bool] = True

    ratio_max: Annotated[float, Ge(1)] = 10.0
    normalise: Literal["auto", "none", "min-max"] = "auto"

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv] for targets [E]; within a layer they differ by at most one."""
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
        """Return how many of the `total` [E] best candidates of all heads belong to each layer, [E,L]."""
        raw = self.normalise == "none" or (self.normalise == "auto" and view.comparable_scores)
        scores = scores if raw else scaled(scores, view.candidates)
        pool, flat = (x.transpose(0, 1).flatten(1) for x in (view.candidates, scores))  # [E, L*H*C]
        won = highest(flat, pool, total)
        return won.unflatten(1, (view.geometry.n_layers, -1)).sum(dim=-1)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the maximum of a layer, or less if all slots of all layers are less."""
        free = max(target - protected, 0)
        return target - free + math.ceil(free * min(self.ratio_max, geometry.n_layers))


def pour(weights: Tensor, total: Tensor, most: Tensor) -> Tensor:
    """Divide `total` [E] in proportion to `weights` [E,N], no part above `most` [E,N].

    All float64. The surplus of a part at its maximum goes to the others. If no weight is left, the rest shares evenly.
    If every part is at its maximum, the sum stays below the total.
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
