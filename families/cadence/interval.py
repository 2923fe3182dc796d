"""How a block cadence chooses its interval, and which after-event size a budget leaves it."""

from __future__ import annotations

from typing import Literal

from designspace.axes import Budget
from designspace.errors import DeclarationError, InfeasibleBudget


def check_horizon(horizon: int, interval: int | Literal["auto"]) -> None:
    """Check that the decode steps over which sizes change are at least two intervals.

    Raises:
        DeclarationError: the horizon is shorter.
    """
    if interval != "auto" and horizon < 2 * interval:
        raise DeclarationError(
            f"horizon must be at least {2 * interval} decode steps (two intervals), got horizon={horizon}, k={interval}"
        )


def resolve_interval(value: int | Literal["auto"], longest: int, budget: Budget) -> int:
    """Return the interval as given, or for "auto" the largest power of two within half of the budget and `longest`.

    A nominal budget leaves the interval free, so "auto" is then `longest`, the published interval.
    """
    if value != "auto":
        return value
    if budget.of == "nominal":
        return longest
    interval = 1
    while interval * 2 <= min(budget.tokens / 2, longest):
        interval *= 2
    return interval


def after_event_size(kind: str, parameter: str, interval: int, budget: Budget) -> float:
    """Return the (possibly half-integer) after-event size c for a block cadence.

    Raises:
        InfeasibleBudget: c would be below one; the message names the largest feasible interval.
    """
    reserve = {"mean": (interval + 1) / 2, "nominal": 0.0, "peak": float(interval)}[budget.of]
    size = budget.tokens - reserve
    if size >= 1:
        return size
    largest = 2 * budget.tokens - 3 if budget.of == "mean" else budget.tokens - 1
    hint = f"the largest feasible {parameter} is {largest}" if largest >= 1 else "no interval is feasible"
    raise InfeasibleBudget(
        f"cadence {kind!r} with {parameter}={interval} cannot hold a {budget.of} of {budget.tokens} tokens "
        f"(after-event size {size:g}); {hint}"
    )
