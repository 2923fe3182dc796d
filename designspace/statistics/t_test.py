"""The t test on per-problem means, a secondary line beside the registered test."""

from __future__ import annotations

from designspace.statistics.difference_interval import alike, difference_interval
from designspace.statistics.paired import PairedScores
from designspace.statistics.permutation import chance_of_one_sign
from designspace.statistics.result import PairedResult


def t_test(scores: PairedScores, *, level: float = 0.95) -> PairedResult:
    """Test that the mean difference over problems is zero by a one-sample t, two-sided.

    Where all differences are equal there is no spread to judge by: p is 1 for zeros, else that of all signs agreeing,
    2^(1 - n_problems). The interval is the one of `difference_interval`, so Tango's with one generation per problem.
    """
    from scipy.stats import ttest_1samp

    if not alike(scores.differences):
        p_value = float(ttest_1samp(scores.differences, 0.0).pvalue)
    else:
        p_value = chance_of_one_sign(scores.n_problems) if abs(scores.effect) > 0 else 1.0
    interval = difference_interval(scores, level)
    return PairedResult(
        test="t",
        effect=scores.effect,
        low=interval.low,
        high=interval.high,
        level=level,
        interval=interval.method,
        p_value=p_value,
        n_problems=scores.n_problems,
        n_replicates=scores.n_replicates,
    )
