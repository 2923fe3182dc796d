"""The planner's predictions hold in studies simulated another way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from designspace.errors import DesignspaceError
from designspace.statistics import (
    BetaAccuracies,
    ListedAccuracies,
    StudyDesign,
    cluster_bootstrap_test,
    difference_interval,
    equivalence,
    estimate_power,
    mcnemar_minimum_effect,
    mcnemar_power,
    minimum_detectable_effect,
    non_inferiority,
    paired_test,
    t_test,
)
from designspace.statistics.power import p_values
from tests.designspace.statistics.test_permutation import scores_of


def study(generator, n, replicates, effect, spread):
    """Return one study's counts of differences: problems of accuracy 0.3 or 0.5, odds multiplied problem by problem."""
    before = generator.choice([0.3, 0.5], n)
    # solve for the common shift on a large population of its own
    odds = before / (1 - before) * np.exp(common_shift(effect, spread) + spread * generator.standard_normal(n))
    return generator.binomial(replicates, odds / (1 + odds)) - generator.binomial(replicates, before)


def common_shift(effect, spread, _known={}):  # noqa: B006
    """Return the shift that gives the effect on average, by halving an interval on 200,000 problems."""
    if (effect, spread) not in _known:
        before = np.repeat([0.3, 0.5], 100_000)
        noise = spread * np.random.default_rng(8).standard_normal(200_000)
        low, high = -5.0, 5.0
        for _ in range(40):
            middle = (low + high) / 2
            odds = before / (1 - before) * np.exp(middle + noise)
            low, high = (low, middle) if np.mean(odds / (1 + odds) - before) > effect else (middle, high)
        _known[effect, spread] = low
    return _known[effect, spread]


@pytest.mark.parametrize(
    ("test", "n", "replicates", "effect", "spread", "m"),
    [
        ("sign_flip", 30, 8, 0.12, 0.0, 1),
        ("sign_flip", 200, 3, 0.09, 1.0, 4),
        ("cluster_bootstrap", 299, 3, 0.07, 0.5, 4),
        ("mcnemar_exact", 500, 1, 0.08, 0.0, 1),
        ("t", 60, 4, -0.1, 1.0, 1),
    ],
)
def test_predicted_power_is_met(test, n, replicates, effect, spread, m):
    """Within 3 points, 3,000 studies each; the power is neither near 0 nor near 1."""
    design = StudyDesign(ListedAccuracies((0.3, 0.5)), n, replicates, test=test, n_comparisons=m, effect_spread=spread)
    predicted = estimate_power(design, effect, simulations=3_000)
    generator = np.random.default_rng(99)
    studies = np.stack([study(generator, n, replicates, effect, spread) for _ in range(3_000)])
    met = np.mean(p_values(design, studies) <= 0.05 / m)

    assert 0.4 < predicted.power < 0.95
    assert predicted.low < predicted.power < predicted.high
    assert met == pytest.approx(predicted.power, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("test", "n", "replicates", "effect"),
    [("sign_flip", 200, 3, 0.07), ("cluster_bootstrap", 200, 3, 0.07), ("sign_flip", 30, 8, 0.12), (None, 300, 1, 0.1)],
)
def test_predicted_power_is_met_by_the_tests_themselves(test, n, replicates, effect):
    """As above, with the registered tests at 2,000 draws instead of their limits."""
    name = test or "mcnemar_exact"
    predicted = estimate_power(StudyDesign(ListedAccuracies((0.3, 0.5)), n, replicates, test=name), effect)
    generator = np.random.default_rng(5)
    met = [
        paired_test(
            scores_of(study(generator, n, replicates, effect, 0.0) / replicates, replicates),
            test,
            resamples=2_000,
            seed=i,
        ).p_value
        <= 0.05
        for i in range(2_500)
    ]
    assert np.mean(met) == pytest.approx(predicted.power, abs=0.03)


@pytest.mark.parametrize(("test", "other"), [("t", t_test), ("cluster_bootstrap", cluster_bootstrap_test)])
def test_many_at_once_are_the_tests_one_by_one(test, other):
    """The planner's p values are those of the analysis."""
    steps = np.random.default_rng(4).integers(-2, 4, size=(6, 40))
    design = StudyDesign(BetaAccuracies(1, 1), 40, 3, test=test)
    assert p_values(design, steps) == pytest.approx([other(scores_of(row / 3, 3)).p_value for row in steps], abs=0.02)


@pytest.mark.parametrize(("test", "other"), [("non_inferiority", non_inferiority), ("equivalence", equivalence)])
def test_margin_tests_are_those_of_the_analysis(test, other):
    """T on per-problem means, to rounding."""
    steps = np.random.default_rng(4).integers(-3, 4, size=(6, 40))
    design = StudyDesign(BetaAccuracies(1, 1), 40, 3, test=test, margin=0.2)
    expected = [other(scores_of(row / 3, 3), 0.2).p_value for row in steps]
    assert p_values(design, steps) == pytest.approx(expected)


@pytest.mark.parametrize(("test", "other"), [("non_inferiority", non_inferiority), ("equivalence", equivalence)])
def test_margin_tests_of_one_generation_are_those_of_the_analysis(test, other):
    """Tango's statistic, one generation per problem; and over problems where all differences are equal."""
    steps = np.random.default_rng(4).integers(-1, 2, size=(8, 40))
    design = StudyDesign(BetaAccuracies(1, 1), 40, test=test, margin=0.2)
    assert p_values(design, steps) == pytest.approx([other(scores_of(row), 0.2).p_value for row in steps])
    alike = np.repeat([[-3], [0], [1], [3]], 40, axis=1)
    design = StudyDesign(BetaAccuracies(1, 1), 40, 3, test=test, margin=0.2)
    assert p_values(design, alike) == pytest.approx([other(scores_of(row / 3, 3), 0.2).p_value for row in alike])


