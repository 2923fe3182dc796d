"""Simulated outcomes have the accuracies and the effect that were assumed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from designspace.errors import DeclarationError, DesignspaceError
from designspace.statistics import BetaAccuracies, ListedAccuracies, fit_beta
from designspace.statistics.outcomes import shift_for, simulated_steps


@pytest.mark.parametrize("accuracies", [BetaAccuracies(0.5, 2.5), ListedAccuracies((0.0, 0.2, 0.7, 1.0))])
@pytest.mark.parametrize(("effect", "spread"), [(0.0, 2.0), (0.06, 0.0), (-0.04, 1.0)])
def test_the_mean_effect_is_the_one_asked_for(accuracies, effect, spread):
    """Whatever the spread: 400,000 problems, four standard errors."""
    blocks = simulated_steps(
        accuracies, n_sets=2_000, n_problems=200, n_replicates=2, effect=effect, effect_spread=spread, seed=1
    )
    steps = np.concatenate([block.ravel() for block in blocks])

    assert steps.shape == (400_000,)
    assert steps.mean() / 2 == pytest.approx(effect, abs=4 * steps.std() / 2 / np.sqrt(len(steps)) + 2e-4)


def test_the_shift_by_hand():
    """Two problems, no spread: both odds are multiplied alike."""
    shift = shift_for(ListedAccuracies((0.2, 0.6)), 0.1)
    assert np.mean(expit(logit(np.array([0.2, 0.6])) + shift)) == pytest.approx(0.5)


def test_spread_makes_problems_differ():
    """With no mean effect, some problems gain and others lose: differences spread further."""
    spreads = []
    for spread in (0.0, 2.0):
        [steps] = simulated_steps(
            BetaAccuracies(3, 3), n_sets=100, n_problems=100, n_replicates=8, effect=0, effect_spread=spread, seed=1
        )
        spreads.append(steps.std())
    assert spreads[1] > 1.4 * spreads[0]


def test_hopeless_problems_stay_hopeless():
    """Accuracy 0 stays 0 and 1 stays 1."""
    [steps] = simulated_steps(
        ListedAccuracies((0.0, 1.0, 1.0, 0.5)),
        n_sets=50, n_problems=80, n_replicates=1, effect=0.1, effect_spread=0, seed=2,
    )  # fmt: skip
    assert 0.5 < (steps == 0).mean()


@pytest.mark.parametrize("effect", [0.31, -0.75])
def test_more_than_is_left_to_gain_or_lose_is_refused(effect):
    """Mean 0.7: no more than 0.3 to gain."""
    with pytest.raises(DeclarationError, match=f"got effect={effect}, mean baseline accuracy=0.700"):
        shift_for(ListedAccuracies((0.6, 0.8)), effect)


@pytest.mark.parametrize(("a", "b"), [(0.4, 2.0), (5.0, 5.0)])
def test_a_fit_finds_the_distribution(a, b):
    """From 4,000 problems with 4 generations each."""
    generator = np.random.default_rng(0)
    counts = generator.binomial(4, generator.beta(a, b, 4_000))
    found = fit_beta(counts.tolist(), 4)

    assert found.a / (found.a + found.b) == pytest.approx(a / (a + b), abs=0.02)
    assert 1 / (1 + found.a + found.b) == pytest.approx(1 / (1 + a + b), abs=0.03)


def test_a_fit_to_extremes_stays_finite():
    """All problems hopeless: finite shapes, a mean near 0."""
    found = fit_beta([0] * 30, 3)
    assert 0 < found.a / (found.a + found.b) < 0.05


@pytest.mark.parametrize(
    "make",
    [
        lambda: BetaAccuracies(0, 1),
        lambda: ListedAccuracies(()),
        lambda: ListedAccuracies((0.2, 1.2)),
        lambda: fit_beta([1, 0], 1),
        lambda: fit_beta([4], 3),
        lambda: fit_beta([], 3),
    ],
)
def test_impossible_assumptions_are_refused(make):
    """Shapes, accuracies and counts."""
    with pytest.raises(DesignspaceError):
        make()
