"""Cut when the cache has grown by a slack above its after-event size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from torch import Tensor

from designspace.axes import Budget, Cadence, IntOrTensor, Schedule, split_half
from families.cadence.interval import after_event_size, resolve_interval


@dataclass(frozen=True)
class HysteresisSchedule(Schedule):
    """Due when the attended size has reached the last after-event size plus the slack."""

    prefill: bool

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether the row is full. The first event may come right after a long prompt."""
        last = n_events - 1
        last = last.clamp(min=0) if isinstance(last, Tensor) else max(last, 0)
        due: IntOrTensor = size >= self.target(last) + self.max_growth
        return due if self.prefill else due & (step > 0)

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the largest attended size; an uncut prompt is attended with the first new token."""
        settled = self.high + self.max_growth
        return min(settled if self.prefill else max(settled, n_prompt + 1), n_prompt + n_steps)


@dataclass(frozen=True)
class Hysteresis(Cadence):
    """When m = c + slack, cut to c: mean attended size c + (slack+1)/2.

    TriAttention's "slack" trigger and R-KV's staging buffer.

    Attributes:
        slack: growth between events in tokens, or "auto" as for `every-k`.
        longest: the published slack of the method, an upper bound for "auto".
        prefill: the first event may come right after the prompt; False waits for the first decode step.
    """

    kind: ClassVar[str] = "hysteresis"
    citation: ClassVar[str | None] = "triattention2026"

    slack: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    longest: Annotated[int, Ge(1)] = 128
    prefill: bool = True

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule; half-integer sizes alternate between events so that the mean is exact."""
        slack = resolve_interval(self.slack, self.longest, budget)
        size = after_event_size(self.kind, "slack", slack, budget)
        low, high = split_half(size)
        return HysteresisSchedule(
            low=low, high=high, max_growth=slack, steady_mean=size + (slack + 1) / 2, prefill=self.prefill
        )
