"""Exports hold the same rows in the formats of other programs."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from designspace.errors import StoreError
from designspace.store import export_results
from designspace.store.reader import frame


def test_parquet_round_trip(filled, tmp_path):
    """Parquet loses nothing."""
    path = export_results(filled.samples(), tmp_path / "all.parquet")
    pd.testing.assert_frame_equal(frame(pq.read_table(path)), filled.to_pandas())


def test_csv_round_trip(filled, tmp_path):
    """CSV keeps text with quotes, commas and line ends, and writes lists as JSON."""
    table = pd.read_csv(export_results(filled.samples(), tmp_path / "all.csv"))
    expected = filled.to_pandas()
    for column in ("text", "mechanism", "mean_cache_tokens", "n_new_tokens"):
        assert table[column].tolist() == expected[column].tolist()
    assert json.loads(table["cache_tokens_per_step"][0]) == [11.0, 12.0, 13.0]
    assert table["correct"].tolist()[:3] == [False, True, True]
    assert table["correct"][3:].isna().all()


def test_json_lines_round_trip(filled, tmp_path):
    """One object per line, times as ISO text, nulls as null."""
    lines = export_results(filled.samples(), tmp_path / "all.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    expected = filled.samples().to_table().to_pylist()
    assert [row["started_at"] for row in rows] == [row.pop("started_at").isoformat() for row in expected]
    assert [{k: v for k, v in row.items() if k != "started_at"} for row in rows] == expected


def test_empty_results_export(store, tmp_path):
    """An empty store exports a file with the columns and no rows."""
    assert pd.read_csv(export_results(store.samples(["model", "correct"]), tmp_path / "a.csv")).columns.tolist() == [
        "model",
        "correct",
    ]
    assert export_results(store.samples(), tmp_path / "a.jsonl").read_text() == ""


def test_partitioned_parquet(filled, tmp_path):
    """Columns become folders, and pyarrow reads them back; a folder that exists is left alone."""
    path = export_results(filled.samples(), tmp_path / "by", partition_by=["model", "mechanism"])
    assert sorted(p.name for p in (path / "model=pocket-llama").iterdir()) == ["mechanism=h2o", "mechanism=r-kv"]
    assert ds.dataset(path, partitioning="hive").count_rows() == 6
    with pytest.raises(StoreError, match="exists already"):
        export_results(filled.samples(), path, partition_by=["model"])
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_bad_requests_are_refused(filled, tmp_path):
    """An unknown format, a partitioned CSV and an unknown column are clear errors; nothing is written."""
    with pytest.raises(StoreError, match="parquet, csv, jsonl, got 'xlsx'"):
        export_results(filled.samples(), tmp_path / "all.xlsx")
    with pytest.raises(StoreError, match="needs the format parquet"):
        export_results(filled.samples(), tmp_path / "x", file_format="csv", partition_by=["model"])
    with pytest.raises(StoreError, match="unknown column 'modle'"):
        export_results(filled.samples(), tmp_path / "x", partition_by=["modle"])
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_an_existing_file_is_replaced_whole(filled, tmp_path, monkeypatch):
    """An export that fails half way leaves the old file."""
    path = tmp_path / "all.jsonl"
    path.write_text("old")

    def fail(*_args, **_kwargs):
        raise RuntimeError("half way")

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(RuntimeError, match="half way"):
        export_results(filled.samples(), path)
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.jsonl", "results"]
