"""Renaming an arm renames its rows in the report, without making them again."""

from __future__ import annotations

from designspace.report import relabelled, summarise


def test_rows_take_the_names_of_the_sweep(make_table):
    """Cells that the sweep names take its name, others keep theirs."""
    table = make_table({"cell_id": "one", "mechanism": "old"}, {"cell_id": "two", "mechanism": "kept"})
    renamed = relabelled(table, {"one": "new", "three": "x"})
    assert renamed.schema == table.schema
    assert sorted(arm.mechanism for arm in summarise(renamed)) == ["kept", "new"]
