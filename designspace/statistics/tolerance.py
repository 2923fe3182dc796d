"""When two measured sizes count as the same."""

from __future__ import annotations

ROUNDING = 1e-9


def agree(value: float, reference: float, tolerance: float) -> bool:
    """Return whether `value` is at most the share `tolerance` of `reference` away from it, the bound itself included.

    Sizes are quotients of whole numbers, computed in floating point: 51 is exactly 2 % above 50, but 51 / 50 - 1 is
    0.020000000000000018, and 48.96 - 48 is more than 0.02 * 48. A distance that exceeds the bound by no more than one part
    in 10^9 of the reference (`ROUNDING`) therefore counts as the bound.
    """
    return abs(value - reference) <= (tolerance + ROUNDING) * abs(reference)
