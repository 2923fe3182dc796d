"""Some heads look far back, the others hold a few first and newest tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from designspace.axes import Geometry, HeadRouting, Needs, View
from designspace.axes.shares import largest_remainder

ARTEFACT = "duo-gate"


@dataclass(frozen=True)
class Duo(HeadRouting):
    """DuoAttention [xiao2024duoattention] at a bounded budget: retrieval heads rank by the scoring, streaming heads by age.

    The published retrieval heads hold everything, so their cache grows with the text and matches no budget b. Here streaming
    heads hold S tokens and each of the share rho of retrieval heads (b - (1 - rho) S) / rho, rounded by largest remainder.
    Which heads retrieve says the calibration "duo-gate", not training: the largest gates, ties to the lower (layer, head).
    A streaming head's scores are replaced: its first `sinks` positions, then the newest. That is exact with the selector
    "top-k"; others add terms of their own.

    Attributes:
        retrieval: share rho of retrieval heads, rounded to whole heads, at least one; 1 is uniform. The published models of
            grouped queries run with 0.5.
        stream: S as a part of b; the published S is a fixed 320. At least `sinks` and one token, and what is protected.
        sinks: first positions that a streaming head holds before the newest ones.
    """

    kind: ClassVar[str] = "duo"
    citation: ClassVar[str | None] = "xiao2024duoattention"

    retrieval: Annotated[float, Gt(0), Le(1)] = 0.5
    stream: Annotated[float, Gt(0), Le(1)] = 0.25
    sinks: Annotated[int, Ge(0)] = 4

    def needs(self) -> Needs:
        """Return the calibration of the gates."""
        return Needs(calibrations=(ARTEFACT,))

    def n_retrieval(self, geometry: Geometry) -> int:
        """Return how many heads retrieve."""
        return max(math.floor(self.retrieval * geometry.n_heads_total + 0.5), 1)

    def sizes(self, target: Tensor, geometry: Geometry, protected: int) -> tuple[Tensor, Tensor]:
        """Return what a retrieval and what a streaming head holds at targets [E], float64; the latter are whole numbers."""
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
        """Return the scores [L,E,H_kv,C] with those of streaming heads replaced by sinks first, then recency."""
        position = view.positions
        age_rank = torch.where(position < self.sinks, view.width + self.sinks - position, position)
        age_rank = age_rank.masked_fill(~view.valid, 0).float()
        return torch.where(self.retrieves(view)[:, None, :, None], scores, age_rank)

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv]."""
        geometry = view.geometry
        far, near = self.sizes(target, geometry, view.n_protected)
        real = torch.where(self.retrieves(view).flatten(), far[:, None], near[:, None])  # [E, L*H]
        shares = largest_remainder(real, target.long() * geometry.n_heads_total)
        return shares.view(-1, geometry.n_layers, geometry.n_kv_heads).permute(1, 0, 2)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return a retrieval head's share."""
        return math.ceil(float(self.sizes(torch.tensor(target), geometry, protected)[0]))
