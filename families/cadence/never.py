"""No compression: the cache grows with the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, zeros_like

from designspace.axes import Budget, Cadence, IntOrTensor, Schedule


class NeverSchedule(Schedule):
    """A schedule under which no row is ever compressed."""

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return False for every row."""
        return zeros_like(step).bool() if isinstance(step, Tensor) else False

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the whole length."""
        return n_prompt + n_steps


@dataclass(frozen=True)
class Never(Cadence):
    """Never compress: the cache grows with the text, and the budget does not apply.

    Scoring `full` goes with this cadence, and so do representations that keep every token. There are no parameters.
    """

    kind: ClassVar[str] = "never"
    compresses: ClassVar[bool] = False
    bounded: ClassVar[bool] = False

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule without compression events, whatever the budget."""
        return NeverSchedule(low=1, high=1, max_growth=0, steady_mean=None)
