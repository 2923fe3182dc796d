"""The replicated paper's confirmation table, as far as the numbers alone can be checked [sun2026minimal].

299 problems, 3 generations each, so every mean and every resampled mean is a multiple of 1/897.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from designspace.statistics import bonferroni, bonferroni_threshold, cluster_bootstrap_test
from tests.designspace.statistics.test_permutation import scores_of

N_ANSWERS = 299 * 3


class Cell(NamedTuple):
    """One row of the table, in points, and what it comes to in answers."""

    effect: float
    low: float
    high: float
    p_value: float
    passes: bool
    answers: int


CELLS = {
    "qwen-64": Cell(1.56, -0.89, 4.01, 0.20, False, 14),
    "qwen-128": Cell(4.79, 1.67, 7.92, 0.0022, True, 43),
    "llama-64": Cell(2.23, 0.56, 3.90, 0.0054, True, 20),
    "llama-128": Cell(-0.22, -2.45, 2.01, 0.86, False, -2),
}
# How many problems gain or lose k answers of 3: made up, with the published sum and the spread of the published interval.
MADE_UP = {
    "qwen-64": {1: 40, -1: 30, 2: 8, -2: 6},
    "qwen-128": {1: 74, -1: 45, 2: 15, -2: 8},
    "llama-64": {1: 16, -1: 10, 2: 4, 3: 2},
    "llama-128": {1: 27, -1: 29, 2: 6, -2: 6},
}


@pytest.mark.parametrize("name", CELLS)
def test_published_differences_are_multiples_of_one_in_897(name):
    """To the two decimals printed."""
    cell = CELLS[name]
    assert round(100 * cell.answers / N_ANSWERS, 2) == cell.effect


@pytest.mark.parametrize("points", [3.23, 0.67])
def test_the_other_weight_too(points):
    """29 and 6 answers."""
    assert round(100 * round(points / 100 * N_ANSWERS) / N_ANSWERS, 2) == points


@pytest.mark.parametrize("name", CELLS)
def test_published_interval_ends_are_resampled_means(name):
    """Multiples of 1/897 again, symmetric about the effect: quantiles of resamples, not a normal approximation."""
    cell = CELLS[name]
    low, high = (round(end / 100 * N_ANSWERS) for end in (cell.low, cell.high))

    assert [round(100 * end / N_ANSWERS, 2) for end in (low, high)] == [cell.low, cell.high]
    assert low + high == 2 * cell.answers


def test_bonferroni_over_four_cells():
    """Threshold 0.0125; two cells pass."""
    found = bonferroni([cell.p_value for cell in CELLS.values()], 4)

    assert bonferroni_threshold(4) == 0.0125
    assert found.rejected == tuple(cell.passes for cell in CELLS.values())


@pytest.mark.parametrize("name", CELLS)
def test_our_bootstrap_gives_the_published_row(name):
    """From made-up answers with the published sum and spread: same ends, give or take an answer; about the same p."""
    cell = CELLS[name]
    steps = [k for k, count in MADE_UP[name].items() for _ in range(count)]
    scores = scores_of(np.array(steps + [0] * (299 - len(steps))) / 3, 3)
    found = cluster_bootstrap_test(scores)

    assert scores.effect * N_ANSWERS == pytest.approx(cell.answers)
    ends = np.array([found.low, found.high]) * N_ANSWERS
    assert ends == pytest.approx(np.rint(ends), abs=1e-6)
    assert ends == pytest.approx([cell.low * N_ANSWERS / 100, cell.high * N_ANSWERS / 100], abs=1.05)
    assert found.p_value == pytest.approx(cell.p_value, rel=0.5, abs=0.001)
    assert (found.p_value <= bonferroni_threshold(4)) == cell.passes
