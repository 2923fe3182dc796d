"""Compression to one size in the early rounds and to another in the late rounds, at a matched mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from designspace.axes import Budget, Cadence, Schedule
from designspace.errors import InfeasibleBudget
from families.cadence.interval import after_event_size, check_horizon, resolve_interval
from families.cadence.rounds import follow, nearest_half, round_schedule, whole_sizes

_HALVINGS = 48  # of the interval in which the smaller size lies: beyond the resolution of any whole number of tokens


@dataclass(frozen=True)
class StepSchedule(Cadence):
    """Compress every k decode steps to one size in early rounds and to another in late rounds [sun2026minimal].

    The larger size comes first ("step-down") or last ("step-up"). Rounds are compression events, counted from the first
    one of the row. Of the J = horizon // k intervals, the first `switch` part has the first size.

    A step up takes time: the row is not compressed while it grows, by one token per step, to the larger size; this may
    take up to half of the intervals after the step. For a mean budget, both sizes are found by bisection, so that the J
    intervals, growth included, have the budget as their mean attended size, to within 1/J token. For that, some rounds
    get a token or two more than others. A nominal budget is the larger after-event size; a peak budget is the larger
    size plus k.

    After the horizon the size is constant at the mean of the horizon, as in `every-k`. A row that has to grow to it
    makes up for the missing tokens, as in `annealed`. The paper does not say how large the steps are or when they come:
    `ratio`, `switch` and `horizon` are ours.

    Attributes:
        direction: "step-down" (the default) or "step-up".
        ratio: larger size divided by smaller size, above 1; 1.5 by default.
        k: interval in decode steps, or "auto" (the default): chosen as in `every-k`, but at most half of the horizon.
        switch: part of the horizon before the step, in (0, 1); 0.5 by default. At least one interval lies on each side.
        horizon: number of decode steps over which the mean is matched, at least two intervals; 256 by default. Whole
            intervals of it are used.
        longest: upper bound for "auto" in decode steps, the published interval; 128 by default.
        prefill: compress right after the prompt too, if it has more tokens than the first size; on by default.
    """

    kind: ClassVar[str] = "schedule"
    citation: ClassVar[str | None] = "sun2026minimal"

    direction: Literal["step-up", "step-down"] = "step-down"
    ratio: Annotated[float, Gt(1)] = 1.5
    k: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    switch: Annotated[float, Gt(0), Lt(1)] = 0.5
    horizon: Annotated[int, Ge(2)] = 256
    longest: Annotated[int, Ge(1)] = 128
    prefill: bool = True

    def __post_init__(self) -> None:
        """Check that the horizon holds two intervals."""
        super().__post_init__()
        check_horizon(self.horizon, self.k)

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule.

        Raises:
            InfeasibleBudget: the smaller size is below one token, or growth to the larger one takes too long; the
                message names the largest feasible ratio.
        """
        k = resolve_interval(self.k, min(self.longest, self.horizon // 2), budget)
        size = after_event_size(self.kind, "k", k, budget)
        rounds = self._rounds(size, k, budget)
        reason = self._reason(rounds, k)
        if reason:
            raise self._refusal(reason, size, k, budget)
        starts, used = follow(rounds, k, len(rounds))
        return round_schedule(
            rounds[:used],
            starts,
            size=size if budget.of == "mean" else nearest_half(sum(starts) / len(starts)),
            interval=k,
            prefill=self.prefill,
            steady_mean=float(budget.tokens) if budget.of == "mean" else None,
        )

    def _n_first(self, n_rounds: int) -> int:
        return min(max(int(self.switch * n_rounds + 0.5), 1), n_rounds - 1)

    def _rounds(self, size: float, k: int, budget: Budget) -> list[int]:
        """Return a size for each interval of the horizon: `size` is their mean, or the larger one."""
        n = self.horizon // k
        if budget.of != "mean":
            return self._two_levels(int(size / self.ratio + 0.5), size, n)
        low, high = 0.0, size + 1
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            starts, _ = follow(self._two_levels(middle, middle * self.ratio, n), k, n)
            low, high = (middle, high) if sum(starts) <= n * size else (low, middle)
        return _topped_up(self._two_levels(low, low * self.ratio, n), self._n_first(n), k, n * size)

    def _two_levels(self, smaller: float, larger: float, n_rounds: int) -> list[int]:
        """Return `n_rounds` sizes whose mean is the one level before the step and the other after it."""
        before, after = (smaller, larger) if self.direction == "step-up" else (larger, smaller)
        n_before = self._n_first(n_rounds)
        n_after = n_rounds - n_before
        return whole_sizes([before] * n_before, before * n_before) + whole_sizes([after] * n_after, after * n_after)

    def _reason(self, rounds: list[int], k: int) -> str | None:
        """Return why these rounds are impossible, or None if they are possible."""
        if min(rounds) < 1:
            return "the smaller size is below one token"
        n, n_first = len(rounds), self._n_first(len(rounds))
        starts, used = follow(rounds, k, n)
        n_growing = sum(start < min(rounds[n_first:]) for start in starts[n_first:])
        if used == n_first or 2 * n_growing > n - n_first:
            return f"at one token per step, growth takes more than half of what horizon={self.horizon} leaves after the step"
        return None

    def _refusal(self, reason: str, size: float, k: int, budget: Budget) -> InfeasibleBudget:
        """Return the error, with the largest feasible ratio in hundredths."""
        feasible, infeasible = 100, int(self.ratio * 100) + 1
        while infeasible - feasible > 1:
            middle = (feasible + infeasible) // 2
            tried = replace(self, ratio=middle / 100)
            if tried._reason(tried._rounds(size, k, budget), k):
                infeasible = middle
            else:
                feasible = middle
        hint = f"the largest feasible ratio is {feasible / 100:g}" if feasible > 100 else "no ratio is feasible"
        return InfeasibleBudget(
            f"cadence {self.kind!r} with direction={self.direction}, ratio={self.ratio:g} cannot hold a {budget.of} of "
            f"{budget.tokens} tokens: {reason}; {hint}"
        )


def _topped_up(rounds: list[int], n_first: int, k: int, wanted: float) -> list[int]:
    """Add single tokens to the rounds until the starts add up to `wanted` as nearly as possible.

    The last round before the step gets none: it would raise all of the growth that follows it. On either side of the
    step sizes never rise, so that every round there is an event.
    """
    starts, used = follow(rounds, k, len(rounds))
    missing = wanted - sum(starts)
    for i in [*range(n_first, used), *range(n_first - 1)] * 3:
        if missing < 1:
            break
        tried = [*rounds[:i], rounds[i] + 1, *rounds[i + 1 :]]
        left = wanted - sum(follow(tried, k, len(tried))[0])
        if abs(left) < abs(missing) and (i in (0, n_first) or tried[i] <= tried[i - 1]):
            rounds, missing = tried, left
    return rounds
