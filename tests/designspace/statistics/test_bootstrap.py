"""The cluster bootstrap is the one its docstring defines."""

from __future__ import annotations

import numpy as np
import pytest

from designspace.statistics import cluster_bootstrap, cluster_bootstrap_test
from designspace.statistics.bootstrap import resample_differences
from tests.designspace.statistics.test_permutation import scores_of


def test_interval_and_p_come_from_the_same_resamples():
    """A loop over resamples, the obvious way, in integers so that zero is zero."""
    steps = np.random.default_rng(3).integers(-3, 5, size=40)
    generator = np.random.default_rng(77)
    sums = [int(steps[generator.integers(0, 40, size=40)].sum()) for _ in range(400)]
    found = resample_differences(steps / 3, resamples=400, seed=77)

    beyond = min(sum(s <= 0 for s in sums), sum(s >= 0 for s in sums))
    assert found.p_value == pytest.approx(min(1, 2 * (1 + beyond) / 401), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(np.array(sums) / 120, [2.5, 97.5])))


def test_the_interval_is_that_of_the_plain_bootstrap():
    """One stream of indices for intervals and tests."""
    scores = scores_of(np.random.default_rng(1).integers(-3, 4, size=50) / 3, 3)
    found, plain = cluster_bootstrap_test(scores), cluster_bootstrap(scores.differences.tolist())

    assert (found.low, found.high) == (plain.low, plain.high)
    assert (found.n_resamples, found.test) == (10_000, "cluster_bootstrap")


def test_sums_that_cancel_count_on_both_sides():
    """Thirds do not sum to an exact zero in floating point; they must tie all the same."""
    found = resample_differences(np.array([1 / 3, -1 / 3] * 3), resamples=2_000, seed=0)
    assert found.p_value == 1


def test_swapping_arms_mirrors_the_result():
    """Effect and interval change sign, p stays."""
    differences = np.random.default_rng(2).integers(-2, 4, size=60) / 3
    there, back = (cluster_bootstrap_test(scores_of(d, 3), seed=4) for d in (differences, -differences))

    assert back.p_value == there.p_value
    assert (back.effect, back.low, back.high) == pytest.approx((-there.effect, -there.high, -there.low))


def test_equal_differences_keep_an_interval():
    """Resampling them has no spread; Tango's interval over problems stands in."""
    found = cluster_bootstrap_test(scores_of([0] * 30, 3))

    assert found.p_value == 1
    assert found.interval == "tango over problems"
    assert found.low == pytest.approx(-0.1135, abs=1e-4)  # -z^2 / (n + z^2)


@pytest.mark.parametrize("resamples", [100, 999, 10_000])
@pytest.mark.parametrize(
    "differences", [[0.5], [1.0, 1.0], [1 / 3, 2 / 3, 1], [0.25] * 13, [1 / 3, 1] * 30, [-1.0] * 60]
)
def test_p_is_never_zero(differences, resamples):
    """Differences of one sign never cross zero: the sample itself is one resample, and few problems are little evidence."""
    found = resample_differences(np.array(differences), resamples=resamples)

    assert found.p_value == pytest.approx(min(1, max(2 / (1 + resamples), 2 ** (1 - len(differences)))), rel=1e-12)


def test_one_problem_shows_nothing():
    """Whatever it says: p is 1."""
    assert cluster_bootstrap_test(scores_of([1])).p_value == 1
    assert cluster_bootstrap_test(scores_of([-2 / 3], 3)).p_value == 1
