"""The default test: flip the signs of per-problem mean differences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from designspace.statistics.difference_interval import difference_interval
from designspace.statistics.paired import FloatArray, PairedScores
from designspace.statistics.parameters import check_positive
from designspace.statistics.result import PairedResult

SIGN_FLIP_RESAMPLES = 100_000  # a p value at 0.0125 is then known to +-0.0007
SIGN_FLIP_SEED = 20260514
_DRAWS_PER_BLOCK = 1_000_000
_DECIMALS = 10  # sums of multiples of 1/3 must tie exactly where they tie on paper


def sign_flip(
    scores: PairedScores,
    *,
    resamples: int = SIGN_FLIP_RESAMPLES,
    seed: int = SIGN_FLIP_SEED,
    level: float = 0.95,
) -> PairedResult:
    """Test that the mean difference is zero by flipping the sign of each problem's difference, two-sided.

    Exact under the null that arm and baseline are exchangeable within each problem. For the wider null of a zero mean
    it supposes symmetric differences, so with few problems and skewed effects it is approximate; the interval beside it
    (Tango's with one generation per problem, else t) does not suppose that.

    Args:
        scores: the pairs.
        resamples: sign patterns to draw. All patterns are enumerated instead where there are no more than that.
        seed: of the draws.
        level: confidence of the interval.
    """
    p_value, enumerated = sign_flip_p_value(scores.differences, resamples=resamples, seed=seed)
    interval = difference_interval(scores, level)
    return PairedResult(
        test="sign_flip",
        effect=scores.effect,
        low=interval.low,
        high=interval.high,
        level=level,
        interval=interval.method,
        p_value=p_value,
        n_problems=scores.n_problems,
        n_replicates=scores.n_replicates,
        n_resamples=enumerated or resamples,
        seed=None if enumerated else seed,
    )


def sign_flip_p_value(
    differences: FloatArray, *, resamples: int = SIGN_FLIP_RESAMPLES, seed: int = SIGN_FLIP_SEED
) -> tuple[float, int]:
    """Return the two-sided p value and the number of patterns enumerated, 0 where they were drawn.

    Problems without a difference change no pattern's sum and are dropped first. Enumeration: the share of sign patterns
    with |sum| at least the observed one, the observed pattern included. Draws: (count + 1) / (resamples + 1), which is
    never zero [phipson2010].

    Args:
        differences: [n_problems].
        resamples: patterns to draw, or the most to enumerate.
        seed: of `numpy.random.default_rng`.
    """
    from scipy.stats import permutation_test

    check_positive(resamples=resamples)
    moving = differences[np.abs(differences) > 10.0**-_DECIMALS]
    if moving.size < 2:  # either sign of one difference lies as far from zero
        return 1.0, 2**moving.size
    found = permutation_test(
        (moving,),
        _absolute_sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _DRAWS_PER_BLOCK // len(moving)),
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    n_patterns = 2 ** len(moving)
    return float(found.pvalue), n_patterns if n_patterns <= resamples else 0


def chance_of_one_sign(n_problems: int) -> float:
    """Return the chance that the signs of all differences agree, either way, where each is as likely + as -."""
    return 2.0 ** (1 - n_problems)


def _absolute_sum(values: FloatArray, axis: int) -> NDArray[np.float64]:
    """Return |sum|, rounded so that equal sums of fractions compare equal."""
    return np.round(np.abs(values.sum(axis=axis)), _DECIMALS)
