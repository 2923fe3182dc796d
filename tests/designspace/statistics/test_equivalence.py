"""No harm is shown only when the whole interval lies inside the margin."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, ttest_1samp

from designspace.errors import DeclarationError
from designspace.statistics import equivalence, non_inferiority
from tests.designspace.statistics.test_permutation import scores_of


def sample(n, replicates, loss, seed):
    """Return scores of arms whose accuracies differ by -loss, by different amounts in different problems."""
    generator = np.random.default_rng(seed)
    before = generator.uniform(0.3, 0.7, n)
    after = before - loss + generator.choice([-0.1, 0.1], n)
    return scores_of(
        (generator.binomial(replicates, after) - generator.binomial(replicates, before)) / replicates, replicates
    )


@pytest.mark.parametrize("replicates", [1, 4])
@pytest.mark.parametrize("seed", range(12))
def test_p_and_interval_agree(replicates, seed):
    """P <= alpha exactly where the 1 - 2 alpha interval lies beyond the margin."""
    scores = sample(300, replicates, 0.01, seed)
    loss, both = non_inferiority(scores, 0.05), equivalence(scores, 0.05)

    assert (loss.p_value <= 0.05) == (loss.low >= -0.05)
    assert (both.p_value <= 0.05) == (both.low >= -0.05 and both.high <= 0.05)
    assert both.p_value >= loss.p_value
    assert loss.method == ("tango" if replicates == 1 else "t")


def test_replicates_use_t_on_problem_means():
    """Two one-sided tests, by hand."""
    scores = sample(60, 4, 0.0, 5)
    above = ttest_1samp(scores.differences, -0.04, alternative="greater").pvalue
    below = ttest_1samp(scores.differences, 0.04, alternative="less").pvalue

    assert non_inferiority(scores, 0.04).p_value == pytest.approx(above)
    assert equivalence(scores, 0.04).p_value == pytest.approx(max(above, below))


def test_no_difference_among_few_problems_shows_nothing():
    """30 problems without a discordant one leave room for a loss of 3 points."""
    assert non_inferiority(scores_of([0] * 30), 0.03).p_value > 0.1
    assert non_inferiority(scores_of([0] * 30, 3), 0.03).p_value > 0.1
    assert non_inferiority(scores_of([0] * 300), 0.03).p_value < 0.01


def test_equal_losses_beyond_the_margin():
    """A loss of one half everywhere is no non-inferiority, spread or not."""
    found = equivalence(scores_of([-0.5] * 20, 2), 0.1)
    assert found.p_value > 0.9
    assert found.method == "tango over problems"


@pytest.mark.parametrize(("n", "replicates"), [(30, 1), (100, 1), (500, 1), (100, 4)])
def test_error_rate_at_the_margin(n, replicates):
    """A true loss of just the margin passes in about 5 % of studies: 0.039 to 0.055 by Tango's statistic."""
    generator = np.random.default_rng(7 + n)
    passed = []
    for _ in range(1_000):
        if replicates == 1:
            only_arm, only_baseline, _ = generator.multinomial(n, [0.05, 0.10, 0.85])
            scores = scores_of([1] * only_arm + [-1] * only_baseline + [0] * (n - only_arm - only_baseline))
        else:
            scores = sample(n, replicates, 0.05, generator.integers(2**32))
        passed.append(non_inferiority(scores, 0.05).p_value <= 0.05)
    low = beta.ppf(0.025, sum(passed), len(passed) - sum(passed) + 1)
    assert low <= 0.05
    assert np.mean(passed) > 0.02


@pytest.mark.parametrize(("margin", "alpha"), [(0.0, 0.05), (-0.02, 0.05), (1.0, 0.05), (0.02, 0.5)])
def test_margins_and_levels_must_make_sense(margin, alpha):
    """A margin of zero is no margin."""
    with pytest.raises(DeclarationError, match="must be between 0 and 1"):
        non_inferiority(scores_of([0, 1, -1]), margin, alpha=alpha)
