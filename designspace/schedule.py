"""Budgets and schedules: the exact arithmetic of when a row is cut and to what size.

Step timing (`t = 1, 2, …`): the new token is appended (attended size `m_t`), attention runs over all of it, then the row
may be cut (resident size `n_t`). Step 0 is the prompt. A budget is a statement about the mean of `m_t`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, TypeVar

from torch import Tensor

from designspace.errors import DeclarationError

Reading = Literal["mean", "nominal", "peak"]
IntOrTensor = TypeVar("IntOrTensor", int, Tensor)


@dataclass(frozen=True, order=True)
class Budget:
    """Tokens per (layer, KV head), and what the number means.

    `mean`: attended tokens averaged over decode steps in the steady state; `nominal`: size right after an event (the
    reading of most published codes); `peak`: the largest attended size.
    """

    tokens: int
    of: Reading = "mean"

    def __post_init__(self) -> None:
        """Refuse budgets below one token."""
        if self.tokens < 1:
            raise DeclarationError(f"a budget must be at least 1 token, got tokens={self.tokens}")

    def __str__(self) -> str:
        """Return `64` for a mean and `64 nominal` or `64 peak` otherwise: the label used in the store and the report."""
        return str(self.tokens) if self.of == "mean" else f"{self.tokens} {self.of}"


@dataclass(frozen=True)
class Schedule(ABC):
    """A cadence bound to a budget.

    After-event sizes alternate between `low` and `high` (equal, or one apart where the mean asks for a half token), so
    the long-run mean is exact. `steady_mean` is the mean attended size between events, None if there is none.
    """

    low: int
    high: int
    slack: int
    steady_mean: float | None

    @property
    def steady_peak(self) -> int | None:
        """The largest attended size between events; None where the cache grows with the text."""
        return None if self.steady_mean is None else self.high + self.slack

    @abstractmethod
    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether rows at this decode step, attended size and number of past events are cut now.

        Works alike on ints and on tensors [B]; the result is boolean.
        """

    def target(self, n_events: IntOrTensor) -> IntOrTensor:
        """Return the after-event size of a row that has had `n_events` events."""
        return self.low + (self.high - self.low) * (n_events % 2)

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the largest attended size that a row with this prompt can reach within `n_steps`."""
        return min(self.high + self.slack, n_prompt + n_steps)

    def simulate(self, n_prompt: int, n_steps: int) -> list[int]:
        """Return the attended sizes `m_1 … m_T` of a row, in exact integers, without any model.

        This is the reference that the engine's ledger must equal.
        """
        size, n_events, attended = n_prompt, 0, []
        for step in range(n_steps + 1):
            if step > 0:
                size += 1
                attended.append(size)
            if self.due(step, size, n_events):
                size, n_events = min(size, self.target(n_events)), n_events + 1
        return attended


def split_half(target: float) -> tuple[int, int]:
    """Return the two integers that alternate to give a target in halves, e.g. 39.5 -> (39, 40)."""
    low = int(target // 1)
    return low, low if low == target else low + 1
