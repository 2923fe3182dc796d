"""Exports hold the same rows in the formats of other programs."""

from __future__ import annotations

import csv
import json

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from designspace.errors import StoreError
from designspace.store import export_results
from designspace.store.export import unguarded
from designspace.store.reader import frame

FORMULAS = (
    '=HYPERLINK("http://x.example","y")', "=1+1", "+1", "-1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1",
)  # fmt: skip
HARMLESS = ("1=1", " =1", "x", "", "'", "'quoted'", "''=1", '"=1"', "a\n=1", "ünïcode ＝", "[=1]")


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


def test_csv_holds_no_cell_that_a_spreadsheet_would_run(tmp_path):
    """A text, and a label, that begins like a formula begins with an apostrophe instead; a negative number stays one."""
    table = pa.table(
        {"text": FORMULAS, "mechanism": pa.array(FORMULAS).dictionary_encode(), "n": [-1.5] * len(FORMULAS)}
    )
    with export_results(ds.dataset(table), tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))

    assert [row["text"] for row in rows] == ["'" + text for text in FORMULAS]
    assert [row["mechanism"] for row in rows] == ["'" + text for text in FORMULAS]
    assert {row["n"] for row in rows} == {"-1.5"}


def test_a_guarded_text_can_be_had_back(tmp_path):
    """Every text comes back as it was, also one with an apostrophe of its own; nulls and empty texts stay apart."""
    texts = [*FORMULAS, *HARMLESS]
    table = pa.table(
        {"text": texts, "extracted": [None] * len(texts)},
        schema=pa.schema({"text": pa.string(), "extracted": pa.string()}),
    )
    with export_results(ds.dataset(table), tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        found = [row["text"] for row in csv.DictReader(stream)]

    assert [unguarded(text) for text in found] == texts
    assert [text for text, written in zip(texts, found, strict=True) if text == written] == [
        text for text in HARMLESS if not text.startswith("'")
    ]


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl"])
def test_other_formats_hold_every_text_as_it_is(tmp_path, name):
    """No program runs what stands in them."""
    path = export_results(ds.dataset(pa.table({"text": FORMULAS})), tmp_path / name)
    rows = (
        pq.read_table(path).to_pylist() if name.endswith("parquet") else map(json.loads, path.read_bytes().splitlines())
    )

    assert [row["text"] for row in rows] == list(FORMULAS)


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
