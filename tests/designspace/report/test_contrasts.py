"""Paired contrasts: hand-computed differences, one family per group, no number where memory or problems allow none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from scipy.stats import binomtest

from designspace.errors import DeclarationError, UnknownName
from designspace.report.contrasts import Contrast, contrasts, default_against
from designspace.report.study_report import table_report
from designspace.statistics.tango import tango_interval

FULL = {
    "mechanism": "full", "budget": "none", "budget_tokens": None, "budget_of": None, "n_events": 0,
    "mean_cache_tokens": 200.0, "steady_mean_cache_tokens": None,
}  # fmt: skip
Make = Callable[..., pa.Table]


def rows(right: str, **arm: Any) -> list[dict[str, Any]]:
    """Rows of an arm from its outcomes in the order of the problems: 1 right, 0 wrong."""
    return [
        {**arm, "problem_id": f"p{i:02d}", "correct": outcome == "1", "lenient_correct": outcome == "1"}
        for i, outcome in enumerate(right)
    ]


def found(table: pa.Table, against: str | None = None, **options: Any) -> dict[tuple[str, str], Contrast]:
    """Return the contrasts of a table by budget and arm."""
    return {(c.budget, c.arm): c for c in contrasts(table_report(table), against, **options)}


def test_a_difference_is_that_of_the_table_and_interval_and_p_are_corrected_alike(make_table: Make) -> None:
    """Two contrasts with h2o: six problems of ten turn right under one, and one turns right and one wrong under the other."""
    table = make_table(
        *rows("1100000000", mechanism="h2o"),
        *rows("1111111100", mechanism="r-kv"),
        *rows("1010000000", mechanism="tova"),
    )
    report = table_report(table)
    accuracy = {arm.mechanism: arm.accuracy for arm in report.arms}
    by_arm = found(table, "h2o")
    better, even = by_arm["48", "r-kv"], by_arm["48", "tova"]
    joint = tango_interval(6, 0, 10, 1 - 0.05 / 2)

    assert list(by_arm) == [("48", "r-kv"), ("48", "tova")]
    assert (better.points, better.n_problems, better.n_better, better.n_worse) == (pytest.approx(60.0), 10, 6, 0)
    assert better.points == pytest.approx(100 * ((accuracy["r-kv"] or 0) - (accuracy["h2o"] or 0)))
    assert (better.low_points, better.high_points) == pytest.approx((100 * joint.low, 100 * joint.high))
    assert better.p_alone == binomtest(6, 6).pvalue == 1 / 32
    assert (better.p_value, better.n_comparisons, better.correction) == (2 / 32, 2, "Bonferroni over 2 contrasts")
    assert not better.is_significant
    assert (better.test, better.interval, better.memory) == ("mcnemar_exact", "tango", "matched")
    assert (even.points, even.n_better, even.n_worse, even.p_value) == (pytest.approx(0.0, abs=1e-12), 1, 1, 1.0)


def test_one_contrast_is_corrected_for_nothing(make_table: Make) -> None:
    """The same two arms alone: p is 1/32, and the interval is that of 95 %."""
    table = make_table(
        *rows("1100000000", mechanism="h2o"), *rows("1111111100", mechanism="r-kv"), *rows("1" * 10, mechanism="tova")
    )
    (one,) = found(table, "h2o", arms=["r-kv"]).values()
    alone = tango_interval(6, 0, 10, 0.95)

    assert (one.p_value, one.p_alone, one.n_comparisons, one.correction) == (1 / 32, 1 / 32, 1, "none: one contrast")
    assert (one.low_points, one.high_points) == pytest.approx((100 * alone.low, 100 * alone.high))
    assert one.is_significant


def test_each_budget_is_a_family_and_the_full_cache_a_reference_of_all(make_table: Make) -> None:
    """Held against the full cache by default: what the budget costs; the arms are not matched, and the contrast says so."""
    at_24 = {"budget": "24", "budget_tokens": 24, "mean_cache_tokens": 24.0, "steady_mean_cache_tokens": 24.0}
    table = make_table(
        *rows("1111111111", **FULL),
        *rows("1100000000", mechanism="h2o"),
        *rows("1111111100", mechanism="r-kv"),
        *rows("0000000000", mechanism="h2o", **at_24),
    )
    by_arm = found(table)

    assert default_against(table_report(table)) == "full"
    assert {key: (c.points, c.n_comparisons, c.memory) for key, c in by_arm.items()} == {
        ("24", "h2o"): (-100.0, 1, "reference"),
        ("48", "r-kv"): (pytest.approx(-20.0), 2, "reference"),
        ("48", "h2o"): (pytest.approx(-80.0), 2, "reference"),
    }
    assert {c.against_budget for c in by_arm.values()} == {"none"}
    against_rkv = found(table, "r-kv")
    assert against_rkv["24", "h2o"].void == "there is no r-kv at budget 24"
    assert against_rkv["48", "h2o"].points == pytest.approx(-60.0)
    assert ("none", "full") not in against_rkv


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"mean_cache_tokens": 49.5}, "the realised means must agree within 2.0%: r-kv has 49.5 tokens, h2o has 48.0"),
        ({"steady_mean_cache_tokens": 50.0}, "the steady mean of r-kv must be 48 within 2.0%, got 50.0"),
        ({"n_events": 0}, "at least 50% of the generations of r-kv must have an event, got 0.0%"),
    ],
)
def test_unmatched_arms_have_no_number_and_shrink_the_family(
    make_table: Make, changes: dict[str, Any], why: str
) -> None:
    """A void contrast says why, and the other one is corrected for itself alone."""
    table = make_table(
        *rows("1100000000", mechanism="h2o"),
        *rows("1111111100", mechanism="r-kv", **changes),
        *rows("1111110000", mechanism="tova"),
    )
    by_arm = found(table, "h2o")
    void = by_arm["48", "r-kv"]

    assert void.void == why
    assert (void.points, void.low_points, void.high_points, void.p_value, void.p_alone, void.memory) == (None,) * 6
    assert (by_arm["48", "tova"].void, by_arm["48", "tova"].n_comparisons) == (None, 1)


def test_an_arm_that_evicts_without_a_budget_is_no_reference(make_table: Make) -> None:
    """Its cache follows from the text, so nothing is matched with it; against the full cache it can be held."""
    growing = {**FULL, "mechanism": "growing", "n_events": 3}
    table = make_table(*rows("1" * 8, **FULL), *rows("1" * 6 + "00", **growing), *rows("0" * 8, mechanism="h2o"))

    assert (
        found(table, "growing")["48", "h2o"].void
        == "growing evicts without a budget, so its cache follows from the text"
    )
    assert found(table)["none", "growing"].points == -25.0


def test_too_few_problems_are_void(make_table: Make) -> None:
    """Of five problems that all turn, p is 1/16: nothing could show. Six are enough."""
    for n_problems, void in (
        (5, "the arms share 5 problems: no outcome on so few has a p value below 0.062"),
        (6, None),
    ):
        table = make_table(*rows("0" * n_problems, mechanism="h2o"), *rows("1" * n_problems, mechanism="r-kv"))
        assert found(table, "h2o")["48", "r-kv"].void == void


def test_arms_without_a_common_problem_of_all_are_paired_on_their_own(make_table: Make) -> None:
    """A third arm ran on other problems: the table withholds accuracies, and two arms still share eight problems."""
    elsewhere = [{**row, "problem_id": f"x{i}"} for i, row in enumerate(rows("11", mechanism="tova"))]
    more = rows("11111111111", mechanism="r-kv")
    for row in more[8:]:  # beside the shared problems its cache was larger
        row["mean_cache_tokens"] = 90.0
    table = make_table(*rows("00000000", mechanism="h2o"), *more, *elsewhere)
    by_arm = found(table, "h2o")

    assert (by_arm["48", "r-kv"].points, by_arm["48", "r-kv"].n_problems) == (100.0, 8)
    assert "the arms share no problem" in str(by_arm["48", "tova"].void)


def test_several_texts_per_problem_count_as_one_problem(make_table: Make) -> None:
    """Two replicates of eight problems: sign flips on the means of problems, n is 8; unequal replicates are void."""
    first, second = rows("1" * 8, mechanism="r-kv"), rows("1" * 7 + "0", mechanism="r-kv")
    base = [{**row, "replicate": r} for r in (0, 1) for row in rows("0" * 8, mechanism="h2o")]
    both = [*first, *({**row, "replicate": 1} for row in second)]
    one = found(make_table(*base, *both), "h2o")["48", "r-kv"]

    assert (one.points, one.n_problems, one.test) == (93.75, 8, "sign_flip")
    assert one.p_alone == 2 / 2**8
    assert "same number of generations" in str(found(make_table(*base, *first), "h2o")["48", "r-kv"].void)


def test_texts_without_grades_are_void(make_table: Make) -> None:
    """There is no accuracy to compare."""
    open_ = [{**row, "correct": None, "lenient_correct": None, "extracted": None} for row in rows("0" * 8)]
    table = make_table(*rows("1" * 8, mechanism="r-kv"), *open_)

    assert found(table, "h2o")["48", "r-kv"].void == "not every text is graded, so there is no accuracy to compare"


def test_an_unknown_arm_is_named_with_the_nearest(make_table: Make) -> None:
    """And where there is no full cache, one has to be chosen."""
    table = make_table(*rows("1" * 8, mechanism="r-kv"), *rows("0" * 8))

    with pytest.raises(UnknownName, match="unknown arm 'rkv' \\(did you mean 'r-kv'\\?\\)"):
        found(table, "rkv")
    with pytest.raises(UnknownName, match="unknown arm 'h20'"):
        found(table, "r-kv", arms=["h20"])
    with pytest.raises(DeclarationError, match="name one of r-kv, h2o"):
        found(table)
