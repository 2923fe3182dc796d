"""The interval beside a p value suits the data and covers the truth."""

from __future__ import annotations

import numpy as np
import pytest

from designspace.statistics import difference_interval
from tests.designspace.statistics.test_permutation import scores_of


def test_one_generation_per_problem_gets_tangos():
    """Golden value of 12 against 3 among 50."""
    found = difference_interval(scores_of([1] * 12 + [-1] * 3 + [0] * 35))
    assert found.method == "tango"
    assert (found.low, found.high) == pytest.approx((0.0313863, 0.3298878), abs=1e-6)


def test_replicates_get_t():
    """Mean and standard error by hand: (2/3, 0, 1/3, 0) has mean 1/4, variance 11/108, t(3) = 3.1824."""
    found = difference_interval(scores_of([2 / 3, 0, 1 / 3, 0], 3))

    half = 3.182446 * np.sqrt(11 / 108 / 4)
    assert found.method == "t"
    assert (found.low, found.high) == pytest.approx((0.25 - half, 0.25 + half), abs=1e-6)


def test_the_interval_stays_within_what_accuracies_allow():
    """Two problems far apart: t alone would leave [-1, 1]."""
    found = difference_interval(scores_of([1, 0.5], 2))
    assert (found.low, found.high) == (-1, 1)


def test_equal_differences_keep_a_width():
    """+1/2 in each of 20 problems counts like 10 of 20 one way."""
    found = difference_interval(scores_of([0.5] * 20, 2))
    assert found.method == "tango over problems"
    assert 0.2 < found.low < 0.5 < found.high < 0.8


@pytest.mark.parametrize(("n", "replicates"), [(30, 8), (200, 3)])
def test_coverage_with_heterogeneous_problems(n, replicates):
    """About 95 % of intervals hold a true effect of 0.08 whose size varies between problems."""
    generator = np.random.default_rng(n)
    held = []
    for _ in range(400):
        before = generator.uniform(0.2, 0.6, n)
        after = before + generator.choice([-0.1, 0.26], n)
        steps = generator.binomial(replicates, after) - generator.binomial(replicates, before)
        found = difference_interval(scores_of(steps / replicates, replicates))
        held.append(found.low <= 0.08 <= found.high)
    assert 0.92 <= np.mean(held) <= 0.98
