"""Rows become tables of exactly one schema, and drifted files are read or refused."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from designspace.errors import StoreError
from designspace.store.schema import GRADES_SCHEMA, RESULTS_SCHEMA, SAMPLES_SCHEMA, conform, table_from_rows

SMALL = pa.schema(
    [
        pa.field("n", pa.int32(), nullable=False),
        pa.field("x", pa.float64()),
        pa.field("flag", pa.bool_(), nullable=False),
        pa.field("label", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("steps", pa.list_(pa.float32()), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("ids", pa.list_(pa.int32())),
        pa.field("flags", pa.list_(pa.bool_())),
    ]
)
ROW = {
    "n": 1,
    "x": 0.5,
    "flag": True,
    "label": "a",
    "steps": [1.0, 2.0],
    "at": None,
    "ids": [7, 2**31 - 1],
    "flags": [True, False],
}


def test_valid_rows_become_the_schema(make_row, make_grade):
    """A complete row of each kind gives a table of that schema."""
    ids = {"cell_id": "ab12", "shard_id": "cd34"}
    assert table_from_rows([make_row() | ids], SAMPLES_SCHEMA, "samples").schema.equals(SAMPLES_SCHEMA)
    grades = table_from_rows([make_grade() | ids | {"grader_id": "g1"}], GRADES_SCHEMA, "grades")
    assert grades.schema.equals(GRADES_SCHEMA)


def test_numpy_scalars_and_arrays_are_values():
    """What numpy hands out is taken like Python's own numbers."""
    row = ROW | {"n": np.int64(3), "x": np.float32(0.5), "flag": np.bool_(False), "steps": np.array([1, 2])}
    assert table_from_rows([row], SMALL, "t").to_pylist() == [ROW | {"n": 3, "flag": False}]


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("n", 3.5, "an integer (int32)"),
        ("n", True, "an integer"),
        ("n", "3", "an integer"),
        ("n", None, "an integer"),
        ("n", 2**40, "too large"),
        ("x", float("nan"), "a finite number or None"),
        ("x", True, "a finite number"),
        ("flag", 1, "true or false"),
        ("label", b"bytes", "text"),
        ("label", 5, "text"),
        ("label", "\ud800", "text"),
        ("steps", "12", "a list of finite numbers"),
        ("steps", [[1.0]], "a list of finite numbers"),
        ("steps", [1.0, float("inf")], "a list of finite numbers"),
        ("at", datetime(2026, 1, 1), "a datetime with a time zone or None"),  # noqa: DTZ001
        ("at", "2026-01-01", "a datetime"),
        ("ids", [1.5], "a list of integers or None"),
        ("ids", [2**31], "a list of integers or None"),
        ("ids", "12", "a list of integers or None"),
        ("flags", [1.0], "a list of true or false or None"),
        ("flags", [0, 1], "a list of true or false or None"),
    ],
)
def test_wrong_types_name_the_column(column, value, rule):
    """A value that would be bent, or refused later, is refused with the column's name and the rule."""
    with pytest.raises(StoreError) as caught:
        table_from_rows([ROW, ROW | {column: value}], SMALL, "samples")
    assert repr(column) in str(caught.value)
    assert rule in str(caught.value)


def test_unknown_and_missing_keys_are_named():
    """A misspelt key gets the nearest column; missing keys are listed."""
    with pytest.raises(StoreError, match=r"row 0: unknown column 'lable' \(did you mean 'label'\?\)"):
        table_from_rows([ROW | {"lable": "a"}], SMALL, "samples")
    with pytest.raises(StoreError, match="row 1: missing columns n, x"):
        table_from_rows([ROW, {k: v for k, v in ROW.items() if k not in ("n", "x")}], SMALL, "samples")
    with pytest.raises(StoreError, match="at least one row"):
        table_from_rows([], SMALL, "samples")


def test_older_file_gains_nullable_columns_as_nulls():
    """A file from before a nullable column was added reads with nulls; a later file's extra column is dropped."""
    table = table_from_rows([ROW], SMALL, "t")
    drifted = table.drop_columns(["x"]).append_column("novel", pa.array([1]))
    assert conform(drifted, SMALL).to_pylist() == [ROW | {"x": None}]


def test_drift_that_loses_something_is_refused():
    """A missing required column, nulls in one, and a type that does not convert are refused by name."""
    table = table_from_rows([ROW], SMALL, "t")
    with pytest.raises(StoreError, match="column 'n' is missing"):
        conform(table.drop_columns(["n"]), SMALL)
    with pytest.raises(StoreError, match="column 'n' must not hold nulls, got 1"):
        conform(table.set_column(0, "n", pa.array([None], type=pa.int32())), SMALL)
    with pytest.raises(StoreError, match="column 'n' must be int32, got double"):
        conform(table.set_column(0, "n", pa.array([1.5])), SMALL)


def test_types_that_widen_without_loss_are_read():
    """Plain text in place of a dictionary, or a narrower integer, is the same data."""
    table = table_from_rows([ROW], SMALL, "t")
    table = table.set_column(0, "n", pa.array([1], type=pa.int8())).set_column(3, "label", pa.array(["a"]))
    assert conform(table, SMALL).equals(table_from_rows([ROW], SMALL, "t"))


def test_joined_schema_holds_every_column_once():
    """The joined table has the columns of both kinds, grades nullable because a sample may be ungraded."""
    assert len(set(RESULTS_SCHEMA.names)) == len(RESULTS_SCHEMA.names)
    assert set(RESULTS_SCHEMA.names) == {*SAMPLES_SCHEMA.names, *GRADES_SCHEMA.names}
    assert RESULTS_SCHEMA.field("correct").nullable
