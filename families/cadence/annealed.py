"""Cut every k decode steps to a size that falls from generous to strict: exploration first, thrift later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

from designspace.axes import Budget, Cadence, Schedule
from designspace.errors import InfeasibleBudget
from families.cadence.interval import after_event_size, check_horizon, resolve_interval
from families.cadence.rounds import nearest_half, round_schedule, whole_sizes

_LEEWAY = 1e-3  # relative, so that a floor printed with four digits is accepted when it is typed in again
_LEFT_AT_THE_END = 0.1  # of c_hi - c_lo, for gamma "auto"


@dataclass(frozen=True)
class Annealed(Cadence):
    """Every k steps, cut to c_lo + (c_hi - c_lo) * gamma^j at round j; after the horizon, the constant size of `every-k`.

    Rounds are events, counted from the row's first one. Over J = horizon // k rounds the mean attended size is
    c_lo + (c_hi - c_lo) * (1 - gamma^J) / (J * (1 - gamma)) + (k+1)/2: for a mean budget, c_hi is the size that makes it
    the budget. A nominal budget is c_hi, the largest after-event size; a peak budget is c_hi + k. Sizes are rounded by
    largest remainder, so that the mean over the horizon is off by at most half a token in one round, 1/(2J).

    After the horizon the size is constant at the horizon's mean (to the nearest half where that is not fixed by a mean
    budget). A row grows by one token per step only: where the constant size is more than k above the last round, the
    row first grows there uncut, then stays as far above it as it was below (at most at c_hi) until the mean is right
    again. Halves alternate as in `every-k`.

    Attributes:
        k: interval in decode steps, or "auto": as in `every-k`, but at most half the horizon.
        horizon: decode steps over which the size falls; whole intervals of it are used.
        gamma: what is left of c_hi - c_lo from one round to the next, in (0, 1), or "auto": a tenth is left in the last
            round, however many there are. A gamma that is small for the number of rounds makes c_hi large, and no row
            is cut before it has grown above c_hi.
        floor: c_lo as a fraction of the budget, in (0, 1].
        longest: the upper bound for "auto".
        prefill: also cut right after the prompt, when it is above the first size.
    """

    kind: ClassVar[str] = "annealed"

    k: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    horizon: Annotated[int, Ge(2)] = 256
    gamma: Annotated[float, Gt(0), Lt(1)] | Literal["auto"] = "auto"
    floor: Annotated[float, Gt(0), Le(1)] = 0.5
    longest: Annotated[int, Ge(1)] = 128
    prefill: bool = True

    def __post_init__(self) -> None:
        """Check that the horizon holds two intervals."""
        super().__post_init__()
        check_horizon(self.horizon, self.k)

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule.

        Raises:
            InfeasibleBudget: the interval leaves no room, or the floor lies above the mean size or below one token.
        """
        k = resolve_interval(self.k, min(self.longest, self.horizon // 2), budget)
        n_rounds = self.horizon // k
        gamma = _LEFT_AT_THE_END ** (1 / (n_rounds - 1)) if self.gamma == "auto" else self.gamma
        curve = [gamma**j for j in range(n_rounds)]
        share = sum(curve) / n_rounds
        first = size = after_event_size(self.kind, "k", k, budget)
        last = self._lowest(budget, size)
        if budget.of == "mean":
            first = last + (size - last) / share
        else:
            size = last + (first - last) * share
        rounds = whole_sizes([last + (first - last) * part for part in curve], n_rounds * size)
        return round_schedule(
            rounds,
            rounds,
            size=nearest_half(size),
            interval=k,
            prefill=self.prefill,
            steady_mean=float(budget.tokens) if budget.of == "mean" else None,
        )

    def _lowest(self, budget: Budget, bound: float) -> float:
        """Return c_lo, between one token and `bound`, the mean or the largest size."""
        lowest = self.floor * budget.tokens
        if lowest * (1 + _LEEWAY) < 1:
            hint = f"c_lo is below one token; the smallest feasible floor is {1 / budget.tokens:.4g}"
        elif lowest > bound * (1 + _LEEWAY):
            what = "mean" if budget.of == "mean" else "largest"
            feasible = bound / budget.tokens
            hint = f"c_lo is above the {what} after-event size {bound:g}; the largest feasible floor is {feasible:.4g}"
        else:
            return min(max(lowest, 1.0), bound)
        raise InfeasibleBudget(
            f"cadence {self.kind!r} with floor={self.floor:g} cannot hold a {budget.of} of {budget.tokens} tokens: {hint}"
        )
