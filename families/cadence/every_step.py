"""Cut after every decode step: the cache stays at its budget, one token leaves per step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from designspace.axes import Budget, Cadence, Schedule
from designspace.errors import InfeasibleBudget
from families.cadence.every_k import EveryKSchedule


@dataclass(frozen=True)
class EveryStep(Cadence):
    """Every step, cut to c: attended size c + 1 at every steady step.

    Attributes:
        prefill: also cut right after the prompt; False waits for the first decode step.
    """

    kind: ClassVar[str] = "every-step"

    prefill: bool = True

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule: c = b - 1 for a mean or a peak of b, c = b for a nominal b."""
        target = budget.tokens if budget.of == "nominal" else budget.tokens - 1
        if target < 1:
            raise InfeasibleBudget(
                f"cadence 'every-step' needs a {budget.of} budget of at least 2 tokens, got {budget.tokens}"
            )
        return EveryKSchedule(
            low=target, high=target, max_growth=1, steady_mean=target + 1.0, interval=1, prefill=self.prefill
        )
