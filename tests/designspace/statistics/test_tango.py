"""Tango's interval against its definition, its corners and its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from designspace.statistics.tango import tango_interval, tango_z

TABLES = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 30)).map(lambda t: (t[0], t[1], sum(t)))


def z_by_likelihood(b, c, n, difference):
    """Return the statistic with the restricted likelihood maximised by search."""

    def unlikeliness(q):
        both = 1 - 2 * q - difference
        terms = [(b, q + difference), (c, q), (n - b - c, both)]
        return -sum(count * np.log(max(chance, 1e-300)) for count, chance in terms if count)

    q = minimize_scalar(
        unlikeliness, bounds=(max(0, -difference), (1 - difference) / 2), method="bounded", options={"xatol": 1e-12}
    ).x
    return (b - c - n * difference) / np.sqrt(n * (2 * q + difference * (1 - difference)))


@pytest.mark.parametrize(("b", "c", "n"), [(6, 1, 30), (12, 9, 60), (3, 3, 20), (20, 5, 299)])
@pytest.mark.parametrize("difference", [-0.2, -0.03, 0.0, 0.11])
def test_the_statistic_is_the_score_at_the_restricted_maximum(b, c, n, difference):
    """Closed form against a search."""
    assert tango_z(b, c, n, difference) == pytest.approx(z_by_likelihood(b, c, n, difference), rel=1e-5)


@given(TABLES, st.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_is_what_the_test_does_not_reject(table, level):
    """At an end inside (-1, 1) the statistic is the normal quantile; the estimate lies within."""
    b, c, n = table
    found = tango_interval(b, c, n, level)
    z = norm.ppf((1 + level) / 2)

    assert -1 <= found.low <= (b - c) / n <= found.high <= 1
    assert found.low < found.high
    assert tango_z(b, c, n, found.low) == pytest.approx(z, abs=1e-4)
    assert tango_z(b, c, n, found.high) == pytest.approx(-z, abs=1e-4)


@given(TABLES)
def test_swapping_arms_mirrors_the_interval(table):
    """No direction is preferred."""
    b, c, n = table
    there, back = tango_interval(b, c, n), tango_interval(c, b, n)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-8)


@pytest.mark.parametrize("n", [1, 10, 30])
def test_everything_one_way_is_not_certainty(n):
    """All problems discordant the same way: the far end is 1, the near end is not."""
    found = tango_interval(n, 0, n)
    assert found.high == 1
    assert found.low < 1


def test_no_discordant_problem_at_thirty():
    """+-0.11, where other methods say +-0."""
    found = tango_interval(0, 0, 30)
    assert (found.low, found.high) == pytest.approx((-0.1135, 0.1135), abs=1e-4)


@pytest.mark.parametrize("n", [30, 100, 500])
def test_coverage(n):
    """Close to 95 % at a true difference of -0.05."""
    generator = np.random.default_rng(n)
    tables = generator.multinomial(n, [0.05, 0.10, 0.85], size=1_500)
    covered = [abs(tango_z(int(b), int(c), n, -0.05)) <= norm.ppf(0.975) for b, c, _ in tables]
    assert 0.93 <= np.mean(covered) <= 0.972
