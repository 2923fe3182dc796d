"""The smallest p value of a design is one that its own test gives, and no outcome gives a smaller one."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from designspace.statistics import (
    BetaAccuracies,
    StudyDesign,
    can_reject,
    equivalence,
    estimate_power,
    non_inferiority,
    paired_test,
    problems_needed,
    resamples_needed,
    smallest_p_value,
)
from tests.designspace.statistics.test_permutation import scores_of


def design(**changed):
    """Return a design of twelve problems with three generations each."""
    return StudyDesign(**{"accuracies": BetaAccuracies(1, 1), "n_problems": 12, "n_replicates": 3, **changed})


@pytest.mark.parametrize("resamples", [1, 20, 100, 5_000])
@pytest.mark.parametrize("test", ["sign_flip", "cluster_bootstrap"])
@pytest.mark.parametrize("n", [2, 5, 12, 40])
def test_the_clearest_outcome_has_it(test, n, resamples):
    """All problems solved by the arm alone, by the registered test itself."""
    found = paired_test(scores_of([1] * n, 3), test, resamples=resamples, seed=3).p_value
    expected = smallest_p_value(design(test=test, n_problems=n, resamples=resamples))

    assert found >= expected - 1e-12
    if resamples == 5_000 or 2**n <= resamples:  # with few draws, one of them may come as far by luck
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("test", ["mcnemar_exact", "sign_flip", "cluster_bootstrap"])
def test_no_outcome_of_four_problems_gives_a_smaller_one(test):
    """Every outcome of one generation each."""
    expected = smallest_p_value(design(test=test, n_problems=4, n_replicates=1, resamples=400))
    found = [
        paired_test(scores_of(steps), test, **({} if test == "mcnemar_exact" else {"resamples": 400})).p_value
        for steps in product((-1, 0, 1), repeat=4)
    ]

    assert min(found) == pytest.approx(expected)


@pytest.mark.parametrize("replicates", [1, 2])
@pytest.mark.parametrize(("test", "margin_test"), [("non_inferiority", non_inferiority), ("equivalence", equivalence)])
def test_no_outcome_of_a_margin_test_gives_a_smaller_one(test, margin_test, replicates):
    """Every outcome of four problems, by the tests of the analysis."""
    expected = smallest_p_value(design(test=test, margin=0.3, n_problems=4, n_replicates=replicates))
    levels = np.arange(-replicates, replicates + 1) / replicates
    found = [margin_test(scores_of(steps, replicates), 0.3).p_value for steps in product(levels, repeat=4)]

    assert min(found) == pytest.approx(expected)


def test_a_hundred_resamples_cannot_reject_one_of_eight():
    """1 / 101 exceeds 0.05 / 8; 159 resamples would do, and 158 would not."""
    few = design(n_problems=100, resamples=100, n_comparisons=8)

    assert smallest_p_value(few) == pytest.approx(1 / 101)
    assert not can_reject(few)
    assert resamples_needed(few) == 159
    assert can_reject(replace(few, resamples=159))
    assert not can_reject(replace(few, resamples=158))
    assert estimate_power(few, 0.3, simulations=200).power == 0


@pytest.mark.parametrize("test", ["sign_flip", "cluster_bootstrap"])
@pytest.mark.parametrize("m", [1, 3, 8, 20, 38])
def test_the_number_of_resamples_is_the_fewest(test, m):
    """One less cannot reject."""
    many = design(test=test, n_problems=500, n_comparisons=m)
    needed = resamples_needed(many)

    assert can_reject(replace(many, resamples=needed))
    assert not can_reject(replace(many, resamples=needed - 1))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"test": "sign_flip"}, 6),
        ({"test": "sign_flip", "n_comparisons": 8}, 9),
        ({"test": "mcnemar_exact", "n_replicates": 1}, 6),
        ({"test": "cluster_bootstrap", "n_comparisons": 4}, 8),
    ],
)
def test_the_number_of_problems_is_the_fewest(changed, expected):
    """2^(1-n) must be at most alpha / m."""
    assert problems_needed(design(**changed)) == expected
    assert not can_reject(design(**changed, n_problems=expected - 1))


@pytest.mark.parametrize("replicates", [1, 4])
@pytest.mark.parametrize("test", ["non_inferiority", "equivalence"])
def test_margins_need_problems_too(test, replicates):
    """Within 3 points, arms that never differ show it from some number of problems on."""
    small = design(test=test, margin=0.03, n_replicates=replicates, n_problems=2)
    needed = problems_needed(small)

    assert can_reject(replace(small, n_problems=needed))
    assert not can_reject(replace(small, n_problems=needed - 1))
    assert resamples_needed(small) is None
