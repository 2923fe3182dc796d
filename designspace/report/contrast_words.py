"""How a contrast is spelt, the same wherever it is shown."""

from __future__ import annotations

from designspace.report.contrasts import ALPHA, Contrast
from designspace.report.wording import MISSING

HOW_TO_READ = (
    "Differences of accuracy in percentage points, paired by problem. The contrasts of one budget are one family: intervals "
    f"hold together with {100 * (1 - ALPHA):.0f} % confidence, and p is two-sided and corrected for their number (Bonferroni). "
    "Since p is exact and the interval is not, the two may differ near zero. Void: the arms held different memory, or share "
    "too few problems."
)


def points(contrast: Contrast) -> str:
    """Return the difference in percentage points with its sign, e.g. `-27.5`, or `void`."""
    return "void" if contrast.points is None else f"{contrast.points:+.1f}"


def points_interval(contrast: Contrast) -> str:
    """Return the corrected interval in percentage points, e.g. `-51.0 to -4.4`."""
    if contrast.low_points is None or contrast.high_points is None:
        return MISSING
    return f"{contrast.low_points:+.1f} to {contrast.high_points:+.1f}"


def p_value(contrast: Contrast) -> str:
    """Return the corrected p value, e.g. `0.0166`; the smallest ones as a bound."""
    if contrast.p_value is None:
        return MISSING
    return "< 0.0001" if contrast.p_value < 0.0001 else f"{contrast.p_value:.4f}"


def turned(contrast: Contrast) -> str:
    """Return in how many problems the arm is better and worse, of how many, e.g. `1 / 12 / 40`."""
    if contrast.n_better is None:
        return f"{MISSING} / {MISSING} / {contrast.n_problems}"
    return f"{contrast.n_better} / {contrast.n_worse} / {contrast.n_problems}"
