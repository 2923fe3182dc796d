"""Axes that matter are found, axes that do not are not."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import beta

from designspace.errors import DeclarationError, UnknownName
from designspace.statistics import FactorialScores, PairedScores, family_size, interactions, main_effects, paired_test
from designspace.statistics.factorial import contrast
from designspace.statistics.lattice import sign_flip_lattice

AXES = ("scoring", "cadence", "routing")
LEVELS = (("full", "snapkv", "h2o"), ("never", "every-k"), ("uniform", "pyramid"))
CELLS = tuple(product(*LEVELS))
BASELINE = {"scoring": "full", "cadence": "never", "routing": "uniform"}
MAINS = [((axis,), (level,)) for axis, levels in zip(AXES, LEVELS, strict=True) for level in levels[1:]]
PAIRS = [(first + second, one + other) for (first, one), (second, other) in combinations(MAINS, 2) if first != second]
IDS = tuple(f"p{i:03d}" for i in range(150))


def simulated(effects, n_replicates=3, seed=0, cells=CELLS):
    """Return a factorial whose accuracies are 0.4 by and large plus the effects of the levels named in each cell."""
    generator = np.random.default_rng(seed)
    easy = generator.uniform(-0.2, 0.2, len(IDS))
    accuracy = []
    for cell in cells:
        own = generator.uniform(-0.1, 0.1, len(IDS))  # helps some problems and hurts others
        effect = sum(value for levels, value in effects.items() if set(levels) <= set(cell))
        accuracy.append(generator.binomial(n_replicates, 0.4 + easy + own + effect) / n_replicates)
    return FactorialScores(AXES, tuple(cells), IDS, np.array(accuracy), n_replicates)


@pytest.mark.parametrize("test", ["sign_flip", "cluster_bootstrap"])
def test_the_axis_that_matters_is_found(test):
    """One level gains 10 points, one pair of levels 20 more; nothing else stands out."""
    scores = simulated({("snapkv",): 0.1, ("h2o", "pyramid"): 0.2})
    mains = main_effects(scores, BASELINE, test=test, resamples=5_000)
    pairs = interactions(scores, BASELINE, test=test, resamples=5_000)
    main = {effect.levels[0]: effect for effect in mains.effects}
    pair = {effect.levels: effect for effect in pairs.effects}

    assert list(main) == ["snapkv", "h2o", "every-k", "pyramid"]
    assert main["snapkv"].low <= 0.1 <= main["snapkv"].high
    assert main["snapkv"].p_bonferroni < 0.05
    assert main["every-k"].p_bonferroni > 0.05
    assert pair["h2o", "pyramid"].low <= 0.2 <= pair["h2o", "pyramid"].high
    assert pair["h2o", "pyramid"].p_bonferroni < 0.05
    assert [levels for levels, effect in pair.items() if effect.p_holm < 0.05] == [("h2o", "pyramid")]
    assert (mains.n_comparisons, pairs.n_comparisons) == (4, 5)
    assert (main["snapkv"].n_backgrounds, pair["h2o", "pyramid"].n_backgrounds) == (4, 2)


@pytest.mark.parametrize("test", ["sign_flip", "cluster_bootstrap"])
def test_two_arms_are_the_paired_test(test):
    """A factorial of one axis with two levels is an arm and a baseline."""
    scores = simulated({("snapkv",): 0.05}, cells=[("full", "never", "uniform"), ("snapkv", "never", "uniform")])
    [effect] = main_effects(scores, BASELINE, test=test).effects
    expected = paired_test(PairedScores(IDS, scores.accuracy[1], scores.accuracy[0], 3), test)

    assert (effect.effect, effect.low, effect.high, effect.p_value) == pytest.approx(
        (expected.effect, expected.low, expected.high, expected.p_value)
    )


def test_effects_are_corrected_for_the_registered_family():
    """Nine registered: nine it is, whatever could be run."""
    scores = simulated({})
    found = main_effects(scores, BASELINE, resamples=500, n_comparisons=9)

    assert found.n_comparisons == 9
    assert [e.p_bonferroni for e in found.effects] == pytest.approx([min(1, 9 * e.p_value) for e in found.effects])
    with pytest.raises(DeclarationError, match="n_comparisons must be at least"):
        main_effects(scores, BASELINE, resamples=500, n_comparisons=3)


@pytest.mark.parametrize("test", ["sign_flip", "cluster_bootstrap"])
def test_intervals_and_p_values_of_a_family_go_together(test):
    """The family's interval is that of a single contrast at the corrected level, as p is the single p times the family."""
    scores = simulated({("snapkv",): 0.1})
    m = family_size(scores, BASELINE)
    family = main_effects(scores, BASELINE, test=test, resamples=2_000, n_comparisons=m)
    single = main_effects(scores, BASELINE, test=test, resamples=2_000, level=1 - 0.05 / m)

    assert m == 9
    for together, alone in zip(family.effects, single.effects, strict=True):
        assert (together.family_low, together.family_high) == pytest.approx((alone.low, alone.high))
        assert together.family_low < together.low < together.high < together.family_high
        assert together.p_bonferroni == pytest.approx(min(1, m * together.p_value))


