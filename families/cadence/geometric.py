"""Compression at intervals that grow geometrically: often at first, rarely later, then the cycle starts again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import log2
from operator import mul
from typing import Annotated, ClassVar

from annotated_types import Ge

from designspace.axes import Budget, Cadence, IntOrTensor, Schedule
from designspace.errors import DeclarationError, InfeasibleBudget
from families.cadence.rounds import pick

_MOST_CYCLES = 64  # that a pattern of after-event sizes may take; then the mean is within 1/128 token of the budget
_LARGEST_GAP_BITS = 30


@dataclass(frozen=True)
class GeometricSchedule(Schedule):
    """Compress when the row has grown by the gap of its round above the size of its round.

    gaps: decode steps between events, for one cycle. sizes: after-event sizes, for one or more cycles. Both start again
    when they are used up. The first event of a row comes as soon as it holds more tokens than the first size. After a
    gap of one step an event may find the row at its size already; it then evicts nothing.
    """

    gaps: tuple[int, ...]
    sizes: tuple[int, ...]
    prefill: bool

    @property
    def period(self) -> int:
        """Number of decode steps after which sizes and gaps repeat."""
        return sum(self.gaps) * (len(self.sizes) // len(self.gaps))

    def target(self, n_events: IntOrTensor) -> IntOrTensor:
        """Return the size of round `n_events`."""
        return pick(self.sizes, n_events % len(self.sizes))

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether the row has grown by its gap; before the first event, whether there is anything to cut."""
        last = n_events - 1  # -1 before the first event: the result is not used then
        grown = size >= self.target(last) + pick(self.gaps, last % len(self.gaps))
        due: IntOrTensor = ((n_events > 0) & grown) | ((n_events == 0) & (size > self.target(n_events)))
        return due if self.prefill else due & (step > 0)

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the largest attended size; an uncut prompt is attended with the first new token."""
        settled = self.high + self.max_growth
        return min(settled if self.prefill else max(settled, n_prompt + 1), n_prompt + n_steps)


@dataclass(frozen=True)
class Geometric(Cadence):
    """Compress at gaps that grow geometrically within a cycle, and repeat the cycle.

    The gaps are kappa * rho^j decode steps, j = 0 … intervals-1, and the after-event size is c tokens. One cycle takes
    T = kappa * (rho^J - 1) / (rho - 1) steps, J = `intervals`, and has the mean attended size c + 1/2 + kappa * (rho^J
    + 1) / (2 * (rho + 1)). Gaps that are not whole are rounded cumulatively: each event comes at the step nearest to
    its exact time, and the same sum is taken over the whole gaps.

    For a mean budget, c is the size for which whole cycles have the budget as their mean. If c is not whole, sizes one
    apart are given to the events of up to 64 cycles, so that the mean over these cycles is exact, or within 1/128 token
    if no exact choice exists. A nominal budget is c. A peak budget is c plus the largest gap.

    The cache grows by the largest gap within a cycle, so the mean over a part of a cycle may be far from the budget.
    Events are triggered by size. Within a cycle that is the same as counting steps, and it takes a row through whole
    cycles whatever its prompt; the published forms leave this open.

    Attributes:
        kappa: first gap in decode steps; 4 by default.
        rho: ratio of a gap to the one before it, at least 1; 2 by default.
        intervals: number of gaps in a cycle; 4 by default.
        prefill: the first event may come right after the prompt (the default); if off, it comes after the first decode
            step at the earliest.
    """

    kind: ClassVar[str] = "geometric"

    kappa: Annotated[int, Ge(1)] = 4
    rho: Annotated[float, Ge(1)] = 2.0
    intervals: Annotated[int, Ge(1)] = 4
    prefill: bool = True

    def __post_init__(self) -> None:
        """Check that the gaps do not grow beyond any text."""
        super().__post_init__()
        if log2(self.kappa) + self.intervals * log2(self.rho) > _LARGEST_GAP_BITS:
            raise DeclarationError(
                f"kappa * rho**intervals must be at most 2**{_LARGEST_GAP_BITS} decode steps, "
                f"got kappa={self.kappa}, rho={self.rho}, intervals={self.intervals}"
            )

    def gaps(self) -> tuple[int, ...]:
        """Return one cycle of gaps, in decode steps."""
        ends, end = [0], 0.0
        for j in range(self.intervals):
            end += self.kappa * self.rho**j
            ends.append(int(end + 0.5))
        return tuple(after - before for before, after in pairwise(ends))

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule.

        Raises:
            InfeasibleBudget: c would be below one; the message names what is feasible.
        """
        gaps = self.gaps()
        low, excess = self._size(budget)
        if low < 1:
            raise self._refusal(low, budget)
        sizes = tuple(low + more for more in _dealt(gaps, excess)) if excess else (low,) * len(gaps)
        n_cycles = len(sizes) // len(gaps)
        held = sum(size * gap + _growth(gap) for size, gap in zip(sizes, gaps * n_cycles, strict=True))
        return GeometricSchedule(
            low=min(sizes),
            high=max(sizes),
            max_growth=max(gaps),
            steady_mean=held / (n_cycles * sum(gaps)),
            gaps=gaps,
            sizes=sizes,
            prefill=self.prefill,
        )

    def _size(self, budget: Budget) -> tuple[int, int]:
        """Return c rounded down, and the rest in tokens times steps of one cycle."""
        gaps = self.gaps()
        if budget.of == "mean":
            return divmod(budget.tokens * sum(gaps) - sum(map(_growth, gaps)), sum(gaps))
        return (budget.tokens if budget.of == "nominal" else budget.tokens - max(gaps)), 0

    def _refusal(self, size: int, budget: Budget) -> InfeasibleBudget:
        fewer = range(self.intervals - 1, 0, -1)
        feasible = next((n for n in fewer if replace(self, intervals=n)._size(budget)[0] >= 1), None)
        kappa = 2 * budget.tokens - 3 if budget.of == "mean" else budget.tokens - 1
        if feasible:
            hint = f"the largest feasible intervals is {feasible}"
        elif kappa >= 1:
            hint = f"no number of intervals is feasible; with intervals=1 the largest feasible kappa is {kappa}"
        else:
            hint = "no gap is feasible"
        return InfeasibleBudget(
            f"cadence {self.kind!r} with kappa={self.kappa}, rho={self.rho:g}, intervals={self.intervals} cannot hold a "
            f"{budget.of} of {budget.tokens} tokens (after-event size {size}); {hint}"
        )


