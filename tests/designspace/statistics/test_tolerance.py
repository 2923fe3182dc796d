"""An exact difference at the bound agrees, the next real one does not."""

from __future__ import annotations

from fractions import Fraction

import pytest

from designspace.statistics.tolerance import agree

SIZES = (0.5, 7.0, 24.0, 47.3, 48.0, 50.0, 96.0, 129.5, 4096.0, 31_234.7, 42_429.4, 1e9)


@pytest.mark.parametrize("tolerance", [0.01, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("size", SIZES)
def test_the_bound_is_inclusive_whatever_floats_make_of_it(size, tolerance):
    """Exactly so many per cent above or below, computed on paper and rounded once, agree."""
    for sign in (1, -1):
        assert agree(float(Fraction(size) * (1 + sign * Fraction(str(tolerance)))), size, tolerance)


@pytest.mark.parametrize("size", SIZES)
def test_a_real_excess_does_not_agree(size):
    """A hundred-thousandth of the size beyond the bound is no rounding."""
    assert not agree(size * 1.02001, size, 0.02)
    assert not agree(size * 0.97999, size, 0.02)


def test_plain_comparison_would_fail():
    """The cases that this is for: both ways of writing the comparison down go wrong in floating point."""
    assert 51 / 50 - 1 > 0.02
    assert abs(48.96 - 48.0) > 0.02 * 48.0
    assert agree(51.0, 50.0, 0.02)
    assert agree(48.96, 48.0, 0.02)


def test_nothing_agrees_with_zero_but_zero():
    """A share of nothing is nothing."""
    assert agree(0.0, 0.0, 0.02)
    assert not agree(1e-6, 0.0, 0.02)
