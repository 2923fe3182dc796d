"""Arms are compared on the problems that all of them have, and where there is none, not at all."""

from __future__ import annotations

from designspace.report import table_report

OPEN = {"correct": None, "lenient_correct": None, "extracted": None, "grader_id": None}


def rows_of(arm, problems, **changes):
    """Rows of an arm on some problems; it solves those with even numbers."""
    return [{"mechanism": arm, "problem_id": f"p{i}", "correct": i % 2 == 0, **changes} for i in problems]


def by_name(report):
    """Arms of a report by mechanism."""
    return {arm.mechanism: arm for arm in report.arms}


def test_accuracy_cache_and_texts_are_those_of_the_common_problems(make_table):
    """An arm of eight problems beside one of sixteen: both are shown on the eight, and how many these are is said."""
    easy = rows_of("h2o", range(8), mean_cache_tokens=48.0)
    more = rows_of("r-kv", range(8)) + rows_of("r-kv", range(8, 16), correct=True, mean_cache_tokens=90.0)
    report = table_report(make_table(*easy, *more))

    assert {arm.n_problems for arm in report.arms} == {arm.n_generations for arm in report.arms} == {8}
    assert {arm.accuracy for arm in report.arms} == {0.5}
    assert {arm.mean_cache_tokens for arm in report.arms} == {48.0}
    assert [(found.n_arms, found.n_common, found.n_left_out) for found in report.common] == [(2, 8, 8)]
    assert report.notes[0] == (
        "pocket, chain/dev: The 2 arms are compared on the 8 problems that all of them have. 8 more, which some of them lack "
        "or which are not graded, are in no number here."
    )


def test_all_arms_of_a_place_count_also_those_of_other_budgets(make_table):
    """They stand in one table and one figure; another model has problems of its own."""
    other = {"budget": "96", "budget_tokens": 96}
    report = table_report(
        make_table(*rows_of("h2o", range(6)), *rows_of("h2o", range(4), **other), *rows_of("x", range(9), model="big"))
    )

    assert [arm.n_problems for arm in report.arms] == [9, 4, 4]


def test_nothing_is_said_where_all_have_the_same(small):
    """The usual case."""
    assert not any("compared on" in note for note in table_report(small).notes)


def test_ungraded_texts_are_no_problems_of_a_graded_arm(make_table):
    """Else the graded half of one arm would stand beside the whole of another."""
    half = rows_of("h2o", range(4)) + rows_of("h2o", range(4, 8), **OPEN)
    report = table_report(make_table(*half, *rows_of("r-kv", range(8))))

    assert {(arm.n_graded, arm.n_problems) for arm in report.arms} == {(4, 4)}


def test_arms_that_nobody_grades_are_compared_on_their_texts(make_table):
    """Where the grader runs elsewhere there is a cache to compare all the same."""
    report = table_report(make_table(*rows_of("h2o", range(4), **OPEN), *rows_of("r-kv", range(2), **OPEN)))

    assert {arm.n_generations for arm in report.arms} == {2}


def test_without_a_common_problem_no_accuracy_is_shown(make_table):
    """Two halves of a sweep say nothing about each other."""
    report = table_report(make_table(*rows_of("h2o", range(4)), *rows_of("r-kv", range(4, 8))))

    assert [(arm.accuracy, arm.interval, arm.n_generations) for arm in report.arms] == [(None, None, 4)] * 2
    assert "No problem is common to all 2 arms yet" in report.notes[0]
    assert by_name(report)["h2o"].mean_cache_tokens == 48.0
