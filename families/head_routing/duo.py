"""DuoAttention: retrieval heads look far back, streaming heads hold a few first and newest tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from designspace.axes import Composition, Geometry, HeadRouting, Needs, Schedule, View
from designspace.axes.shares import largest_remainder

ARTEFACT = "duo-gate"


@dataclass(frozen=True)
class Duo(HeadRouting):
    """Give retrieval heads more tokens; streaming heads hold only first and newest ones [xiao2024duoattention].

    In the published method retrieval heads hold everything, so their cache grows with the text and matches no budget b.
    Here streaming heads hold S tokens. Each retrieval head holds (b - (1 - rho) S) / rho tokens, rounded by largest
    remainder, where rho is the share of retrieval heads. The calibration "duo-gate" decides which heads are retrieval
    heads: those with the largest gates, ties to the lower (layer, head). The published gate is trained; this one is
    computed from mean queries and keys, as kvpress does on the fly. `designspace calibrate MODEL --head-scores FILE` takes
    a trained one. A streaming head holds `sinks` first positions and
    then its newest ones, for which its scores are replaced. This is exact with the selector `top-k`; other selectors
    add terms of their own. With the gate on the fly, kvpress gives streaming heads 128 first and 256 newest tokens,
    more than a small budget; here they have 4 first ones and a part of the budget.

    Attributes:
        retrieval: share rho of retrieval heads, in (0, 1], rounded to whole heads, at least one; 0.5 by default, as in
            the published models with grouped queries. 1 is `uniform`.
        stream: S as a part of b, in (0, 1]; 0.25 by default. S holds at least `sinks` and one more token, and the
            protected tokens. The published S is always 320 tokens.
        sinks: number of first positions that a streaming head holds before the newest ones; 4 by default.
    """

    kind: ClassVar[str] = "duo"
    citation: ClassVar[str | None] = "xiao2024duoattention"
    divisible: ClassVar[bool] = False  # a streaming head holds first and newest tokens, whichever part they are of

    retrieval: Annotated[float, Gt(0), Le(1)] = 0.5
    stream: Annotated[float, Gt(0), Le(1)] = 0.25
    sinks: Annotated[int, Ge(0)] = 4

    def needs(self) -> Needs:
        """Return the calibration that measured the gates."""
        return Needs(calibrations=(ARTEFACT,))

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """Say so where the parameter makes it `uniform`."""
        return "retrieval=1 makes every head a retrieval head" if self.retrieval == 1 else None

    def n_retrieval(self, geometry: Geometry) -> int:
        """Return the number of retrieval heads."""
        return max(math.floor(self.retrieval * geometry.n_heads_total + 0.5), 1)

    def sizes(self, target: Tensor, geometry: Geometry, protected: int) -> tuple[Tensor, Tensor]:
        """Return the sizes of a retrieval and of a streaming head at targets [E], both [E] float64.

        The size of a streaming head is a whole number.
        """
        n_total, n_retrieval = geometry.n_heads_total, self.n_retrieval(geometry)
        mean = target.double()
        stream = (self.stream * mean + 1e-9).floor().clamp(min=max(self.sinks + 1, protected)).minimum(mean)
        return (mean * n_total - (n_total - n_retrieval) * stream) / n_retrieval, stream

    def retrieves(self, view: View) -> Tensor:
        """Return which heads are retrieval heads, [L,H_kv] bool."""
        gate = view.geometry.held(view.artefact(ARTEFACT)["gate"])
        order = torch.argsort(gate.flatten(), descending=True, stable=True)
        chosen = torch.zeros(gate.numel(), dtype=torch.bool)
        chosen[order[: self.n_retrieval(view.geometry)].cpu()] = True
        return chosen.view(gate.shape).to(view.positions.device)

    def adapt(self, view: View, scores: Tensor) -> Tensor:
        """Return scores [L,E,H_kv,C] in which streaming heads prefer their sinks, then their newest tokens."""
        position = view.positions
        age_rank = torch.where(position < self.sinks, view.width + self.sinks - position, position)
        age_rank = age_rank.masked_fill(~view.valid, 0).float()
        return torch.where(self.retrieves(view)[:, None, :, None], scores, age_rank)

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv] for targets [E]."""
        geometry = view.geometry
        far, near = self.sizes(target, geometry, view.n_protected)
        real = torch.where(self.retrieves(view).flatten(), far[:, None], near[:, None])  # [E, L*H]
        shares = largest_remainder(real, target.long() * geometry.n_heads_total)
        return shares.view(-1, geometry.n_layers, geometry.n_kv_heads).permute(1, 0, 2)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the share of a retrieval head."""
        return math.ceil(float(self.sizes(torch.tensor(target), geometry, protected)[0]))