def test_an_interval_of_the_family_leaves_out_zero_where_its_p_value_is_small():
    """Forty factorials, t intervals beside p values of sign flips: they agree but for a hair's breadth."""
    for seed in range(40):
        scores = simulated({("snapkv",): 0.06}, seed=seed)
        for effect in main_effects(scores, BASELINE, resamples=4_000, n_comparisons=9).effects:
            if abs(effect.p_bonferroni - 0.05) > 0.02:
                assert (effect.family_low > 0 or effect.family_high < 0) == (effect.p_bonferroni < 0.05)


def test_one_axis_has_no_interactions():
    """That is no mistake: its main effects can be had all the same."""
    scores = simulated({("snapkv",): 0.05}, cells=[("full", "never", "uniform"), ("snapkv", "never", "uniform")])
    found = interactions(scores, BASELINE, resamples=500, n_comparisons=1)

    assert (found.effects, found.not_estimable, found.n_comparisons) == ((), (), 1)
    assert family_size(scores, BASELINE) == 1


def test_problems_that_differ_are_counted():
    """None do where an axis changes nothing."""
    scores = FactorialScores(AXES, CELLS, IDS, np.full((len(CELLS), len(IDS)), 1 / 3), 3)
    assert {effect.n_differing for effect in main_effects(scores, BASELINE, resamples=500).effects} == {0}
    assert min(effect.n_differing for effect in main_effects(simulated({}), BASELINE, resamples=500).effects) > 100


def test_what_cannot_be_estimated_is_listed():
    """A level never seen beside the reference is named, not dropped in silence nor guessed."""
    cells = [cell for cell in CELLS if cell[0] != "h2o" or cell[1:] == ("every-k", "pyramid")]
    found = interactions(simulated({}, cells=cells), BASELINE, resamples=500)

    assert found.not_estimable == ("scoring=h2o x cadence=every-k", "scoring=h2o x routing=pyramid")
    assert len(found.effects) == 3
    assert main_effects(simulated({}, cells=cells), BASELINE, resamples=500).effects[1].n_backgrounds == 1


def test_arms_that_never_differ_keep_an_interval():
    """All effects zero: p is 1, and 150 problems still leave doubt; an interaction twice as much."""
    scores = FactorialScores(AXES, CELLS, IDS, np.full((len(CELLS), len(IDS)), 0.5), 2)
    main, pair = main_effects(scores, BASELINE).effects[0], interactions(scores, BASELINE).effects[0]

    assert (main.p_value, main.effect, pair.p_value) == (1, 0, 1)
    assert main.low < -0.02 < 0.02 < main.high
    assert pair.high == pytest.approx(2 * main.high)


def test_errors_of_the_family_stay_within_alpha():
    """No axis matters, problems vary: 400 factorials, at most 5 % with any corrected effect, by the lower bound."""
    wrong = {1: 0, 2: 0}
    for seed in range(400):
        scores = simulated({}, seed=seed)
        for questions in (MAINS, PAIRS):
            steps = []
            for axes, levels in questions:
                differences, n_backgrounds = contrast(scores, axes, levels, [BASELINE[axis] for axis in axes])
                multiples = differences * 3 * n_backgrounds  # of the smallest step that means can differ by
                steps.append(np.rint(multiples).astype(int))
                assert steps[-1] == pytest.approx(multiples, abs=1e-6)
            wrong[len(axes)] += sign_flip_lattice(np.stack(steps)).min() <= 0.05 / len(questions)
    assert max(beta.ppf(0.025, count, 400 - count + 1) for count in wrong.values()) <= 0.05
    assert min(wrong.values()) > 0


def test_an_interaction_alike_in_all_problems_keeps_an_interval():
    """A difference of differences of 1 in each of 150 problems; it could have been 2."""
    cells = tuple(product(("off", "on"), repeat=2))
    accuracy = np.repeat([[0.0], [0.0], [0.0], [1.0]], len(IDS), axis=1)
    scores = FactorialScores(("a", "b"), cells, IDS, accuracy)
    [found] = interactions(scores, {"a": "off", "b": "off"}, resamples=500).effects

    assert found.effect == 1
    assert 0.7 < found.low < 1 < found.high < 1.3


@pytest.mark.parametrize("references", [{"scoring": "full"}, {**BASELINE, "colour": "red"}])
def test_every_axis_needs_a_reference(references):
    """No more, no fewer."""
    with pytest.raises(DeclarationError, match="references must name one level of each axis"):
        main_effects(simulated({}), references)


def test_unknown_names_are_refused():
    """Levels and tests, with a suggestion."""
    with pytest.raises(UnknownName, match="did you mean 'snapkv'"):
        main_effects(simulated({}), {**BASELINE, "scoring": "snap-kv"})
    with pytest.raises(UnknownName):
        main_effects(simulated({}), BASELINE, test="mcnemar_exact")


def test_nothing_to_compare_is_refused():
    """One arm has no contrast."""
    with pytest.raises(DeclarationError, match="at least one contrast"):
        main_effects(simulated({}, cells=[("full", "never", "uniform")]), BASELINE)
