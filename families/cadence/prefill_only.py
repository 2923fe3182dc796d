"""Cut the prompt once; generated tokens are never evicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from designspace.axes import Cadence
from designspace.errors import InfeasibleBudget
from designspace.schedule import Budget, IntOrTensor, Schedule


class PrefillOnlySchedule(Schedule):
    """Due right after a prompt that is above the budget."""

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether this is the prompt and it is too long."""
        return (step == 0) & (size > self.high)

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the kept prompt and everything generated."""
        return min(self.high, n_prompt) + n_steps


@dataclass(frozen=True)
class PrefillOnly(Cadence):
    """Cut the prompt to the budget, then let the cache grow: SnapKV's native form.

    It has no steady mean for an unknown length, so only a nominal budget is accepted, and reports call it unmatched.
    """

    kind: ClassVar[str] = "prefill-only"
    citation: ClassVar[str | None] = "li2024snapkv"
    bounded: ClassVar[bool] = False

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule for a nominal budget.

        Raises:
            InfeasibleBudget: for a mean or a peak, which depend on a length that is not known.
        """
        if budget.of != "nominal":
            raise InfeasibleBudget(
                f"cadence 'prefill-only' has no steady mean or peak for an unknown length, got a {budget.of} of "
                f"{budget.tokens} tokens; use {{tokens: {budget.tokens}, of: nominal}}"
            )
        return PrefillOnlySchedule(low=budget.tokens, high=budget.tokens, slack=0, steady_mean=None)
