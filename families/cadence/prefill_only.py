"""Cut the prompt once; generated tokens are never evicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from designspace.axes import Budget, Cadence, IntOrTensor, Schedule
from designspace.errors import InfeasibleBudget
from families.cadence.interval import after_event_size


class PrefillOnlySchedule(Schedule):
    """Due right after a prompt that is above the after-event size."""

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether this is the prompt and it is too long."""
        return (step == 0) & (size > self.high)

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the kept prompt and everything generated."""
        return min(self.high, n_prompt) + n_steps


@dataclass(frozen=True)
class PrefillOnly(Cadence):
    """Cut the prompt to c, then let the cache grow: SnapKV's native form.

    A nominal budget is c. Mean and peak depend on the length T of the text: they are c + (T+1)/2 and c + T, so they are
    accepted for a known length only, given as `horizon`. There is one event, so a half token cannot alternate: c is
    rounded down, and the mean is at most half a token below the budget. Texts of another length have another mean.

    The cache grows with the text whatever the horizon, so there is no steady mean and no steady peak, and reports
    compare what was measured. A horizon taken from finished texts is information that a running system does not have.

    Attributes:
        horizon: decode steps for which a mean or a peak holds; None where the length is not known.
    """

    kind: ClassVar[str] = "prefill-only"
    citation: ClassVar[str | None] = "li2024snapkv"
    bounded: ClassVar[bool] = False

    horizon: Annotated[int, Ge(1)] | None = None

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule.

        Raises:
            InfeasibleBudget: for a mean or a peak without a horizon, or with one that leaves no token of the prompt;
                the message names the largest feasible horizon.
        """
        if budget.of == "nominal":
            size = budget.tokens
        elif self.horizon is None:
            raise InfeasibleBudget(
                f"cadence 'prefill-only' has no steady mean or peak for an unknown length, got a {budget.of} of "
                f"{budget.tokens} tokens; use {{tokens: {budget.tokens}, of: nominal}}"
            )
        else:
            size = int(after_event_size(self.kind, "horizon", self.horizon, budget))
        return PrefillOnlySchedule(low=size, high=size, max_growth=0, steady_mean=None)
