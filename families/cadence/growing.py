"""A cache that grows with the text: every period of generated tokens is compressed to a fraction of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt

from designspace.axes import Budget, Cadence, IntOrTensor, RowSchedule, Schedule
from designspace.errors import DeclarationError

_NO_BOUND = 2**62  # tokens: the size grows as long as the text does


@dataclass(frozen=True)
class GrowingSchedule(Schedule):
    """Compress `window + period` decode steps after the prompt, then every `period` steps, by `period - gain` tokens each.

    `target` is the size of a row with a prompt of one token; a longer prompt comes on top, which only the row knows.
    """

    period: int
    gain: int
    window: int

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether a period of decode steps has passed since the last event, or since the first window."""
        after = step - self.window
        due: IntOrTensor = (after > 0) & (after % self.period == 0)
        return due

    def target(self, n_events: IntOrTensor) -> IntOrTensor:
        """Return the after-event size after `n_events` events, with a prompt of one token."""
        return 1 + self.window + (n_events + 1) * self.gain

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the largest attended size: at the last step, or at the last one that an event follows."""
        n_events = max((n_steps - self.window) // self.period, 0)
        last_event = self.window + n_events * self.period
        return n_prompt + max(n_steps - n_events * (self.period - self.gain), self._before(last_event, n_events))

    def _before(self, step: int, n_events: int) -> int:
        """Return the tokens beyond the prompt at the step of event `n_events` (from 1 on), before it."""
        return step - (n_events - 1) * (self.period - self.gain) if n_events else 0

    def smallest_size(self, n_prompt: int) -> int:
        """Return the size after the first event."""
        return n_prompt + self.window + self.gain

    def largest_size(self, n_prompt: int, n_steps: int) -> int:
        """Return the size after the last event within `n_steps`."""
        return n_prompt + self.window + max((n_steps - self.window) // self.period, 1) * self.gain

    def row_schedule(self) -> GrowingRowSchedule:
        """Return a fresh schedule of one row."""
        return GrowingRowSchedule(self)


class GrowingRowSchedule(RowSchedule):
    """The schedule of one row, which learns at step 0 how long its prompt is."""

    n_prompt = 1

    @property
    def sees_every_step(self) -> bool:
        """When the row is due follows from its steps alone, so `due` need not be asked in between."""
        return False

    def due(self, step: int, size: int, signal: float | None) -> bool:
        """Return whether the row is cut after this step: at the end of a period, if it holds more than it may."""
        if step == 0:
            self.n_prompt = size
        return super().due(step, size, signal) and size > self.target()

    def target(self) -> int:
        """Return the size to cut to now."""
        return self.n_prompt - 1 + super().target()


@dataclass(frozen=True)
class Growing(Cadence):
    """Compress every period of generated tokens to a fraction of it; the cache grows with the text [song2025rpc].

    Event m = 0, 1, … comes at decode step window + (m + 1) period, and leaves n + (m + 1) g + window tokens per layer and KV
    head, where n is the length of the prompt and g = period / ratio, rounded down. There is no event at the prompt. Between
    events m - 1 and m a row attends to n + m g + window + (period + 1) / 2 tokens on average. In the source the prompt and the
    newest `window` tokens are kept, and the scoring ranks the others: declare `protect: prompt` and `recent` accordingly. With
    another scoring the sizes are the same.

    The size follows from these parameters and from the text. It has no budget: an arm runs once, without one, whatever the
    sweep's budgets, and tables show what it held. So it is unmatched with every other arm, and no study compares it; declare
    several values of `ratio` to see accuracy against the measured cache.

    Attributes:
        period: decode steps between events, above the ratio; 1024 by default.
        ratio: by which each period is compressed, above 1; 4 by default, as in the released runs.
        window: newest tokens that the sizes have room for, in tokens; 32 by default.
    """

    kind: ClassVar[str] = "growing"
    citation: ClassVar[str | None] = "song2025rpc"
    bounded: ClassVar[bool] = False
    is_matched: ClassVar[bool] = False

    period: Annotated[int, Ge(2)] = 1024
    ratio: Annotated[float, Gt(1)] = 4.0
    window: Annotated[int, Ge(0)] = 32

    def __post_init__(self) -> None:
        """Check that something of a period is kept."""
        super().__post_init__()
        if self.period < self.ratio:
            raise DeclarationError(f"period must be at least ratio, got period={self.period}, ratio={self.ratio:g}")

    def schedule(self, budget: Budget) -> GrowingSchedule:
        """Return the schedule, the same whatever the budget."""
        gain = int(self.period / self.ratio)
        return GrowingSchedule(
            low=1 + self.window + gain,
            high=_NO_BOUND,
            max_growth=self.period,
            steady_mean=None,
            period=self.period,
            gain=gain,
            window=self.window,
        )
