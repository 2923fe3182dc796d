"""The secondary t test, its corners included."""

from __future__ import annotations

import numpy as np
import pytest

from designspace.statistics import t_test
from tests.designspace.statistics.test_permutation import scores_of


def test_by_hand():
    """Differences 2/3, 0, 1/3, 0: t = (1/4) / sqrt(11/432) = 1.5667 on 3 degrees of freedom."""
    assert t_test(scores_of([2 / 3, 0, 1 / 3, 0], 3)).p_value == pytest.approx(0.21521, abs=1e-4)


@pytest.mark.parametrize(("differences", "p_value"), [([0] * 8, 1.0), ([0.5] * 8, 2.0**-7), ([1 / 3], 1.0)])
def test_equal_differences_do_not_divide_by_zero(differences, p_value):
    """No spread: the chance that all signs agree."""
    with np.errstate(all="raise"):
        assert t_test(scores_of(differences, 6)).p_value == p_value
