"""Layers whose attention hardly changes the text's representation give slots to the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Le
from torch import Tensor

from designspace.axes import Geometry, HeadRouting, Needs, View
from designspace.axes.shares import largest_remainder

_TIE = 1e-12  # groupings whose squared deviations differ by less, relative to that of one group, differ by rounding


@dataclass(frozen=True)
class Squeeze(HeadRouting):
    """SqueezeAttention [wang2024squeeze]: three groups of layers by cosine, the one of highest mean gets `p` of the budget.

    The cosine is that of the residual stream before and after attention, mean over the prompt. Groups are the exact optimum
    of one-dimensional 3-means over the layers (the published clustering is seeded at random), equal cosines together; of
    equally good groupings the one with the smallest top group counts. With budget b and G layers in the top group these get
    p b, the others b (L - p G) / (L - G), rounded by largest remainder; no layer gets less than is protected.

    Attributes:
        p: what the layers of the top group keep of the budget; 1 is uniform. Published: 0.3 to 0.4.
    """

    kind: ClassVar[str] = "squeeze"
    citation: ClassVar[str | None] = "wang2024squeeze"

    p: Annotated[float, Gt(0), Le(1)] = 0.35

    def needs(self) -> Needs:
        """Return the layers' cosines over the prompt."""
        return Needs(layer_cosine=True)

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv]; the same for all heads of a layer up to rounding."""
        geometry, budget = view.geometry, target.double()
        squeezed = top_group(view.layer_cosine.T)  # [E,L]
        n_squeezed = squeezed.sum(dim=1)
        n_others = geometry.n_layers - n_squeezed
        low = torch.maximum(self.p * budget, budget.clamp(max=view.n_protected))
        low = torch.where(n_others > 0, low, budget)
        high = (budget * geometry.n_layers - low * n_squeezed) / n_others.clamp(min=1)
        per_layer = torch.where(squeezed, low[:, None], high[:, None])
        real = per_layer[..., None].expand(-1, -1, geometry.n_kv_heads).flatten(1)  # [E, L*H]
        shares = largest_remainder(real, target.long() * geometry.n_heads_total)
        return shares.view(-1, geometry.n_layers, geometry.n_kv_heads).permute(1, 0, 2)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the share of a layer that is alone outside the top group."""
        return math.ceil(target * (1 + (1 - self.p) * (geometry.n_layers - 1)))


def top_group(numbers: Tensor) -> Tensor:
    """Return which of each row's numbers [E,N] are in the highest of three groups of least squared deviation, [E,N] bool.

    Equal numbers are never parted, so all are in it where all are equal.
    """
    ordered, n = numbers.double().sort(dim=1).values, numbers.shape[1]
    n_groups = min(3, n)
    if n_groups == 1:
        return torch.ones_like(numbers, dtype=torch.bool)
    cuts = torch.combinations(torch.arange(1, n, device=numbers.device), n_groups - 1)  # [splits, groups-1]
    edges = torch.nn.functional.pad(torch.nn.functional.pad(cuts, (1, 0)), (0, 1), value=n)
    centred = ordered - ordered.mean(dim=1, keepdim=True)
    sums, squares = (torch.nn.functional.pad(x.cumsum(dim=1), (1, 0)) for x in (centred, centred.square()))
    size = edges[:, 1:] - edges[:, :-1]
    part = sums[:, edges[:, 1:]] - sums[:, edges[:, :-1]]  # [E, splits, groups]
    deviation = squares[:, -1:] - (part.square() / size).sum(dim=-1)  # [E, splits]
    best = deviation <= deviation.amin(dim=1, keepdim=True) + _TIE * squares[:, -1:]
    start = torch.where(best, cuts[:, -1], 0).amax(dim=1)  # where the top group begins
    return numbers.double() >= ordered.gather(1, start[:, None])
