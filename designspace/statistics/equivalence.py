"""Claims of no harm: non-inferiority and equivalence within a registered margin.

Failing to find a difference is no evidence that there is none; these tests ask the question that is meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from designspace.statistics.difference_interval import alike, difference_interval
from designspace.statistics.paired import PairedScores
from designspace.statistics.parameters import check_open_unit
from designspace.statistics.tango import tango_z


@dataclass(frozen=True)
class MarginResult:
    """What a test against a margin says.

    Attributes:
        test: `non_inferiority` or `equivalence`.
        method: `tango`, `tango over problems` or `t`.
        margin: the largest loss (equivalence: difference either way) that counts as none, in accuracy.
        effect: mean over problems of arm - baseline.
        low: lower end of the two-sided interval at 1 - 2 alpha; non-inferior where it lies above -margin.
        high: upper end; equivalent where the whole interval lies inside the margin.
        alpha: level of each one-sided test.
        p_value: of the null that the arm is worse than the margin (equivalence: different by more than it).
        n_problems: the sample size.
        n_replicates: generations per problem and arm.
    """

    test: Literal["non_inferiority", "equivalence"]
    method: str
    margin: float
    effect: float
    low: float
    high: float
    alpha: float
    p_value: float
    n_problems: int
    n_replicates: int


def non_inferiority(scores: PairedScores, margin: float, *, alpha: float = 0.05) -> MarginResult:
    """Test that the arm loses less than `margin`, one-sided.

    One right-or-wrong generation per problem: Tango's score statistic at -margin. Several: the t test on per-problem
    means. Equal differences have no spread, so Tango's statistic over problems stands in for t.

    Args:
        scores: the pairs.
        margin: registered, in accuracy: 0.02 is two points.
        alpha: level of the test; the interval is at 1 - 2 alpha.
    """
    above, _, method = _one_sided(scores, margin)
    return _result("non_inferiority", scores, margin, alpha, method, above)


def equivalence(scores: PairedScores, margin: float, *, alpha: float = 0.05) -> MarginResult:
    """Test that the arm differs by less than `margin` either way: two one-sided tests [schuirmann1987].

    The methods and arguments are those of `non_inferiority`; p is the larger of the two.
    """
    above, below, method = _one_sided(scores, margin)
    return _result("equivalence", scores, margin, alpha, method, max(above, below))


def _one_sided(scores: PairedScores, margin: float) -> tuple[float, float, str]:
    """Return the p values against "at or below -margin" and "at or above margin", and the method."""
    from scipy.stats import norm

    check_open_unit(margin=margin)
    n = scores.n_problems
    if not scores.binary and not alike(scores.differences):
        from statsmodels.stats.weightstats import ttost_paired

        _, (_, above, _), (_, below, _) = ttost_paired(scores.arm, scores.baseline, -margin, margin)
        return float(above), float(below), "t"
    if scores.binary:
        (only_arm, only_baseline), method = scores.discordant, "tango"
    else:
        total = round(scores.effect * n)
        only_arm, only_baseline, method = max(0, total), max(0, -total), "tango over problems"
    above = norm.sf(tango_z(only_arm, only_baseline, n, -margin))
    below = norm.cdf(tango_z(only_arm, only_baseline, n, margin))
    return float(above), float(below), method


def _result(
    test: Literal["non_inferiority", "equivalence"],
    scores: PairedScores,
    margin: float,
    alpha: float,
    method: str,
    p_value: float,
) -> MarginResult:
    check_open_unit(alpha=2 * alpha)
    interval = difference_interval(scores, 1 - 2 * alpha)
    return MarginResult(
        test=test,
        method=method,
        margin=margin,
        effect=scores.effect,
        low=interval.low,
        high=interval.high,
        alpha=alpha,
        p_value=p_value,
        n_problems=scores.n_problems,
        n_replicates=scores.n_replicates,
    )
