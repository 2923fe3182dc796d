"""McNemar's exact test on counts small enough for a pencil."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest

from designspace.errors import DeclarationError
from designspace.statistics import mcnemar_exact
from designspace.statistics.mcnemar import mcnemar_p_value
from tests.designspace.statistics.test_permutation import scores_of


@pytest.mark.parametrize(("arm", "baseline"), [(0, 0), (5, 0), (1, 6), (4, 4), (9, 2), (13, 12)])
def test_the_p_value_is_that_of_fair_coins(arm, baseline):
    """Twice the smaller tail, at most 1."""
    n, smaller = arm + baseline, min(arm, baseline)
    tail = Fraction(sum(comb(n, k) for k in range(smaller + 1)), 2**n)
    assert mcnemar_p_value(arm, baseline) == pytest.approx(float(min(1, 2 * tail)))


def test_concordant_problems_matter_to_the_interval_only():
    """The same discordance among more problems: same p, narrower interval."""
    few, many = (mcnemar_exact(scores_of([1] * 9 + [-1] * 2 + [0] * n)) for n in (19, 289))

    assert few.p_value == many.p_value
    assert few.high - few.low > many.high - many.low
    assert (few.interval, few.seed, few.n_resamples) == ("tango", None, None)


def test_several_generations_are_refused():
    """The message says what to use instead."""
    with pytest.raises(DeclarationError, match=r"n_replicates=3 \(use sign_flip"):
        mcnemar_exact(scores_of([1 / 3, 0], 3))
