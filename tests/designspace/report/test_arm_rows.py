"""Rows are sorted into arms of one configuration each, by their labels and where these do not suffice by their cells."""

from __future__ import annotations

from designspace.report import summarise
from designspace.report.arm_rows import arm_rows

OLD, NEW = "a1b2c3d4e5" + "0" * 54, "a1b2c3d4e6" + "0" * 54


def test_one_label_is_one_arm(small):
    """Whatever its replicates, which have a cell each."""
    arms = arm_rows(small)

    assert sorted(key.name for key in arms) == ["full", "greedy", "h2o", "r-kv"]
    assert {key.configuration for key in arms} == {None}
    assert [len(rows) for rows in arms.values()] == [4] * 4


def test_replicates_are_no_configurations(make_table):
    """Cells of other replicates belong to the same arm."""
    rows = [{"replicate": replicate, "problem_id": name} for replicate in range(3) for name in "ab"]
    (arm,) = arm_rows(make_table(*rows)).values()

    assert len(arm) == 6


def test_two_cells_of_one_replicate_are_two_arms(make_table):
    """Their texts are never pooled; the first digits in which their cells differ tell them apart."""
    rows = [{"cell_id": OLD, "problem_id": f"p{i}", "correct": False} for i in range(2)]
    rows += [{"cell_id": NEW, "problem_id": f"p{i}"} for i in range(3)]
    arms = summarise(make_table(*rows, {"mechanism": "r-kv"}))

    assert [(arm.mechanism, arm.configuration, arm.n_generations, arm.accuracy) for arm in arms] == [
        ("h2o [a1b2c3d4e6]", "a1b2c3d4e6", 3, 1.0),
        ("r-kv", None, 1, 1.0),
        ("h2o [a1b2c3d4e5]", "a1b2c3d4e5", 2, 0.0),
    ]


def test_texts_are_kept_as_digests(with_texts):
    """Equal texts have equal ones."""
    (rows,) = arm_rows(
        with_texts({"text": "x"}, {"text": "x", "problem_id": "b"}, {"text": "", "problem_id": "c"})
    ).values()

    assert rows[0]["text_digest"] == rows[1]["text_digest"] != rows[2]["text_digest"]
    assert all(len(row["text_digest"]) == 16 and row["code_id"] == "0.1.0+a" for row in rows)
