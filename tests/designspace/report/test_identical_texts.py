"""Arms of which every text is equal are named, whatever the cause; one letter makes them different."""

from __future__ import annotations

import pytest

from designspace.report import table_report, wording

FULL = {"mechanism": "full", "budget": "none", "budget_tokens": None, "budget_of": None, "n_events": 0}


def texts(arm, words, **changes):
    """Rows of an arm that wrote these words, one problem each."""
    return [{"mechanism": arm, "problem_id": f"p{i}", "text": word, **changes} for i, word in enumerate(words)]


def found(table):
    """What is said of each arm."""
    return {arm.mechanism: arm.identical_to for arm in table_report(table).arms}


def test_equal_texts_are_found(with_texts):
    """Both arms are marked, and a note says how many texts that is."""
    table = with_texts(*texts("a", "xyz"), *texts("b", "xyz"), *texts("c", "xyw"))
    report = table_report(table)

    assert found(table) == {"a": "b", "b": "a", "c": None}
    assert (
        "pocket, chain/dev, budget 48, a: Identical texts to b: all 3 are equal. Whatever sets these arms apart did nothing "
        "here; that they score alike is no result."
    ) in report.notes
    assert [wording.comparable(arm) for arm in report.arms] == [
        "yes, identical texts to b",
        "yes, identical texts to a",
        "yes",
    ]


def test_three_alike_share_one_note(with_texts):
    """Each is marked with another one."""
    table = with_texts(*texts("a", "xy"), *texts("b", "xy"), *texts("c", "xy"))

    assert found(table) == {"a": "b", "b": "a", "c": "a"}
    assert len([note for note in table_report(table).notes if "Identical texts" in note]) == 1


def test_an_arm_that_never_cut_equals_the_full_cache(with_texts):
    """Across budgets too, and the other arm is named with its budget."""
    large = {"budget": "512", "budget_tokens": 512, "n_events": 0}
    report = table_report(with_texts(*texts("full", "xy", **FULL), *texts("h2o", "xy", **large), *texts("h2o", "xz")))

    assert [(arm.budget, arm.identical_to) for arm in report.arms] == [
        ("none", "h2o at budget 512"),
        ("48", None),
        ("512", "full (no budget)"),
    ]
    assert wording.comparison(report.arms[2]) == "never cut, identical texts to full (no budget)"


def test_arms_of_other_models_or_tasks_are_not_compared(with_texts):
    """Equal answers there say nothing about an axis."""
    assert set(
        found(with_texts(*texts("a", "x"), *texts("b", "x", model="big"), *texts("c", "x", task="t"))).values()
    ) == {None}


def test_only_generations_that_all_have_are_compared(with_texts):
    """Of an unfinished arm, those that are there."""
    assert found(with_texts(*texts("a", "xyz"), *texts("b", "xy"))) == {"a": "b", "b": "a"}


def test_replicates_count_one_by_one(with_texts):
    """The second generation tells these two apart."""
    again = [
        {"mechanism": arm, "problem_id": "p0", "replicate": 1, "text": word} for arm, word in (("a", "x"), ("b", "y"))
    ]
    assert set(found(with_texts(*texts("a", "x"), *texts("b", "x"), *again)).values()) == {None}


@pytest.mark.parametrize("words", [("x", "x "), ("é", "é".encode().decode("latin-1")), ("", " ")])
def test_nearly_equal_is_not_equal(with_texts, words):
    """To the byte."""
    assert set(found(with_texts(*texts("a", words[:1]), *texts("b", words[1:]))).values()) == {None}


def test_without_texts_nothing_is_claimed(small):
    """A table need not have them."""
    assert {arm.identical_to for arm in table_report(small).arms} == {None}
