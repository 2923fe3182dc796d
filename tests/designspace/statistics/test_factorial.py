"""Contrasts of a factorial are differences of the right arms."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from designspace.statistics import FactorialScores, UnpairedScores
from designspace.statistics.factorial import contrast

AXES = ("scoring", "cadence", "routing")
LEVELS = (("full", "snapkv", "h2o"), ("never", "every-k"), ("uniform", "pyramid"))
FULL = tuple(product(*LEVELS))


def factorial_of(cells=FULL, n_problems=6, seed=0):
    """Return random accuracies in fifths."""
    accuracy = np.random.default_rng(seed).integers(0, 6, size=(len(FULL), n_problems)) / 5
    rows = [FULL.index(cell) for cell in cells]
    return FactorialScores(AXES, tuple(cells), tuple(f"p{i}" for i in range(n_problems)), accuracy[rows], 5)


def test_main_effect_of_a_full_factorial_is_the_difference_of_marginal_means():
    """Two by two backgrounds, by hand."""
    scores = factorial_of()
    table = scores.accuracy.reshape(3, 2, 2, -1)
    found, n_backgrounds = contrast(scores, ("scoring",), ("h2o",), ("full",))

    assert n_backgrounds == 4
    assert found == pytest.approx(table[2].mean(axis=(0, 1)) - table[0].mean(axis=(0, 1)))


def test_interaction_is_the_difference_of_differences():
    """Of snapkv over full, with pyramid rather than uniform."""
    scores = factorial_of()
    table = scores.accuracy.reshape(3, 2, 2, -1).mean(axis=1)
    found, n_backgrounds = contrast(scores, ("scoring", "routing"), ("snapkv", "pyramid"), ("full", "uniform"))

    assert n_backgrounds == 2
    assert found == pytest.approx((table[1, 1] - table[0, 1]) - (table[1, 0] - table[0, 0]))


def test_a_partial_factorial_compares_like_with_like():
    """Only backgrounds that hold both levels enter; the others' accuracies do not matter."""
    cells = [cell for cell in FULL if cell not in {("h2o", "never", "uniform"), ("full", "every-k", "pyramid")}]
    scores = factorial_of(cells)
    found, n_backgrounds = contrast(scores, ("scoring",), ("h2o",), ("full",))

    def of(*cell):
        return scores.accuracy[cells.index(cell)]

    expected = (
        of("h2o", "every-k", "uniform") - of("full", "every-k", "uniform")
        + of("h2o", "never", "pyramid") - of("full", "never", "pyramid")
    ) / 2  # fmt: skip
    assert n_backgrounds == 2
    assert found == pytest.approx(expected)


def test_no_background_is_no_contrast():
    """One arm at a time from the baseline: main effects, no interaction."""
    star = [("full", "never", "uniform"), ("snapkv", "never", "uniform"), ("full", "every-k", "uniform")]
    scores = factorial_of(star)

    assert contrast(scores, ("scoring",), ("snapkv",), ("full",))[1] == 1
    assert contrast(scores, ("scoring", "cadence"), ("snapkv", "every-k"), ("full", "never"))[1] == 0


def test_problems_are_sorted():
    """As for two arms: resampling goes by position."""
    scores = FactorialScores(("a",), (("x",), ("y",)), ("q", "p"), np.array([[0.1, 0.2], [0.3, 0.4]]))
    assert scores.problem_ids == ("p", "q")
    assert scores.accuracy.tolist() == [[0.2, 0.1], [0.4, 0.3]]


@pytest.mark.parametrize(
    ("axes", "cells", "ids", "accuracy"),
    [
        (("a",), (("x",), ("x",)), ("p",), [[0.0], [1.0]]),
        (("a",), (("x", "y"),), ("p",), [[0.0]]),
        (("a", "a"), (("x", "y"),), ("p",), [[0.0]]),
        (("a",), (("x",),), ("p", "p"), [[0.0, 1.0]]),
        (("a",), (("x",),), ("p",), [[0.0, 1.0]]),
        (("a",), (("x",),), ("p",), [[np.nan]]),
    ],
)
def test_malformed_factorials_are_refused(axes, cells, ids, accuracy):
    """Arms twice, levels missing, axes twice, problems twice, other shapes, no numbers."""
    with pytest.raises(UnpairedScores):
        FactorialScores(axes, cells, ids, np.array(accuracy))
