"""Confidence intervals for an accuracy. The unit of inference is the problem, never problem x replicate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_RESAMPLES = 10_000
BOOTSTRAP_SEED = 20260514
_DRAWS_PER_BLOCK = 2_000_000  # bounds the memory of the resampled indices to 16 MB


@dataclass(frozen=True)
class Interval:
    """A two-sided interval and the name of the method that made it."""

    low: float
    high: float
    method: str


def accuracy_interval(correct_by_problem: Mapping[str, Sequence[bool]], level: float = 0.95) -> Interval:
    """Return the interval of the mean accuracy over problems.

    One generation per problem gives Wilson's interval; several give a cluster bootstrap over problems, on the mean of
    each problem's generations.

    Args:
        correct_by_problem: the outcomes of each problem's generations, at least one each.
        level: confidence.

    Raises:
        ValueError: there are no problems, or one has no generations.
    """
    if not correct_by_problem or not all(correct_by_problem.values()):
        raise ValueError("accuracy_interval needs at least one problem and one generation of each")
    outcomes = [correct_by_problem[name] for name in sorted(correct_by_problem)]  # the bootstrap draws by position
    if all(len(values) == 1 for values in outcomes):
        return proportion_interval(sum(bool(values[0]) for values in outcomes), len(outcomes), level=level)
    means = [sum(map(bool, values)) / len(values) for values in outcomes]
    if max(means) == min(means):
        # Resampling equal values gives an interval of width zero, which claims certainty that nobody has.
        alike = proportion_interval(round(means[0] * len(means)), len(means), level=level)
        return Interval(alike.low, alike.high, "wilson over problems")
    return cluster_bootstrap(means, level=level)


def proportion_interval(
    n_correct: int, n_total: int, method: Literal["wilson", "exact"] = "wilson", level: float = 0.95
) -> Interval:
    """Return Wilson's score interval, or the exact one of Clopper and Pearson, for a proportion."""
    from scipy.stats import binomtest  # 1.1 s cold

    found = binomtest(n_correct, n_total).proportion_ci(level, method)
    return Interval(float(found.low), float(found.high), method)


def cluster_bootstrap(
    problem_means: Sequence[float],
    *,
    resamples: int = BOOTSTRAP_RESAMPLES,
    seed: int = BOOTSTRAP_SEED,
    level: float = 0.95,
) -> Interval:
    """Resample problems with replacement and return the percentile interval of the mean.

    The indices are those of `numpy.random.default_rng(seed).integers(0, n, size=(resamples, n))`, so the same input
    always gives the same interval.

    Args:
        problem_means: one value per problem, the average over its replicates.
        resamples: number of bootstrap samples.
        seed: of the index generator.
        level: confidence.
    """
    means = resampled_means(np.asarray(problem_means, dtype=np.float64), resamples, seed)
    low, high = np.percentile(means, [50 * (1 - level), 50 * (1 + level)])
    return Interval(float(low), float(high), "cluster bootstrap over problems")


def resampled_means(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return [resamples] means of resampled problems, by the indices that `cluster_bootstrap` names.

    values: [n_problems] float64.
    """
    generator = np.random.default_rng(seed)
    block = max(1, _DRAWS_PER_BLOCK // len(values))
    means = np.empty(resamples)
    for start in range(0, resamples, block):  # drawing in blocks yields the same stream as one call
        rows = min(block, resamples - start)
        means[start : start + rows] = values[generator.integers(0, len(values), size=(rows, len(values)))].mean(axis=1)
    return means