def _growth(gap: int) -> int:
    """Return the sum of 1 … gap: the tokens above the after-event size that a row attends to until the next event."""
    return gap * (gap + 1) // 2


def _dealt(gaps: tuple[int, ...], excess: int) -> list[int]:
    """Return 0 or 1 more token for each event of some cycles.

    Together they are `excess` tokens times steps per cycle, over the fewest cycles for which that is possible. If it is
    possible for none, the nearest sum over the most cycles is taken.
    """
    reachable = [1]  # bit s of entry i: the first i events can come to s tokens times steps
    for n_cycles in range(1, _MOST_CYCLES + 1):
        for gap in gaps:
            reachable.append(reachable[-1] | reachable[-1] << gap)
        if reachable[-1] >> n_cycles * excess & 1:
            break
    wanted = n_cycles * excess
    nearest = (total for off in range(wanted + 1) for total in (wanted - off, wanted + off))
    left = next(total for total in nearest if reachable[-1] >> total & 1)
    dealt = []
    for i in range(len(reachable) - 1, 0, -1):
        skipped = reachable[i - 1] >> left & 1
        dealt.append(0 if skipped else 1)
        left -= 0 if skipped else gaps[(i - 1) % len(gaps)]
    return _spread(dealt[::-1], gaps, excess)


def _spread(dealt: list[int], gaps: tuple[int, ...], excess: int) -> list[int]:
    """Return the cycles in the order that keeps the running total nearest to `excess` per cycle: never a cycle off."""
    cycles = [dealt[i : i + len(gaps)] for i in range(0, len(dealt), len(gaps))]
    off, ordered = [sum(map(mul, cycle, gaps)) - excess for cycle in cycles], list[int]()
    running = 0
    while cycles:
        i = min(range(len(cycles)), key=lambda i: abs(running + off[i]))
        running += off.pop(i)
        ordered += cycles.pop(i)
    return ordered
