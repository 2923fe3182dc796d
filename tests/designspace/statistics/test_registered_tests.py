"""Names lead to tests, and only to those that suit the data."""

from __future__ import annotations

import pytest

from designspace.errors import DeclarationError, UnknownName
from designspace.statistics import REGISTERED_TESTS, default_test, paired_test
from tests.designspace.statistics.test_permutation import scores_of

ONE = scores_of([1, 1, 1, -1, 0, 0, 1, 0])
THREE = scores_of([1 / 3, 2 / 3, -1 / 3, 0, 1, 0, 1 / 3, 1 / 3], 3)


@pytest.mark.parametrize("name", REGISTERED_TESTS)
def test_every_name_runs_and_is_recorded(name):
    """The result names the test."""
    assert paired_test(ONE, name).test == name


def test_the_default_follows_the_number_of_generations():
    """McNemar's for one, sign flips for several; the registration and the analysis agree."""
    assert (default_test(1), default_test(3)) == ("mcnemar_exact", "sign_flip")
    assert paired_test(ONE).test == "mcnemar_exact"
    assert paired_test(THREE).test == "sign_flip"


def test_parameters_reach_the_test():
    """Number of draws, seed and level."""
    found = paired_test(THREE, "cluster_bootstrap", resamples=300, seed=9, level=0.9)
    assert (found.n_resamples, found.seed, found.level) == (300, 9, 0.9)


@pytest.mark.parametrize("name", ["t", "wilcoxon", "signflip"])
def test_other_names_are_refused(name):
    """What is not in the table cannot be registered."""
    with pytest.raises(UnknownName):
        paired_test(ONE, name)


def test_a_test_that_does_not_suit_the_data_is_refused():
    """McNemar's with three generations per problem."""
    with pytest.raises(DeclarationError):
        paired_test(THREE, "mcnemar_exact")
