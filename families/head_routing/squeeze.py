"""SqueezeAttention: layers whose attention changes the residual stream little give tokens to the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Le
from torch import Tensor

from designspace.axes import Composition, Geometry, HeadRouting, Needs, Schedule, View
from designspace.axes.shares import largest_remainder

_TIE = 1e-12  # groupings whose squared deviations differ by less, relative to that of one group, differ by rounding


@dataclass(frozen=True)
class Squeeze(HeadRouting):
    """Give fewer tokens to the layers whose attention changes the residual stream least [wang2024squeeze].

    The change is measured by the cosine between the residual stream before and after attention, averaged over the
    prompt. Layers are put into three groups by cosine, and those of the highest mean get `p` of the budget. The groups
    are the exact optimum of one-dimensional 3-means over the layers (the published clustering starts from random
    seeds); equal cosines stay together, and of equally good groupings the one with the smallest top group counts. With
    budget b and G layers in the top group, these get p b tokens and the others b (L - p G) / (L - G), rounded by
    largest remainder. No layer gets less than its protected tokens.

    Attributes:
        p: part of the budget that layers of the top group keep, in (0, 1]; 0.35 by default, published 0.3 to 0.4. 1 is
            `uniform`.
    """

    kind: ClassVar[str] = "squeeze"
    citation: ClassVar[str | None] = "wang2024squeeze"

    p: Annotated[float, Gt(0), Le(1)] = 0.35

    def needs(self) -> Needs:
        """Return the need for the cosines of the layers over the prompt."""
        return Needs(layer_cosine=True)

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """Say so where the parameter makes it `uniform`."""
        return "p=1 gives every layer the same share" if self.p == 1 else None

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv] for targets [E]; those of a layer's heads are equal up to rounding."""
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
    """Return which of each row's numbers [E,N] are in the highest of three groups, [E,N] bool.

    The groups are those of least squared deviation. Equal numbers are never separated, so all numbers are in the group
    if all are equal.
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
