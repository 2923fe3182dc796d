"""HeadKV: a fixed share for each head, by its measured importance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor

from designspace.axes import Composition, Geometry, HeadRouting, Needs, Schedule, View
from designspace.axes.shares import largest_remainder

ARTEFACT = "head-importance"


def head_budgets(budget: float, importance: Tensor, beta: float) -> Tensor:
    """Return real-valued budgets [L,H] float64 whose mean is `budget` tokens, without the protected tokens.

    importance: [L,H], with a sum of 1. Each head gets budget (1 - 1/beta) for itself; the pool of budget/beta times L H
    is shared out by importance.
    """
    importance = importance.double()
    return budget * (1 - 1 / beta) + budget / beta * importance.numel() * importance


@dataclass(frozen=True)
class HeadKV(HeadRouting):
    """Give each head a base of tokens, and a part of a pool by its measured importance [fu2024headkv].

    The calibration "head-importance" measures the importance of query heads. Budgets are those of query heads, averaged
    over the heads that share a KV head. Protected tokens come on top; the result is rounded by largest remainder (the
    released code rounds the pool down per head). The published importance probes heads with retrieval and reasoning
    questions; ours is measured on plain text.

    Attributes:
        beta: the pool is 1/beta of the budget, beta at least 1; 1.01 by default. 1 shares out everything by importance;
            a large beta is nearly `uniform`.
        temperature: exponent of the importance, which is normalised again afterwards, at least 0; 1 by default. 0 is
            `uniform`.
    """

    kind: ClassVar[str] = "headkv"
    citation: ClassVar[str | None] = "fu2024headkv"

    beta: Annotated[float, Ge(1)] = 1.01
    temperature: Annotated[float, Ge(0)] = 1.0

    def needs(self) -> Needs:
        """Return the calibration that measured the importance."""
        return Needs(calibrations=(ARTEFACT,))

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """Say so where the parameter makes it `uniform`."""
        return "temperature=0 gives every head the same share" if self.temperature == 0 else None

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv], the same at every event of one target."""
        geometry = view.geometry
        free = (target.long() - view.n_protected).clamp(min=0)
        relative = head_budgets(1.0, self.importance(view), self.beta).to(target.device).flatten()
        real = free[:, None] * relative + (target.long() - free)[:, None]  # [E, L*H]
        shares = largest_remainder(real, target.long() * geometry.n_heads_total)
        return shares.view(-1, geometry.n_layers, geometry.n_kv_heads).permute(1, 0, 2)

    def importance(self, view: View) -> Tensor:
        """Return each KV head's part of the pool, [L,H_kv] float64, with a sum of 1."""
        measured = view.geometry.held(view.artefact(ARTEFACT)["importance"]).double()  # [L,H_q]
        sharpened = (measured / measured.amax()) ** self.temperature
        return (sharpened / sharpened.sum()).unflatten(1, (view.geometry.n_kv_heads, -1)).sum(dim=-1)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the share of a head that gets the whole pool; the measured importance is not known here."""
        free = max(target - protected, 0)
        pool = free / self.beta
        return target - free + math.ceil(free - pool + pool * geometry.n_heads_total)
