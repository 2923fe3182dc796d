"""After-event sizes that change from round to round: rounding them, following them, and the way back to one size.

A round is a compression event. The size of a row after it is the start of the next k steps. A start of s tokens costs s
+ (k+1)/2 attended tokens on average, whether the row was compressed or not. A size may fall by any amount, but a row
grows by one token per step only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from designspace.axes import IntOrTensor, split_half
from families.cadence.every_k import EveryKSchedule


@dataclass(frozen=True)
class RoundSchedule(EveryKSchedule):
    """Compress at the times of `every-k`, each time to a size of its own.

    The sizes are `rounds` in order, then the two `settled` ones in turn. Rounds are counted from the first event of the
    row, so a short prompt delays all of them. While the size of the next round is larger than the row, the row is not
    compressed and the round waits. `max_growth` is the interval: no row ever grows by more above `high`, however long
    it waits.
    """

    rounds: tuple[int, ...]
    settled: tuple[int, int]

    def target(self, n_events: IntOrTensor) -> IntOrTensor:
        """Return the size of round `n_events`."""
        n = len(self.rounds)
        if isinstance(n_events, Tensor):
            index = torch.where(n_events < n, n_events, n + (n_events - n) % 2)
        else:
            index = n_events if n_events < n else n + (n_events - n) % 2
        return pick((*self.rounds, *self.settled), index)


def pick(table: tuple[int, ...], index: IntOrTensor) -> IntOrTensor:
    """Return entries of a table of integers: one for an int, a tensor of the same shape for a tensor."""
    if isinstance(index, Tensor):
        return torch.tensor(table, dtype=index.dtype, device=index.device)[index.long()]
    return table[index]


def round_schedule(
    rounds: Sequence[int],
    starts: Sequence[int],
    *,
    size: float,
    interval: int,
    prefill: bool,
    steady_mean: float | None = None,
) -> RoundSchedule:
    """Return the schedule that goes through `rounds`, then returns to `size` (in halves) and stays there.

    starts: the starts that `follow` returns for the rounds. steady_mean: None takes the mean over the rounds.
    """
    back = _way_back(starts[-1] + interval, size, interval, max(rounds))
    settled = split_half(size)
    sizes = (*rounds, *back, *settled)
    return RoundSchedule(
        low=min(sizes),
        high=max(sizes),
        max_growth=interval,
        steady_mean=sum(starts) / len(starts) + (interval + 1) / 2 if steady_mean is None else steady_mean,
        interval=interval,
        prefill=prefill,
        rounds=(*rounds, *back),
        settled=settled,
    )


def whole_sizes(sizes: Sequence[float], total: float) -> list[int]:
    """Round sizes that never rise so that they add up to `total` (rounded half up) and still never rise.

    Sizes with the largest fractions are rounded up; of equal fractions, the earlier one.
    """
    floors = [int(size // 1) for size in sizes]
    by_fraction = sorted(range(len(sizes)), key=lambda i: floors[i] - sizes[i])
    for i in by_fraction[: int(total + 0.5) - sum(floors)]:
        floors[i] += 1
    return floors


def follow(rounds: Sequence[int], interval: int, n_intervals: int) -> tuple[list[int], int]:
    """Return the starts of `n_intervals` intervals from the first event on, and the number of events in them.

    `rounds` must hold a size for each interval. If the row has to grow first, the last sizes are not reached.
    """
    starts, used = [rounds[0]], 1
    while len(starts) < n_intervals:
        grown = starts[-1] + interval
        cut = grown > rounds[used]
        starts.append(rounds[used] if cut else grown)
        used += cut
    return starts, used


def nearest_half(size: float) -> float:
    """Return the nearest multiple of one half."""
    return cast(int, (size * 2 + 0.5) // 1) / 2


def _way_back(grown: int, size: float, interval: int, highest: int) -> list[int]:
    """Return the rounds that lead a row of `grown` tokens up to `size` and make up for the tokens missing on the way.

    A row that has to grow for more than an interval holds less than `size` in the meantime. It then goes on to a size
    above, by as much as it was below but not above `highest`. It stays there until the mean is the same as without the
    detour, to within one token in one interval.
    """
    overshoot = int(min(highest, 2 * size - grown))
    for top in range(overshoot, int(size), -1):
        passed = range(grown, top + 1, interval)  # the starts of intervals that begin without a cut
        debt = size * len(passed) - sum(passed)
        if debt >= top - size:
            n_rounds, rest = divmod(debt, top - size)
            return [top] * int(n_rounds) + [int(size + rest)] * (rest > 0)
    return []