@pytest.mark.parametrize("test", ["sign_flip", "cluster_bootstrap"])
def test_few_draws_are_counted(test):
    """The expectation over seeds of the test's own p value."""
    steps = np.random.default_rng(1).integers(-2, 4, size=(3, 25))
    design = StudyDesign(BetaAccuracies(1, 1), 25, 3, test=test, resamples=99)
    drawn = [
        np.mean([paired_test(scores_of(row / 3, 3), test, resamples=99, seed=seed).p_value for seed in range(300)])
        for row in steps
    ]

    assert p_values(design, steps) == pytest.approx(drawn, abs=0.015)
    assert p_values(replace(design, resamples=None), steps).max() < p_values(design, steps).max() + 1e-12


def test_a_margin_test_has_a_power_of_its_own():
    """Not that of a test of superiority: at no difference, showing no harm is likely and finding a gain is not."""
    loss = StudyDesign(BetaAccuracies(1, 1), 200, test="non_inferiority", margin=0.15, effect_spread=0.5)
    gain = StudyDesign(BetaAccuracies(1, 1), 200, test="mcnemar_exact", effect_spread=0.5)

    assert estimate_power(loss, 0.0, simulations=500).power > 0.8
    assert estimate_power(gain, 0.0, simulations=500).power < 0.1


def test_simulated_and_exact_power_of_mcnemar_agree():
    """Given the discordance that the simulation reports."""
    design = StudyDesign(ListedAccuracies((0.3, 0.5)), 250, test="mcnemar_exact")
    found = estimate_power(design, 0.1)
    assert mcnemar_power(250, found.discordance, 0.1) == pytest.approx(found.power, abs=0.03)


def test_no_effect_gives_the_error_rate():
    """At most 5 %, by the lower end of the simulation's interval, problems varying."""
    assert estimate_power(StudyDesign(BetaAccuracies(0.5, 2.5), 100, 3, effect_spread=2), 0.0).low <= 0.05


def test_the_minimum_detectable_effect_has_the_power():
    """80 % at it, less below it, and the same number from the exact planner."""
    design = StudyDesign(ListedAccuracies((0.4,)), 250, test="mcnemar_exact", n_comparisons=4)
    found = minimum_detectable_effect(design, simulations=1_500)

    assert found.effect is not None
    assert found.at.effect == found.effect
    assert found.at.power >= 0.8
    assert estimate_power(design, found.effect - 0.002, simulations=1_500).power < 0.8
    exact = mcnemar_minimum_effect(250, found.at.discordance, n_comparisons=4)
    assert found.effect == pytest.approx(exact, abs=0.006)


def test_more_replicates_and_more_problems_find_less():
    """Both lower the minimum detectable effect; a larger family raises it."""

    def effect(**changed):
        base = {"n_problems": 60, "n_replicates": 2, "effect_spread": 1.0}
        design = StudyDesign(BetaAccuracies(2, 2), **{**base, **changed})
        return minimum_detectable_effect(design, simulations=500, tolerance=0.004).effect

    assert effect(n_problems=240) < effect(n_replicates=8) < effect() < effect(n_comparisons=9)


def test_some_designs_cannot_find_anything():
    """Four problems have no sign pattern rare enough: the answer is no number."""
    found = minimum_detectable_effect(StudyDesign(BetaAccuracies(2, 2), 4, 3), simulations=200)
    assert found.effect is None
    assert found.at.power == 0


def test_the_seed_decides_the_estimate():
    """Same seed, same estimate; another seed, another."""
    design = StudyDesign(BetaAccuracies(1, 2), 50, 2)
    first, again, other = (estimate_power(design, 0.1, simulations=300, seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert first.power != other.power


@pytest.mark.parametrize(
    "changed",
    [
        {"test": "wilcoxon"},
        {"test": "mcnemar_exact"},
        {"test": "non_inferiority"},
        {"margin": 0.1},
        {"n_problems": 1},
        {"effect_spread": -1.0},
        {"n_comparisons": 0},
        {"resamples": 0},
        {"alpha": 0.0},
        {"test": "equivalence", "margin": 1.5},
    ],
)
def test_designs_that_make_no_sense_are_refused(changed):
    """At declaration, before any simulation."""
    with pytest.raises(DesignspaceError):
        StudyDesign(**{"accuracies": BetaAccuracies(1, 1), "n_problems": 30, "n_replicates": 3, **changed})


def test_intervals_beside_the_power_cover():
    """The interval of a share estimated 300 times holds a finer estimate of it about 95 times in 100."""
    design = StudyDesign(ListedAccuracies((0.4,)), 60, test="mcnemar_exact")
    fine = estimate_power(design, 0.15, simulations=20_000, seed=0).power
    held = [
        found.low <= fine <= found.high
        for found in (estimate_power(design, 0.15, simulations=300, seed=seed) for seed in range(1, 81))
    ]
    assert np.mean(held) >= 0.9


def test_difference_interval_and_t_power_are_one_story():
    """A study whose t interval leaves out zero is a study whose t test rejects."""
    steps = np.random.default_rng(6).integers(-2, 4, size=(20, 30))
    design = StudyDesign(BetaAccuracies(1, 1), 30, 3, test="t")
    intervals = [difference_interval(scores_of(row / 3, 3)) for row in steps]
    left_out = [found.low > 0 or found.high < 0 for found in intervals]
    assert (p_values(design, steps) <= 0.05).tolist() == left_out
