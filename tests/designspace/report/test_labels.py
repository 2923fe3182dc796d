"""Renaming an arm renames its rows in the report, without making them again."""

from __future__ import annotations

from designspace.report import relabelled, summarise


def test_rows_take_the_names_of_the_sweep(make_table):
    """Cells that the sweep names take its name, others keep theirs."""
    table = make_table({"cell_id": "one", "mechanism": "old"}, {"cell_id": "two", "mechanism": "kept"})
    renamed = relabelled(table, {"one": "new", "three": "x"})
    assert renamed.schema == table.schema
    assert sorted(arm.mechanism for arm in summarise(renamed)) == ["kept", "new"]


def test_every_label_can_be_another_one(make_table):
    """Models, tasks and budgets are labels too."""
    table = make_table({"cell_id": "one"}, {"cell_id": "two"})
    renamed = relabelled(table, {"one": {"model": "m", "task": "t", "split": "s", "mechanism": "a", "budget": "9"}})

    assert [(*arm.group, arm.mechanism) for arm in summarise(renamed)] == [
        ("m", "t", "s", "9", "a"),
        ("pocket", "chain", "dev", "48", "h2o"),
    ]
