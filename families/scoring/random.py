"""Random retention: the floor that every scoring must beat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from designspace.axes import Scoring, Selector, View
from designspace.axes.randomness import hash_uniform
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class Random(Scoring):
    """A priority drawn once per token, layer and head, and carried along.

    The draw is a hash of the row's random stream, layer, head and position, so the kept set at any time is the top-b of
    all past tokens' priorities (reservoir sampling), whatever the cadence.

    Attributes:
        sinks, recent: protection, the same by default as the windowed scorings have, so that it is a fair baseline.
    """

    kind: ClassVar[str] = "random"

    selector: Selector = field(default=TopK())
    recent: int = field(default=8, kw_only=True)

    def score(self, view: View) -> Tensor:
        """Return uniform priorities [L,E,H_kv,C]."""
        n_layers, _, n_heads, _ = view.positions.shape
        layer = torch.arange(n_layers, device=view.positions.device)[:, None, None, None]
        head = torch.arange(n_heads, device=view.positions.device)[None, None, :, None]
        return hash_uniform(view.streams[None, :, None, None], layer, head, view.positions)
