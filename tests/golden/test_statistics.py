"""Tests, intervals and corrections against scipy, statsmodels and exact enumeration."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from designspace.statistics import (
    PairedScores,
    bonferroni,
    cluster_bootstrap_test,
    holm,
    pair,
    pass_at_k,
    proportion_interval,
    t_test,
)
from designspace.statistics.bootstrap import resample_differences
from designspace.statistics.intervals import resampled_means
from designspace.statistics.mcnemar import mcnemar_p_value
from designspace.statistics.permutation import sign_flip_p_value
from designspace.statistics.tango import tango_interval
from tests.golden.cases import golden_files


def entries(topic: str) -> list[Any]:
    """Return the cases of one file as pytest parameters; one skipped parameter where the golden data is missing."""
    [file] = golden_files("statistics", f"{topic}.json")
    if file.values[0] is None:
        return [file]
    return [pytest.param(entry, id=str(i)) for i, entry in enumerate(json.loads(file.values[0].read_text())["entries"])]


def paired(case: dict[str, Any]) -> PairedScores:
    """Return the scores of a bootstrap case, b less a: outcomes where it has them, else made to fit its differences."""
    if case["a"] is not None:
        arm, baseline = ({f"{i:03d}": row for i, row in enumerate(case[side])} for side in "ba")
        return pair(arm, baseline)
    differences = np.array(case["problem_mean_difference"])
    ids = tuple(f"{i:03d}" for i in range(len(differences)))
    return PairedScores(ids, np.maximum(differences, 0), np.maximum(-differences, 0), case["n_seeds"])


@pytest.mark.parametrize("case", entries("cluster_bootstrap"))
def test_cluster_bootstrap(case: dict[str, Any]) -> None:
    """Means and interval from the same indices, to 1e-9."""
    scores = paired(case)
    found = cluster_bootstrap_test(scores, resamples=case["resamples"], seed=case["index_seed"])

    assert (scores.n_problems, scores.n_replicates) == (case["n_problems"], case["n_seeds"])
    assert scores.differences == pytest.approx(case["problem_mean_difference"], abs=1e-9)
    assert found.effect == pytest.approx(case["mean_difference"], abs=1e-9)
    assert [found.low, found.high] == pytest.approx(case["ci95_percentile_given_indices"], abs=1e-9)


@pytest.mark.parametrize("case", entries("cluster_bootstrap"))
def test_tails_of_the_cluster_bootstrap(case: dict[str, Any]) -> None:
    """The stored shares compare floating-point means with zero, so sums of thirds that cancel may fall on either side.

    The shares are reproduced to 1e-9 with that comparison. P counts such sums on both sides: as in integers, with the
    sample itself as one more resample, and so more than from the stored shares, by that one alone where the differences
    are whole numbers.
    """
    means = resampled_means(np.array(case["problem_mean_difference"]), case["resamples"], case["index_seed"])
    shares = case["share_le_zero_given_indices"], case["share_ge_zero_given_indices"]
    steps = np.rint(np.array(case["problem_mean_difference"]) * case["n_seeds"]).astype(int)
    n = len(steps)
    draws = np.random.default_rng(case["index_seed"]).integers(0, n, size=(case["resamples"], n))
    sums = steps[draws].sum(axis=1)
    found = cluster_bootstrap_test(paired(case), resamples=case["resamples"], seed=case["index_seed"]).p_value

    assert (np.mean(means <= 0), np.mean(means >= 0)) == pytest.approx(shares, abs=1e-9)
    resamples = case["resamples"]
    assert found == pytest.approx(min(1.0, 2 * (1 + min(sum(sums <= 0), sum(sums >= 0))) / (1 + resamples)), abs=1e-12)
    assert found >= min(1.0, 2 * min(shares) - 1e-12)
    if case["n_seeds"] == 1:
        assert found == pytest.approx(min(1.0, 2 * (1 + resamples * min(shares)) / (1 + resamples)), abs=1e-9)


@pytest.mark.parametrize("case", entries("cluster_bootstrap"))
def test_cluster_bootstrap_against_scipy(case: dict[str, Any]) -> None:
    """Other draws, many of them: within 3 % of the width and one lattice step."""
    differences = np.array(case["problem_mean_difference"])
    found = resample_differences(differences, resamples=40_000, seed=1)
    low, high = case["ci95_percentile_scipy_large"]
    tolerance = 0.03 * (high - low) + 1 / (case["n_problems"] * case["n_seeds"])

    assert [found.low, found.high] == pytest.approx([low, high], abs=tolerance)


@pytest.mark.parametrize("case", entries("mcnemar_exact"))
def test_mcnemar(case: dict[str, Any]) -> None:
    """The exact p value, to 1e-10."""
    table = case["only_a_correct"], case["only_b_correct"]
    assert mcnemar_p_value(*table) == pytest.approx(case["p_exact"], abs=1e-10, rel=0)


@pytest.mark.parametrize("case", entries("multiple_testing"))
def test_corrections(case: dict[str, Any]) -> None:
    """Bonferroni and Holm, adjusted p values to 1e-12 and verdicts."""
    for correct, name in ((bonferroni, "bonferroni"), (holm, "holm")):
        found = correct(case["p"])
        assert found.adjusted == pytest.approx(case[name], abs=1e-12, rel=0)
        assert list(found.rejected) == case[f"{name}_reject_05"]


@pytest.mark.parametrize("case", entries("paired_tests"))
def test_t(case: dict[str, Any]) -> None:
    """The t test does not mind the unit; an accuracy needs one: tenths."""
    x = np.array(case["x"])
    scores = PairedScores(tuple(f"{i:03d}" for i in range(len(x))), np.clip(0.5 + x / 10, 0, 1), np.full(len(x), 0.5))
    assert t_test(scores).p_value == pytest.approx(case["p_t"], abs=1e-8)


@pytest.mark.parametrize("case", entries("pass_at_k"))
def test_pass_at_k(case: dict[str, Any]) -> None:
    """To 1e-12."""
    assert pass_at_k(case["n"], case["correct"], case["k"]) == pytest.approx(case["pass_at_k"], abs=1e-12)


@pytest.mark.parametrize("case", entries("proportion_interval"))
def test_proportions(case: dict[str, Any]) -> None:
    """Wilson and Clopper-Pearson, to 1e-9."""
    for method, key in (("wilson", "wilson"), ("exact", "beta")):
        found = proportion_interval(case["k"], case["n"], method)  # type: ignore[arg-type]
        assert [found.low, found.high] == pytest.approx(case[key], abs=1e-9)


@pytest.mark.parametrize("case", entries("sign_flip_exact"))
def test_sign_flips(case: dict[str, Any]) -> None:
    """Enumeration, to 1e-9."""
    p_value, enumerated = sign_flip_p_value(np.array(case["x"]))
    assert p_value == pytest.approx(case["p_two_sided"], abs=1e-9, rel=0)
    assert enumerated == 2 ** sum(x != 0 for x in case["x"])


@pytest.mark.parametrize("case", entries("tango_score_interval"))
def test_tango(case: dict[str, Any]) -> None:
    """To 1e-6 of the closed form, to 1e-5 of the numerical one."""
    found = tango_interval(case["b"], case["c"], case["n"], case["confidence"])
    numeric = [case["lower_numeric_restricted_mle"], case["upper_numeric_restricted_mle"]]
    assert [found.low, found.high] == pytest.approx([case["lower"], case["upper"]], abs=1e-6)
    assert [found.low, found.high] == pytest.approx(numeric, abs=1e-5)
