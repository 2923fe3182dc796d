"""The transforms give what enumeration and resampling give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from designspace.statistics import lattice
from designspace.statistics.bootstrap import resample_differences
from designspace.statistics.lattice import bootstrap_lattice, sign_flip_lattice
from designspace.statistics.mcnemar import mcnemar_p_value
from designspace.statistics.permutation import sign_flip_p_value
from tests.designspace.statistics.test_permutation import by_hand

SETS = st.integers(1, 8).flatmap(
    lambda n: st.lists(st.lists(st.integers(-4, 4), min_size=n, max_size=n), min_size=1, max_size=5)
)


@settings(deadline=None)
@given(SETS)
def test_sign_flips_agree_with_enumeration(sets):
    """Several data sets at once, every p exact."""
    assert sign_flip_lattice(np.array(sets)) == pytest.approx([float(by_hand(steps)) for steps in sets], abs=1e-12)


def by_convolution(steps):
    """Return the bootstrap p from the distribution of one drawn problem, added up problem by problem."""
    chances = {0: 1.0}
    for _ in steps:
        following: dict[int, float] = {}
        for total, chance in chances.items():
            for step in steps:
                following[total + step] = following.get(total + step, 0.0) + chance / len(steps)
        chances = following
    below = sum(chance for total, chance in chances.items() if total <= 0)
    above = sum(chance for total, chance in chances.items() if total >= 0)
    return min(1.0, 2 * min(below, above))


@settings(deadline=None)
@given(SETS)
def test_resampling_agrees_with_convolution(sets):
    """Several data sets at once, every p exact."""
    assert bootstrap_lattice(np.array(sets)) == pytest.approx([by_convolution(steps) for steps in sets], abs=1e-9)


@pytest.mark.parametrize(("n", "replicates"), [(30, 8), (200, 3), (500, 1)])
def test_both_are_the_limits_of_the_tests(n, replicates):
    """Differences from 40,000 draws are of the size of their error."""
    generator = np.random.default_rng(n)
    steps = generator.binomial(replicates, 0.5, (3, n)) - generator.binomial(replicates, 0.44, (3, n))
    for one, flip, boot in zip(steps, sign_flip_lattice(steps), bootstrap_lattice(steps), strict=True):
        assert sign_flip_p_value(one / replicates, resamples=40_000)[0] == pytest.approx(
            flip, abs=4 * np.sqrt(flip / 40_000) + 1e-4
        )
        assert resample_differences(one / replicates, resamples=40_000).p_value == pytest.approx(
            boot, abs=6 * np.sqrt(boot / 40_000) + 1e-4
        )


def test_one_generation_per_problem_is_mcnemar():
    """Exact for any number of problems, to small p values."""
    steps = np.array([[1] * 60 + [-1] * 20 + [0] * 420, [1] * 3 + [-1] * 2 + [0] * 495])
    assert sign_flip_lattice(steps) == pytest.approx([mcnemar_p_value(60, 20), mcnemar_p_value(3, 2)], abs=1e-12)


def test_the_reach_of_the_bootstrap_loses_nothing():
    """500 problems, 8 generations, far from normal: against the binomial of how often the odd problem is drawn."""
    steps = np.zeros((1, 500), dtype=np.int64)
    steps[0, 0] = 8
    assert bootstrap_lattice(steps) == pytest.approx([2 * binom.pmf(0, 500, 1 / 500)], abs=1e-9)


def test_blocks_change_nothing(monkeypatch):
    """Bounding memory leaves the numbers as they are."""
    steps = np.random.default_rng(0).integers(-3, 4, size=(50, 20))
    whole = sign_flip_lattice(steps), bootstrap_lattice(steps)
    monkeypatch.setattr(lattice, "_VALUES_PER_BLOCK", 500)

    assert sign_flip_lattice(steps).tolist() == pytest.approx(whole[0].tolist(), abs=1e-12)
    assert bootstrap_lattice(steps).tolist() == pytest.approx(whole[1].tolist(), abs=1e-12)
