"""From bytes measured at small sizes to those at full size: they grow along a line or a parabola."""

from __future__ import annotations

from collections.abc import Callable

_BENT = 0.02  # a second difference below this share of the largest value is no curvature but rounding to whole blocks


def extrapolate_linear(measure: Callable[[int], int], size: int, at: tuple[int, int]) -> int:
    """Return `measure(size)`; beyond the second of two sizes, its value on the line through both."""
    low, high = at
    if size <= high:
        return measure(size)
    first, second = measure(low), measure(high)
    return second + -(-(second - first) * (size - high) // (high - low))


def extrapolate_quadratic(measure: Callable[[int], int], size: int, at: tuple[int, int, int]) -> int:
    """Return `measure(size)`; beyond the last of three evenly spaced sizes, its value on the parabola through them.

    A parabola that bends downwards, or hardly, is replaced by the line through the last two sizes.
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
