"""Sign flips agree with enumeration by hand, are symmetric, and never say zero."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.errors import DeclarationError
from designspace.statistics import PairedScores, sign_flip
from designspace.statistics.mcnemar import mcnemar_p_value
from designspace.statistics.permutation import sign_flip_p_value


def by_hand(steps):
    """Return the share of all sign patterns whose sum is at least as far from zero, in exact arithmetic."""
    observed = abs(sum(steps))
    sums = [abs(sum(sign * step for sign, step in zip(signs, steps, strict=True))) for signs in patterns(len(steps))]
    return Fraction(sum(value >= observed for value in sums), len(sums))


def patterns(n):
    """Return all sign patterns."""
    return list(product((-1, 1), repeat=n))


def scores_of(differences, n_replicates=1):
    """Return scores with these differences."""
    differences = np.asarray(differences, dtype=float)
    ids = tuple(f"{i:04d}" for i in range(len(differences)))
    return PairedScores(ids, np.maximum(differences, 0), np.maximum(-differences, 0), n_replicates)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.sampled_from([1, 3, 7]))
def test_few_problems_are_enumerated(steps, denominator):
    """Exact to rounding, zeros dropped or not, whatever the fractions."""
    p_value, enumerated = sign_flip_p_value(np.array(steps) / denominator)

    assert p_value == pytest.approx(float(by_hand(steps)), abs=1e-12)
    assert enumerated == 2 ** sum(step != 0 for step in steps)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_swapping_arms_or_shuffling_leaves_the_enumerated_p(differences, shuffler):
    """A two-sided test of unordered problems."""
    differences = differences[:10]
    p_value, _ = sign_flip_p_value(np.array(differences))
    shuffled = list(differences)
    shuffler.shuffle(shuffled)

    assert 0 < p_value <= 1
    assert sign_flip_p_value(-np.array(differences))[0] == pytest.approx(p_value, abs=1e-12)
    assert sign_flip_p_value(np.array(shuffled))[0] == pytest.approx(p_value, abs=1e-12)


def test_draws_approach_enumeration():
    """The same 14 differences drawn and enumerated differ by the error of 50,000 draws only."""
    differences = np.array([3, 2, 2, 1, 1, 1, 1, 1, 1, -1, -1, -2, 3, 1]) / 3
    exact, enumerated = sign_flip_p_value(differences, resamples=20_000)
    drawn, none = sign_flip_p_value(differences, resamples=16_000)

    assert enumerated == 2**14
    assert none == 0
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact / 16_000))


def test_sums_of_thirds_tie_as_on_paper():
    """299 differences of a third each way sum to a third at the least: nothing is nearer to zero, so p is 1."""
    for seed in range(30):
        steps = np.random.default_rng(seed).permutation([1] * 120 + [2] * 30 + [-1] * 119 + [-2] * 30)
        assert steps.sum() == 1
        assert sign_flip_p_value(steps / 3, resamples=300, seed=seed)[0] == 1


def test_draws_never_say_zero():
    """60 differences of one sign: the observed pattern counts itself."""
    p_value, _ = sign_flip_p_value(np.ones(60), resamples=999)
    assert p_value == pytest.approx(1 / 1000)


def test_one_generation_per_problem_is_mcnemars_test():
    """Flipping signs of +1 and -1 is tossing a fair coin for each discordant problem."""
    scores = scores_of([1] * 29 + [-1] * 19 + [0] * 152)
    found = sign_flip(scores)

    assert mcnemar_p_value(29, 19) == pytest.approx(0.193, abs=5e-4)
    assert found.p_value == pytest.approx(mcnemar_p_value(29, 19), abs=0.006)
    assert found.interval == "tango"


def test_no_difference_at_all():
    """P is 1 and the interval still has a width."""
    found = sign_flip(scores_of([0] * 30, 3))

    assert found.p_value == 1
    assert found.effect == 0
    assert found.low < -0.1 < 0.1 < found.high


def test_the_result_says_how_it_was_made():
    """Draws name their number and seed; enumeration its number of patterns and no seed."""
    drawn = sign_flip(scores_of([1 / 3] * 20 + [-1 / 3] * 14, 3), resamples=500, seed=11)
    enumerated = sign_flip(scores_of([1 / 3, 1 / 3, -1 / 3, 0], 3))

    assert (drawn.test, drawn.n_resamples, drawn.seed) == ("sign_flip", 500, 11)
    assert (drawn.n_problems, drawn.n_replicates, drawn.interval) == (34, 3, "t")
    assert (enumerated.n_resamples, enumerated.seed) == (8, None)


def test_the_seed_decides_the_draws():
    """Same seed, same p; another seed, another p."""
    scores = scores_of([1 / 3] * 20 + [-1 / 3] * 14, 3)
    first, again, other = (sign_flip(scores, resamples=500, seed=seed).p_value for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_no_draws_are_refused():
    """At least one resample."""
    with pytest.raises(DeclarationError, match="resamples must be above 0, got resamples=0"):
        sign_flip_p_value(np.ones(40), resamples=0)
