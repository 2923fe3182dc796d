"""Compression to sizes that fall over a horizon: much cache for exploration first, little cache later."""

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
    """Compress every k decode steps to sizes that fall from large to small over a horizon, then to one size.

    Round j of the horizon cuts to c_lo + (c_hi - c_lo) * gamma^j tokens. Rounds are compression events, counted from
    the first one of the row. After the horizon the size is constant, as in `every-k`.

    There are J = horizon // k rounds, with the mean attended size c_lo + (c_hi - c_lo) * (1 - gamma^J) / (J * (1 -
    gamma)) + (k+1)/2. For a mean budget, c_hi is the size that makes this mean equal to the budget. A nominal budget is
    c_hi, the largest after-event size; a peak budget is c_hi + k. Sizes are rounded by largest remainder, so the mean
    over the horizon is off by at most half a token in one round, that is 1/(2J).

    After the horizon the size is the mean of the horizon (rounded to the nearest half unless a mean budget fixes it;
    halves alternate as in `every-k`). A row grows by one token per step only. So if the constant size is more than k
    above the last round, the row first grows without events. Then it stays as far above the constant size as it was
    below it (at most at c_hi) until the mean is right again.

    Attributes:
        k: interval in decode steps, or "auto" (the default): chosen as in `every-k`, but at most half of the horizon.
        horizon: number of decode steps over which the size falls, at least two intervals; 256 by default. Whole
            intervals of it are used.
        gamma: factor of c_hi - c_lo from one round to the next, in (0, 1), or "auto" (the default): a tenth is left in
            the last round, however many rounds there are. A gamma that is small for the number of rounds makes c_hi
            large, and no row is compressed before it has grown above c_hi.
        floor: c_lo as a fraction of the budget, in (0, 1]; 0.5 by default.
        longest: upper bound for "auto" in decode steps, the published interval; 128 by default.
        prefill: compress right after the prompt too, if it has more tokens than the first size; on by default.
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
        """Return c_lo in tokens, between one token and `bound`, the mean or the largest size."""
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
