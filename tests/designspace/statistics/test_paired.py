"""Pairing keeps problems together and refuses what cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest

from designspace.errors import DesignspaceError
from designspace.statistics import PairedScores, UnpairedScores, pair

OUTCOMES = {"b": [True, False, True], "a": [False, False, False], "c": [True, True, True]}
BASELINE = {"c": [True, False, True], "a": [False, True, False], "b": [False, False, True]}


def test_means_are_taken_within_problems():
    """The unit is the problem: one mean each, in the order of the ids."""
    scores = pair(OUTCOMES, BASELINE)

    assert scores.problem_ids == ("a", "b", "c")
    assert scores.arm.tolist() == pytest.approx([0, 2 / 3, 1])
    assert scores.baseline.tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert scores.n_replicates == 3
    assert scores.n_problems == 3
    assert scores.effect == pytest.approx((-1 + 1 + 1) / 9)


def test_the_order_of_problems_is_irrelevant():
    """Resampling goes by position, so positions must not depend on how the scores came in."""
    forth = PairedScores(("a", "b", "c"), np.array([0.0, 0.5, 1.0]), np.array([0.5, 0.0, 0.5]), 2)
    back = PairedScores(("c", "b", "a"), np.array([1.0, 0.5, 0.0]), np.array([0.5, 0.0, 0.5]), 2)

    assert forth.problem_ids == back.problem_ids
    assert forth.differences.tolist() == back.differences.tolist()


def test_scores_are_copies_that_cannot_be_written():
    """A frozen dataclass holds frozen arrays, its own."""
    arm = np.array([0.0, 1.0])
    scores = PairedScores(("a", "b"), arm, arm)
    arm[0] = 1.0

    assert scores.arm.tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="read-only"):
        scores.arm[0] = 1.0


def test_missing_problems_are_named():
    """Neither intersection nor union: a missing problem is an error that says which."""
    with pytest.raises(UnpairedScores, match="d only in the arm, a only in the baseline"):
        pair({"b": [True], "d": [True]}, {"a": [True], "b": [False]})


@pytest.mark.parametrize(
    ("arm", "baseline"),
    [
        ({"a": [True, True]}, {"a": [True]}),
        ({"a": [True], "b": [True, False]}, {"a": [True], "b": [True, False]}),
        ({"a": []}, {"a": []}),
        ({}, {}),
    ],
)
def test_unequal_generations_are_refused(arm, baseline):
    """Signs may be flipped only where both arms had as many attempts."""
    with pytest.raises(UnpairedScores):
        pair(arm, baseline)


@pytest.mark.parametrize(
    ("ids", "arm", "baseline", "replicates"),
    [
        (("a", "a"), [0, 1], [0, 1], 1),
        (("a", "b"), [0, 1, 1], [0, 1], 1),
        (("a", "b"), [0, np.nan], [0, 1], 1),
        (("a", "b"), [0, 1], [0, 1.5], 1),
        (("a", "b"), [0, 1], [0, 1], 0),
        ((), [], [], 1),
    ],
)
def test_malformed_scores_are_refused(ids, arm, baseline, replicates):
    """Repeated or no problems, other shapes, numbers that are no accuracies."""
    with pytest.raises(DesignspaceError):
        PairedScores(ids, np.array(arm, dtype=float), np.array(baseline, dtype=float), replicates)


def test_discordant_problems_are_counted():
    """Two that only the arm solved, one that only the baseline did."""
    scores = PairedScores(tuple("abcde"), np.array([1.0, 1, 1, 0, 0]), np.array([1.0, 0, 0, 1, 0]))
    assert scores.discordant == (2, 1)


def test_several_generations_have_no_discordant_count():
    """Pooling generations into one table is the error the type is there to stop."""
    with pytest.raises(UnpairedScores, match="one right-or-wrong generation"):
        _ = pair(OUTCOMES, BASELINE).discordant


def test_partial_credit_is_not_binary():
    """One generation with a score between 0 and 1 is paired, but no matter for McNemar."""
    assert not PairedScores(("a",), np.array([0.5]), np.array([0.0])).binary
