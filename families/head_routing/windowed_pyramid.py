"""The same window of newest tokens in every layer, and shares of the other tokens that fall from layer to layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from designspace.axes import Geometry, HeadRouting, View
from designspace.axes.shares import largest_remainder
from families.head_routing.pyramid import pyramid_shares


@dataclass(frozen=True)
class WindowedPyramid(HeadRouting):
    """Give every layer the same window of newest tokens, and lower layers more of the other tokens [sharma2025minikv].

    Of a budget of b tokens, every head holds its newest w = `window` b tokens, rounded down. The other b - w are shared
    out among the layers along a straight line, from 2 (b - w) - (b - w) / `beta` in the first layer to (b - w) / `beta`
    in the last. The newest tokens rank above all others, for which their scores are replaced. This is exact with the
    selector `top-k`; other selectors add terms of their own. What a scoring protects counts in the window, which holds
    at least that many tokens.

    In the original, window and pyramid are parts of the prompt's length; here the budget is given, and is the same for
    prompts of any length. Shares are rounded by largest remainder, so that the total is exact, and a layer whose share
    exceeds the tokens present hands the rest to the others. The original rounds each layer down and hands nothing on.

    Attributes:
        window: part of the budget that every layer spends on its newest tokens, in [0, 1); 0.5 by default, as in the
            original.
        beta: mean share of the other tokens divided by that of the last layer, at least 1; 7 by default. 1 gives every
            layer the same.
    """

    kind: ClassVar[str] = "windowed-pyramid"
    citation: ClassVar[str | None] = "sharma2025minikv"

    window: Annotated[float, Ge(0), Lt(1)] = 0.5
    beta: Annotated[float, Ge(1)] = 7.0

    def n_window(self, target: Tensor, protected: int) -> Tensor:
        """Return the tokens of the window at targets [E], [E] int64."""
        part = (self.window * target.double() + 1e-9).floor().long()
        return part.clamp(min=protected).minimum(target.long())

    def shares(self, target: int, n_window: int, n_layers: int) -> Tensor:
        """Return real-valued shares of the layers, [L] float64."""
        return n_window + pyramid_shares(target - n_window, n_layers, self.beta)

    def adapt(self, view: View, scores: Tensor) -> Tensor:
        """Return scores [L,E,H_kv,C] in which the tokens of the window come first."""
        n_window = self.n_window(view.target, view.n_protected)
        newest = view.valid & (view.positions >= (view.next_position - n_window)[None, :, None, None])
        highest = scores.masked_fill(~view.valid, -torch.inf).amax(dim=-1, keepdim=True)
        return torch.where(newest, highest + highest.abs() + 1, scores)

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv] for targets [E]; those of a layer's heads are equal up to rounding."""
        geometry, n_window = view.geometry, self.n_window(target, view.n_protected)
        per_layer = [
            self.shares(row_target, row_window, geometry.n_layers)
            for row_target, row_window in zip(target.tolist(), n_window.tolist(), strict=True)
        ]
        real = torch.stack(per_layer)[..., None].expand(-1, -1, geometry.n_kv_heads).flatten(1)  # [E, L*H]
        shares = largest_remainder(real.to(target.device), target.long() * geometry.n_heads_total)
        return shares.view(-1, geometry.n_layers, geometry.n_kv_heads).permute(1, 0, 2)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the share of the first layer."""
        n_window = int(self.n_window(torch.tensor([target]), protected))
        return int(self.shares(target, n_window, geometry.n_layers)[0]) + 1
