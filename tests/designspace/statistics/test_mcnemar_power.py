"""Exact power of McNemar's test."""

from __future__ import annotations

import numpy as np
import pytest

from designspace.errors import DeclarationError
from designspace.statistics import mcnemar_minimum_effect, mcnemar_power
from designspace.statistics.mcnemar import mcnemar_p_value

PLANNED = {  # n: minimum effects at discordances .1, .2, .3 for 1 and for 9 comparisons, on a grid of half points
    30: ((None, None, 0.280), (None, None, None)),
    60: ((None, 0.165, 0.205), (None, 0.195, 0.250)),
    100: ((0.090, 0.130, 0.165), (None, 0.160, 0.200)),
    250: ((0.060, 0.085, 0.105), (0.075, 0.105, 0.130)),
    500: ((0.045, 0.060, 0.075), (0.055, 0.075, 0.095)),
    1000: ((0.030, 0.045, 0.050), (0.040, 0.055, 0.065)),
    2000: ((0.025, 0.030, 0.035), (0.030, 0.040, 0.045)),
}


@pytest.mark.parametrize("n", PLANNED)
def test_minimum_effects_of_the_planning_table(n):
    """Within one step of its grid; impossible where it says so."""
    for m, row in zip((1, 9), PLANNED[n], strict=True):
        for discordance, planned in zip((0.1, 0.2, 0.3), row, strict=True):
            found = mcnemar_minimum_effect(n, discordance, n_comparisons=m)
            if planned is None:
                assert found is None
            else:
                assert found is not None
                assert planned - 0.01 < found <= planned


@pytest.mark.parametrize(
    ("n", "discordance", "effect", "m"), [(100, 0.3, 0.16, 1), (60, 0.2, 0.165, 9), (40, 0.1, 0.0, 1)]
)
def test_power_against_drawn_tables(n, discordance, effect, m):
    """40,000 tables; three standard errors."""
    tables = np.random.default_rng(0).multinomial(
        n, [(discordance + effect) / 2, (discordance - effect) / 2, 1 - discordance], size=40_000
    )
    counts, frequency = np.unique(tables[:, :2], axis=0, return_counts=True)
    rejected = [mcnemar_p_value(int(b), int(c)) <= 0.05 / m for b, c in counts]
    expected = frequency @ np.array(rejected) / 40_000

    assert mcnemar_power(n, discordance, effect, n_comparisons=m) == pytest.approx(expected, abs=0.0075)


def test_the_test_never_exceeds_its_level():
    """At no effect, whatever the sample: power is the error rate."""
    assert max(mcnemar_power(n, psi, 0.0) for n in (5, 30, 200) for psi in (0.05, 0.3, 0.9)) <= 0.05


def test_more_effect_than_discordance_is_refused():
    """Arms that agree on 9 in 10 problems differ by a tenth at most."""
    with pytest.raises(DeclarationError, match=r"got effect=0.2, discordance=0.1"):
        mcnemar_power(100, 0.1, 0.2)
