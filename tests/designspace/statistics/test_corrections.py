"""Families keep their registered size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.errors import DeclarationError
from designspace.statistics import bonferroni, bonferroni_threshold, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@settings(max_examples=8, deadline=None)  # statsmodels collects garbage at every call
@given(P_VALUES, st.integers(0, 4))
def test_against_the_definitions(p_values, unrun):
    """Bonferroni: times m. Holm: times the number of nulls still standing, never falling."""
    m = len(p_values) + unrun
    stepped, highest = {}, 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (m - rank) * p_values[index]))
        stepped[index] = highest

    assert bonferroni(p_values, m).adjusted == pytest.approx([min(1.0, m * p) for p in p_values])
    assert holm(p_values, m).adjusted == pytest.approx([stepped[i] for i in range(len(p_values))])


@settings(max_examples=8, deadline=None)
@given(P_VALUES)
def test_holm_rejects_whatever_bonferroni_does(p_values):
    """And perhaps more."""
    primary, secondary = bonferroni(p_values), holm(p_values)
    assert all(second or not first for first, second in zip(primary.rejected, secondary.rejected, strict=True))


def test_a_family_does_not_shrink():
    """0.02 alone falls, as one of four registered it stands."""
    assert bonferroni([0.02]).rejected == (True,)
    assert bonferroni([0.02], 4).rejected == (False,)
    assert holm([0.02], 4).adjusted == pytest.approx((0.08,))


def test_threshold():
    """0.05 over four cells; a p value at the threshold falls."""
    assert bonferroni_threshold(4) == 0.0125
    assert bonferroni([0.0125, 0.01251], 4).rejected == (True, False)


@pytest.mark.parametrize(
    ("p_values", "m", "alpha"), [([0.1, 0.2], 1, 0.05), ([], None, 0.05), ([1.2], 1, 0.05), ([0.1], 1, 1.0)]
)
def test_nonsense_is_refused(p_values, m, alpha):
    """Families smaller than their p values, none at all, numbers that are no probabilities."""
    with pytest.raises(DeclarationError):
        bonferroni(p_values, m, alpha)


def test_nan_is_refused():
    """A test that failed is not a p value."""
    with pytest.raises(DeclarationError):
        holm([np.nan, 0.1])
