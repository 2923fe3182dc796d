"""Cut every k decode steps, to one size in the early rounds and to another in the late ones, at a matched mean."""

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
    """Every k steps, cut to one of two sizes: small then large (step-up), or large then small (step-down).

    Round-indexed budgets [sun2026minimal]. Rounds are events, counted from the row's first one; of J = horizon // k
    intervals the first `switch` part has the first size. A step-up takes time: the row is not cut while it grows, one
    token per step, to the larger size; this may take half of the intervals after the step. For a mean budget both sizes
    are found by bisection such that the J intervals, growth included, have the budget as their mean attended size, to
    within 1/J token; to that end some rounds get a token or two more than others. A nominal budget is the larger
    after-event size, a peak budget the larger size plus k.

    After the horizon the size is constant at the horizon's mean, as in `every-k`; a row that has to grow to it repays
    what it was short of, as in `annealed`. The published text does not say how large the steps are or when they come:
    `ratio`, `switch` and `horizon` are ours.

    Attributes:
        direction: "step-up" or "step-down".
        ratio: larger size over smaller size, above 1.
        k: interval in decode steps, or "auto": as in `every-k`, but at most half the horizon.
        switch: the part of the horizon that comes before the step, in (0, 1); at least one interval lies on each side.
        horizon: decode steps over which the mean is matched; whole intervals of it are used.
        longest: the upper bound for "auto".
        prefill: also cut right after the prompt, when it is above the first size.
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
        """Return why these rounds cannot be, or None."""
        if min(rounds) < 1:
            return "the smaller size is below one token"
        n, n_first = len(rounds), self._n_first(len(rounds))
        starts, used = follow(rounds, k, n)
        n_growing = sum(start < min(rounds[n_first:]) for start in starts[n_first:])
        if used == n_first or 2 * n_growing > n - n_first:
            return f"at one token per step, growth takes more than half of what horizon={self.horizon} leaves after the step"
        return None

    def _refusal(self, reason: str, size: float, k: int, budget: Budget) -> InfeasibleBudget:
        """Return the refusal, with the largest ratio in hundredths that is feasible."""
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
    """Deal single tokens to the rounds until the starts add up to `wanted` as nearly as they can.

    The last round before the step gets none: it would lift the whole of the growth that follows it. On either side of the
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
