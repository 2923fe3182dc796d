"""Static routing: some heads keep evenly spaced tokens, the others follow the scoring."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor

from designspace.axes import Geometry, HeadRouting, Needs, View

ARTEFACT = "route"
_BITS = 24  # positions below 2^24, whose reversals float32 holds exactly


@dataclass(frozen=True)
class StaticRoute(HeadRouting):
    """Let some heads keep evenly spaced tokens, while the others follow the scoring [sun2026minimal].

    All heads have the same share. The calibration "route" measures for each head which of the two rules keeps more of
    the attention to come. The source names the idea but no criterion; the criterion and the spacing of `evenly_spaced`
    are ours. With the selector `top-k` a routed head keeps exactly evenly spaced tokens; other selectors add terms of
    their own.

    Attributes:
        uniform_share: None (the default): each head follows its calibrated rule. A number in [0, 1]: this share of all
            heads, rounded to whole heads, keeps evenly spaced tokens: those heads where that rule kept most relative to
            attention, ties to the lower (layer, head). The number is for models in which one rule wins in every head.
    """

    kind: ClassVar[str] = "static-route"
    citation: ClassVar[str | None] = "sun2026minimal"

    uniform_share: Annotated[float, Ge(0), Le(1)] | None = None

    def needs(self) -> Needs:
        """Return the calibration that compared the rules."""
        return Needs(calibrations=(ARTEFACT,))

    def adapt(self, view: View, scores: Tensor) -> Tensor:
        """Return scores [L,E,H_kv,C] in which routed heads have the score of `evenly_spaced`."""
        uniform = self.on_uniform(view)[:, None, :, None].to(scores.device)
        return torch.where(uniform, evenly_spaced(view.positions), scores)

    def on_uniform(self, view: View) -> Tensor:
        """Return which heads keep evenly spaced tokens, [L,H_kv] bool."""
        measured, held = view.artefact(ARTEFACT), view.geometry.held
        if self.uniform_share is None:
            return held(measured["uniform"])
        advantage = held(measured["uniform_mass"]) / held(measured["attention_mass"])
        order = torch.argsort(advantage.flatten(), descending=True, stable=True)
        chosen = torch.zeros_like(advantage, dtype=torch.bool).flatten()
        chosen[order[: math.floor(self.uniform_share * chosen.numel() + 0.5)]] = True
        return chosen.view_as(advantage)

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return the target for all heads, [L,E,H_kv]; target: [E]."""
        return target.long()[None, :, None].expand_as(view.counts)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the target."""
        return target


def evenly_spaced(positions: Tensor) -> Tensor:
    """Return a score of positions alone, in (-1, 0], whose best k are evenly spaced over any stretch, for every k.

    The score is minus the bit-reversed position (van der Corput's sequence): 0 comes first, then the middle of the
    range, then the quarters, and so on. The best k of the first n positions lie two neighbouring powers of two apart.
    For a larger n, the best k among those first positions are some of the k before. So compressing a growing text again
    and again leaves the same tokens as compressing it once.

    positions: int64 below 2^24; negative (free) ones score 0. Returns the same shape, float32.
    """
    left, reversed_bits = positions.clamp(min=0), torch.zeros_like(positions)
    for _ in range(_BITS):
        reversed_bits = (reversed_bits << 1) | (left & 1)
        left = left >> 1
    return -reversed_bits.float() * 2.0**-_BITS
