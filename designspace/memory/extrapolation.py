"""From what was measured small to what it is at full size: bytes grow with a size along a line or a parabola."""

from __future__ import annotations

from collections.abc import Callable

_BENT = 0.02  # a second difference below this share of the largest value is no curvature but rounding to whole blocks


def extrapolate_linear(measure: Callable[[int], int], size: int, at: tuple[int, int]) -> int:
    """Return what `measure` gives at `size`, beyond the second of two sizes along the line through both."""
    low, high = at
    if size <= high:
        return measure(size)
    first, second = measure(low), measure(high)
    return second + -(-(second - first) * (size - high) // (high - low))


def extrapolate_quadratic(measure: Callable[[int], int], size: int, at: tuple[int, int, int]) -> int:
    """Return what `measure` gives at `size`, beyond the last of three evenly spaced sizes along the parabola through them.

    What bends downwards, or hardly, goes on along the last line.
    """
    low, middle, high = at
    if size <= high:
        return measure(size)
    first, second, third = measure(low), measure(middle), measure(high)
    bend = third - 2 * second + first
    steps = (size - high) / (high - middle)
    if bend < _BENT * third:
        return third + int((third - second) * steps)
    return third + int((third - second) * steps + bend * steps * (steps + 1) / 2)
