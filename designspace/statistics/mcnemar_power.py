"""Exact power of McNemar's test from the share of problems on which two arms disagree."""

from __future__ import annotations

import numpy as np

from designspace.errors import DeclarationError
from designspace.statistics.corrections import bonferroni_threshold
from designspace.statistics.paired import IntArray
from designspace.statistics.parameters import check_open_unit


def mcnemar_power(
    n_problems: int, discordance: float, effect: float, *, alpha: float = 0.05, n_comparisons: int = 1
) -> float:
    """Return the chance that the exact two-sided test rejects; no simulation.

    Args:
        n_problems: one generation each.
        discordance: chance that the arms disagree on a problem. It carries the whole calculation, so measure it on
            development problems first, two replicates of one arm at the least.
        effect: true difference of accuracies, at most the discordance in size.
        alpha: family-wise error.
        n_comparisons: registered size m of the family.
    """
    from scipy.stats import binom

    check_open_unit(discordance=discordance)
    if abs(effect) > discordance or n_problems < 1:
        raise DeclarationError(
            "effect must be at most the discordance in size and n_problems at least 1, "
            f"got effect={effect}, discordance={discordance}, n_problems={n_problems}"
        )
    threshold = bonferroni_threshold(n_comparisons, alpha)
    disagreeing = np.arange(n_problems + 1)
    critical = _critical(n_problems, threshold)
    gain = (1 + effect / discordance) / 2
    rejects = binom.cdf(critical, disagreeing, gain) + binom.cdf(critical, disagreeing, 1 - gain)
    return float(binom.pmf(disagreeing, n_problems, discordance) @ rejects)


def mcnemar_minimum_effect(
    n_problems: int,
    discordance: float,
    *,
    target_power: float = 0.8,
    alpha: float = 0.05,
    n_comparisons: int = 1,
    tolerance: float = 1e-4,
) -> float | None:
    """Return the smallest difference found with the target power, or None where even one-sided disagreement is not.

    Args:
        n_problems: one generation each.
        discordance: chance that the arms disagree on a problem.
        target_power: how often the difference must be found.
        alpha: family-wise error.
        n_comparisons: registered size m of the family.
        tolerance: width of the last bracket; the reported end has the power.
    """
    check_open_unit(target_power=target_power, tolerance=tolerance)

    def enough(effect: float) -> bool:
        found = mcnemar_power(n_problems, discordance, effect, alpha=alpha, n_comparisons=n_comparisons)
        return found >= target_power

    low, high = 0.0, discordance
    if not enough(high):
        return None
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _critical(n_problems: int, threshold: float) -> IntArray:
    """Return, for 0 to n_problems discordant problems, the largest smaller side that rejects; -1 where none does."""
    from scipy.stats import binom

    discordant = np.arange(n_problems + 1)
    count = binom.ppf(threshold / 2, discordant, 0.5)
    count = np.where(2 * binom.cdf(count, discordant, 0.5) <= threshold, count, count - 1)
    return np.nan_to_num(count, nan=-1.0).astype(np.int64)  # the quantile of no problems at all is not a number
