"""Intervals agree with reference values and never claim certainty."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.statistics import accuracy_interval, cluster_bootstrap, intervals, proportion_interval
from tests.conftest import GOLDEN


def golden(name):
    """Return the entries of a golden file."""
    return json.loads((GOLDEN / "statistics" / f"{name}.json").read_text())["entries"]


def test_proportions_agree_with_the_golden_values():
    """Wilson and Clopper-Pearson (called beta there) to 1e-9."""
    for case in golden("proportion_interval"):
        for method, key in (("wilson", "wilson"), ("exact", "beta")):
            found = proportion_interval(case["k"], case["n"], method)
            assert [found.low, found.high] == pytest.approx(case[key], abs=1e-9)


def test_bootstrap_agrees_with_the_golden_values():
    """The indices and the percentile are those of the definition, to 1e-9."""
    for case in golden("cluster_bootstrap"):
        means = case["problem_mean_difference"]
        found = cluster_bootstrap(means, resamples=case["resamples"], seed=case["index_seed"])
        assert [found.low, found.high] == pytest.approx(case["ci95_percentile_given_indices"], abs=1e-9)


def test_blocks_of_draws_change_nothing(monkeypatch):
    """Bounding the memory leaves the stream of indices as it is."""
    means = list(np.linspace(0, 1, 37))
    whole = cluster_bootstrap(means, resamples=501, seed=3)
    monkeypatch.setattr(intervals, "_DRAWS_PER_BLOCK", 37 * 5)
    assert cluster_bootstrap(means, resamples=501, seed=3) == whole


def test_one_generation_per_problem_uses_wilson():
    """15 of 30 is the textbook case."""
    found = accuracy_interval({f"p{i}": [i < 15] for i in range(30)})
    assert found.method == "wilson"
    assert (found.low, found.high) == pytest.approx((0.3315412564, 0.6684587436))


def test_replicates_use_the_bootstrap_over_problems():
    """More replicates of the same problems do not narrow the interval as more problems would."""
    few = accuracy_interval({f"p{i}": [i % 2 == 0] * 2 for i in range(40)})
    many = accuracy_interval({f"p{i}": [i % 2 == 0] * 64 for i in range(40)})
    assert few == many
    assert few.method == "cluster bootstrap over problems"


def test_problems_that_are_all_alike_still_leave_doubt():
    """The bootstrap would give [1, 1]; Wilson over the problems says what 10 problems can show."""
    found = accuracy_interval({f"p{i}": [True, True] for i in range(10)})
    assert found.method == "wilson over problems"
    assert (found.low, found.high) == pytest.approx((0.7224672, 1.0))


def test_the_order_of_problems_is_irrelevant():
    """A mapping in another order gives the same interval."""
    outcomes = {f"p{i}": [i % 3 == 0, i % 2 == 0] for i in range(20)}
    assert accuracy_interval(outcomes) == accuracy_interval(dict(reversed(outcomes.items())))


@pytest.mark.parametrize("outcomes", [{}, {"p": []}, {"p": [True], "q": []}])
def test_nothing_to_judge_is_an_error(outcomes):
    """No problems, or a problem without generations."""
    with pytest.raises(ValueError, match="at least one"):
        accuracy_interval(outcomes)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.lists(st.booleans(), min_size=1, max_size=4), min_size=1, max_size=12))
def test_intervals_hold_the_estimate_and_stay_in_range(outcomes):
    """0 <= low <= accuracy <= high <= 1 and low < high, for any outcomes."""
    found = accuracy_interval(outcomes)
    accuracy = np.mean([np.mean(values) for values in outcomes.values()])
    assert 0 <= found.low <= accuracy + 1e-12
    assert accuracy - 1e-12 <= found.high <= 1
    assert found.low < found.high
