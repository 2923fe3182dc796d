"""Never compress: the cache grows with the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, zeros_like

from designspace.axes import Budget, Cadence, IntOrTensor, Schedule


class NeverSchedule(Schedule):
    """No row is ever due."""

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return False for every row."""
        return zeros_like(step).bool() if isinstance(step, Tensor) else False

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the whole length."""
        return n_prompt + n_steps


@dataclass(frozen=True)
class Never(Cadence):
    """No event at all; the budget does not apply."""

    kind: ClassVar[str] = "never"
    compresses: ClassVar[bool] = False
    bounded: ClassVar[bool] = False

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule without events, whatever the budget."""
        return NeverSchedule(low=1, high=1, max_growth=0, steady_mean=None)
