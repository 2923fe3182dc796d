"""Shares that fall from the lowest layer to the highest, along a straight line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Composition, Geometry, HeadRouting, Schedule, View
from designspace.axes.shares import largest_remainder


def pyramid_shares(budget: float, n_layers: int, beta: float, cap: float = float("inf")) -> Tensor:
    """Return real-valued shares of the layers [L] float64 whose mean is `budget` tokens, without the protected tokens.

    The last layer gets budget/beta and the first 2 budget - budget/beta. If that exceeds `cap`, the first layer gets
    `cap` and the last 2 budget - cap.
    """
    first = min(2 * budget - budget / beta, cap)
    last = 2 * budget - first
    return (
        torch.linspace(first, last, n_layers, dtype=torch.float64) if n_layers > 1 else torch.tensor([budget]).double()
    )


@dataclass(frozen=True)
class Pyramid(HeadRouting):
    """Give lower layers more tokens than higher layers, along a straight line [cai2024pyramidkv].

    Protected tokens come on top of each layer's share, so that a window of half of the budget and a `beta` of 7 give
    the layers of MiniKV [sharma2025minikv]. Shares are rounded by largest remainder, so that the total is exact; the
    released code rounds the step down and inflates the total by up to 5 %, and that of MiniKV rounds every layer down.

    Attributes:
        beta: mean share divided by the share of the last layer, at least 1; 20 by default. 1 is `uniform`.
    """

    kind: ClassVar[str] = "pyramid"
    citation: ClassVar[str | None] = "cai2024pyramidkv"

    beta: Annotated[float, Ge(1)] = 20.0

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """Say so where the parameter makes it `uniform`."""
        return "beta=1 gives every layer the same share" if self.beta == 1 else None

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv] for targets [E]; those of a layer's heads are equal up to rounding."""
        geometry, protected = view.geometry, view.n_protected
        n_present = view.counts.amax(dim=(0, 2))
        rows = []
        for row_target, row_present in zip(target.tolist(), n_present.tolist(), strict=True):
            per_layer = pyramid_shares(row_target - protected, geometry.n_layers, self.beta, row_present - protected)
            rows.append((per_layer + protected)[:, None].expand(-1, geometry.n_kv_heads).flatten())
        real = torch.stack(rows).to(target.device)  # [E, L*H]
        shares = largest_remainder(real, target.long() * geometry.n_heads_total)
        return shares.view(-1, geometry.n_layers, geometry.n_kv_heads).permute(1, 0, 2)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the share of the first layer."""
        return int(pyramid_shares(target - protected, geometry.n_layers, self.beta)[0]) + 1 + protected
