"""Budgets and schedules: the exact arithmetic of when a row is cut and to what size.

Step timing (`t = 1, 2, …`): the new token is appended (attended size `m_t`), attention runs over all of it, then the row
may be cut (resident size `n_t`). Step 0 is the prompt. A budget is a statement about the mean of `m_t`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from designspace.axes.renamed import SCHEDULE_METHODS, refuse_former_names

IntOrTensor = TypeVar("IntOrTensor", int, Tensor)


@dataclass(frozen=True)
class Schedule(ABC):
    """A cadence bound to a budget.

    After-event sizes alternate between `low` and `high` (equal, or one apart where the mean asks for a half token), so
    the long-run mean is exact. `steady_mean` is the mean attended size between events, None if there is none.
    """

    low: int
    high: int
    max_growth: int
    steady_mean: float | None

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Refuse a subclass that overrides a method of the contract by its former name."""
        super().__init_subclass__(**keywords)
        refuse_former_names(cls, SCHEDULE_METHODS)

    @property
    def steady_peak(self) -> int | None:
        """The largest attended size between events; None where the cache grows with the text."""
        return None if self.steady_mean is None else self.high + self.max_growth

    @abstractmethod
    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether rows at this decode step, attended size and number of past events are cut now.

        Works alike on ints and on tensors [B]; the result is boolean.
        """

    def target(self, n_events: IntOrTensor) -> IntOrTensor:
        """Return the after-event size of a row that has had `n_events` events."""
        return self.low + (self.high - self.low) * (n_events % 2)

    def smallest_size(self, n_prompt: int) -> int:
        """Return the smallest size that an event leaves of a row with this prompt; default: `low`."""
        return self.low

    def largest_size(self, n_prompt: int, n_steps: int) -> int:
        """Return the largest size that an event within `n_steps` leaves of a row with this prompt; default: `high`."""
        return self.high

    def steps_until_due(self, step: int, size: int, n_events: int, horizon: int) -> int:
        """Return after how many more steps a row that is not cut before is due; `horizon` where it is not due by then."""
        ahead = torch.arange(1, horizon + 1)
        due = torch.as_tensor(self.due(step + ahead, size + ahead, torch.full_like(ahead, n_events)))
        return int(due.int().argmax()) + 1 if bool(due.any()) else horizon

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the largest attended size that a row with this prompt can reach within `n_steps`."""
        return min(self.high + self.max_growth, n_prompt + n_steps)

    def row_schedule(self) -> RowSchedule:
        """Return a fresh account of one row's progress through this schedule."""
        return RowSchedule(self)

    def simulate(self, n_prompt: int, n_steps: int, signals: Sequence[float] | None = None) -> list[int]:
        """Return the attended sizes `m_1 … m_T` of a row, in exact integers, without any model.

        `signals`: what the cadence's signal says at steps 1 … T, for cadences that have one. This is the reference that
        the engine's ledger must equal. Where the cadence has a least score, sizes follow from the scores: then these are
        those of a row all of whose tokens reach it, the largest that there can be.
        """
        row_schedule, size, attended = self.row_schedule(), n_prompt, []
        for step in range(n_steps + 1):
            if step > 0:
                size += 1
                attended.append(size)
            if row_schedule.due(step, size, signals[step - 1] if signals is not None and step > 0 else None):
                size = min(size, row_schedule.target())
                row_schedule.cut()
        return attended


class RowSchedule:
    """One row's progress through its schedule: asked once per step whether the row is cut now, and to what size."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.n_events = 0

    @property
    def sees_every_step(self) -> bool:
        """Whether `due` must be asked after every step, as it may remember what it was told: true where it is overridden."""
        return type(self).due is not RowSchedule.due

    def due(self, step: int, size: int, signal: float | None) -> bool:
        """Return whether the row is cut after this step; step 0 is the prompt, size the attended size."""
        return bool(self.schedule.due(step, size, self.n_events))

    def steps_until_due(self, step: int, size: int, horizon: int) -> int:
        """Return for how many steps `due` need not be asked: 1 where it must see every step."""
        if self.sees_every_step:
            return 1
        return self.schedule.steps_until_due(step, size, self.n_events, horizon)

    def target(self) -> int:
        """Return the size to cut to now."""
        return self.schedule.target(self.n_events)

    def cut(self) -> None:
        """Note that the row has been cut."""
        self.n_events += 1

    def copy(self) -> RowSchedule:
        """Return a copy, for a row that may return to this point."""
        return copy(self)


def split_half(target: float) -> tuple[int, int]:
    """Return the two integers that alternate to give a target in halves, e.g. 39.5 -> (39, 40)."""
    low = int(target // 1)
    return low, low if low == target else low + 1
