"""Tango's score test and interval for a difference of paired proportions [tango1998]."""

from __future__ import annotations

import math

from designspace.statistics.intervals import Interval
from designspace.statistics.parameters import check_open_unit

METHOD = "tango"
_BESIDE = 1e-12  # how far beside the estimate the search for an end begins


def tango_z(only_arm: int, only_baseline: int, n_problems: int, difference: float) -> float:
    """Return the score statistic of the hypothesis that the accuracies differ by `difference`.

    Positive where the arm does better than that. The variance is that under the hypothesis, with the chance that only
    the baseline solves a problem at its restricted maximum likelihood.

    Args:
        only_arm: problems that only the arm solved.
        only_baseline: problems that only the baseline solved.
        n_problems: all problems.
        difference: hypothetical accuracy of the arm less that of the baseline.
    """
    distance = only_arm - only_baseline - n_problems * difference
    variance = _variance(only_arm, only_baseline, n_problems, difference)
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def tango_interval(only_arm: int, only_baseline: int, n_problems: int, level: float = 0.95) -> Interval:
    """Return all differences that the two-sided score test does not reject.

    It has a width even with no discordant problem at all, where the bootstrap and the t interval have none.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    check_open_unit(level=level)
    squared = float(norm.ppf((1 + level) / 2)) ** 2
    estimate = (only_arm - only_baseline) / n_problems

    def excess(difference: float) -> float:
        """Return a number below 0 inside the interval and above 0 outside; a form without division."""
        distance = only_arm - only_baseline - n_problems * difference
        return distance**2 - squared * _variance(only_arm, only_baseline, n_problems, difference)

    low = -1.0 if estimate <= -1 else float(brentq(excess, -1.0, estimate - _BESIDE, xtol=1e-12))
    high = 1.0 if estimate >= 1 else float(brentq(excess, estimate + _BESIDE, 1.0, xtol=1e-12))
    return Interval(low, high, METHOD)


def _variance(only_arm: int, only_baseline: int, n: int, difference: float) -> float:
    """Return the variance of only_arm - only_baseline under the hypothesis."""
    b = -only_arm - only_baseline + (2 * n - only_arm + only_baseline) * difference
    c = -only_baseline * difference * (1 - difference)
    losses = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)  # restricted maximum likelihood
    return n * (2 * losses + difference * (1 - difference))
