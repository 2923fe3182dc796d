"""The store keeps every committed row once, whole, and says what it cannot read."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from designspace.errors import StoreError
from designspace.query import open_results
from designspace.store import (
    GRADES_SCHEMA,
    RESULTS_SCHEMA,
    DamagedFilesWarning,
    ResultsStore,
    ShardKey,
)
from designspace.store.scan import grades_contents
from designspace.store.schema import table_from_rows
from designspace.store.shard_file import write_shard

LISTS = ("prompt_token_ids", "token_ids", "forced_logps", "forced_full_logps", "forced_agrees")


def test_empty_store_gives_an_empty_table_of_the_right_schema(store):
    """Queries on a store without rows work."""
    table = store.samples().to_table()
    assert (table.num_rows, table.schema) == (0, RESULTS_SCHEMA)
    assert list(store.to_pandas(["model", "correct"]).columns) == ["model", "correct"]
    assert (store.studies(), store.cells(), store.failures(), store.shards(), store.damaged()) == ({}, {}, [], [], [])


def test_rows_come_back_as_they_were_committed(store, make_row, ids):
    """Every value survives, text and time included."""
    cell, _, shard = ids
    store.commit(cell, shard, {"cell": 1}, [make_row()])
    row = store.samples().to_table().to_pylist()[0]
    expected = make_row() | {"cell_id": cell, "shard_id": shard, "cache_tokens_per_step": [11.0, 12.0, 13.0]}
    expected |= {name: list(expected[name]) for name in LISTS}
    assert {name: row[name] for name in expected} == expected
    assert store.to_pandas()["text"][0] == make_row()["text"]


def test_committed_means_exists_and_opens(store, make_row, ids):
    """A shard is pending before, done after, and pending again when its file is torn."""
    cell, _, shard = ids
    assert not store.is_committed(cell, shard)
    path = store.commit(cell, shard, {"cell": 1}, [make_row()])
    assert store.is_committed(cell, shard)
    path.write_bytes(path.read_bytes()[:-20])
    assert not store.is_committed(cell, shard)
    with pytest.warns(DamagedFilesWarning, match="set aside, to be made anew"):
        store.commit(cell, shard, {"cell": 1}, [make_row()])
    assert store.is_committed(cell, shard)
    assert store.damaged() == []


def test_the_first_commit_of_a_shard_wins(store, make_row, ids):
    """A second worker neither doubles nor rewrites a row."""
    cell, _, shard = ids
    first = store.commit(cell, shard, {"cell": 1}, [make_row(worker="a")]).read_bytes()
    second = store.commit(cell, shard, {"cell": 1}, [make_row(worker="b", attempt=2)]).read_bytes()
    assert first == second
    assert store.to_pandas(["worker"])["worker"].tolist() == ["a"]


def test_a_cell_has_one_identity(store, make_row, ids):
    """The same id with another preimage is refused, and nothing of it is stored."""
    cell, _, shard = ids
    store.commit(cell, shard, {"rows": 64}, [make_row()])
    with pytest.raises(StoreError, match="another identity"):
        store.commit(cell, "6" * 32, {"rows": 32}, [make_row()])
    assert len(store.shards()) == 1
    assert store.cells() == {cell: {"rows": 64}}


def test_a_file_found_alone_carries_its_identity(store, make_row, ids, tmp_path):
    """The identity document is in the Parquet metadata."""
    cell, _, shard = ids
    path = store.commit(cell, shard, {"model": "pocket", "rows": 64}, [make_row()])
    lonely = shutil.copy(path, tmp_path / "lonely.parquet")
    assert json.loads(pq.read_schema(lonely).metadata[b"designspace.identity"]) == {"model": "pocket", "rows": 64}


def test_bad_rows_commit_nothing(store, make_row, ids):
    """A row that breaks the schema fails the shard, and the message names the column."""
    cell, _, shard = ids
    with pytest.raises(StoreError, match="row 1: column 'n_events'"):
        store.commit(cell, shard, {}, [make_row(), make_row(n_events="many")])
    with pytest.raises(StoreError, match="cell_id must be"):
        store.commit(cell, shard, {}, [make_row(cell_id="other")])
    assert not store.is_committed(cell, shard)
    assert store.samples().count_rows() == 0


def test_grades_overlay_samples(filled, ids):
    """Rows carry their grades; ungraded rows have nulls."""
    cell, other, _ = ids
    frame = filled.to_pandas()
    graded, ungraded = frame[frame.cell_id == cell], frame[frame.cell_id == other]
    assert graded["correct"].tolist() == [False, True, True]
    assert set(graded["grader_id"]) == {"grader-1"}
    assert ungraded["correct"].isna().all()
    assert filled.grades_committed("grader-1", cell, "5" * 32)
    assert not filled.grades_committed("grader-2", cell, "5" * 32)


def test_the_most_complete_grader_wins_and_the_newest_of_equals(filled, make_grade, ids):
    """A regrading takes over when it is as complete as the old one, shard by shard until then."""
    cell, other, shard = ids
    wrong = [make_grade(i, correct=False) for i in range(3)]
    filled.commit_grades("grader-0", cell, shard, wrong)
    assert set(filled.to_pandas(["grader_id"])["grader_id"].dropna()) == {"grader-0"}
    filled.commit_grades("grader-1", other, shard, [make_grade(i) for i in range(3)])
    assert set(filled.to_pandas(["grader_id"])["grader_id"]) == {"grader-1"}
    chosen = filled.to_pandas(["correct"], grader_id="grader-0")["correct"]
    assert chosen.tolist()[:3] == [False] * 3
    assert chosen[3:].isna().all()
    with pytest.raises(StoreError, match="no grades by grader 'grader-9'"):
        filled.samples(grader_id="grader-9")


def test_a_less_complete_grader_fills_the_gaps(filled, make_grade, ids):
    """Two studies graded by two versions are both graded in one table."""
    _, other, shard = ids
    filled.commit_grades("zz-new", other, shard, [make_grade(i) for i in range(3)])
    assert set(filled.to_pandas(["grader_id"])["grader_id"]) == {"grader-1", "zz-new"}


def test_grades_of_other_rows_are_refused(filled, make_grade, ids):
    """Grades must follow the row order of their samples."""
    cell, _, shard = ids
    with pytest.raises(StoreError, match="problem_id and replicate must be those of its samples"):
        filled.commit_grades("grader-2", cell, shard, [make_grade(i) for i in (1, 0, 2)])
    assert not filled.grades_committed("grader-2", cell, shard)


def test_grades_need_their_samples(store, make_grade, ids):
    """Grades say which samples they are of, so they cannot come first."""
    cell, _, shard = ids
    with pytest.raises(StoreError, match="samples must be stored first"):
        store.commit_grades("grader-1", cell, shard, [make_grade(0)])


def test_grades_of_other_rows_found_on_disk_are_reported(filled, make_grade, ids):
    """Grades that do not fit their samples are ignored by the scan, with a reason."""
    cell, _, shard = ids
    rows = [make_grade(7) | {"cell_id": cell, "shard_id": shard, "grader_id": "grader-1"}]
    path = filled.root / "grades" / "grader-1" / cell[:2] / cell / f"{shard}.parquet"
    table = table_from_rows(rows, GRADES_SCHEMA, "grades")
    path.unlink()
    write_shard(path, table, grades_contents(ShardKey(cell, shard), "grader-1"), None, filled.root / "tmp")
    with pytest.warns(DamagedFilesWarning, match="problem_id and replicate differ"):
        assert filled.to_pandas()["correct"].isna().all()
    assert "differ" in filled.damaged()[0].reason


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path, _: path.write_bytes(path.read_bytes()[:-20]), "not those of its checksum"),
        (lambda path, _: path.write_bytes(b""), "0 bytes"),
        (lambda path, _: path.write_text("hello, I am not a table"), "magic bytes"),
        (lambda path, _: path.rename(path.with_stem("7" * 32)), "shard_id"),
        (lambda path, _: pq.write_table(pa.table({"a": [1]}), path), "no designspace metadata"),
        (lambda path, other: shutil.copy(other, path), "cell_id"),
        (lambda path, _: _flip_byte(path), "not those of its checksum"),
    ],
    ids=["torn", "empty", "text", "renamed", "foreign-parquet", "other-cell", "bit-rot"],
)
def test_damaged_files_are_reported_and_never_stop_a_scan(filled, ids, harm, reason):
    """Whatever happens to one file, the rest reads, and `damaged` names the file and the reason."""
    cell, other, shard = ids
    top = filled.root / "samples"
    harm(top / cell[:2] / cell / f"{shard}.parquet", top / other[:2] / other / f"{shard}.parquet")
    with pytest.warns(DamagedFilesWarning, match="left out 1 "):
        assert set(filled.to_pandas()["cell_id"]) == {other}
    damaged = filled.damaged()
    assert len(damaged) == 1
    assert reason in damaged[0].reason
    assert cell in str(damaged[0])


def _flip_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 0xFF  # in the middle of a data page: the footer is whole
    path.write_bytes(content)


def test_damaged_files_can_be_set_aside(filled, make_row, ids):
    """After that their shards are made anew by the same command, and nothing was deleted; the grades of old rows go too."""
    cell, _, shard = ids
    path = filled.root / "samples" / cell[:2] / cell / f"{shard}.parquet"
    grades = filled.root / "grades" / "grader-1" / cell[:2] / cell / f"{shard}.parquet"
    _flip_byte(path)
    moved = [file.moved_to for file in filled.set_damaged_aside()]
    assert moved == [filled.root / "damaged" / file.relative_to(filled.root) for file in (path, grades)]
    assert all(file.exists() for file in moved)
    assert not filled.is_committed(cell, shard)
    filled.commit(cell, shard, {"cell": 1}, [make_row(i) for i in range(3)])
    assert filled.samples().count_rows() == 6
    assert filled.damaged() == []


def test_torn_documents_are_left_out_with_a_word(filled):
    """The others are read."""
    (filled.root / "cells" / "ab" / "abcd.json").write_text('{"torn":')
    assert [file.path.name for file in filled.damaged()] == ["abcd.json"]
    with pytest.warns(DamagedFilesWarning, match=r"abcd\.json: not readable as JSON.*designspace doctor .* --mend"):
        assert len(filled.cells()) == 2


def test_a_newer_shard_schema_is_left_out_with_its_version(filled, ids, monkeypatch):
    """An old reader does not guess at a new file."""
    monkeypatch.setattr("designspace.store.scan.SAMPLES_VERSION", 0)
    with pytest.warns(DamagedFilesWarning, match="schema version 1 is newer than 0"):
        assert filled.samples().count_rows() == 0


def test_column_projection_and_filters(filled, ids):
    """Only what is asked for is read, in the order asked; a misspelt column gets a suggestion."""
    cell, _, _ = ids
    table = filled.samples(["correct", "model"], cell_ids={cell}).to_table()
    assert (table.column_names, table.num_rows) == (["correct", "model"], 3)
    with pytest.raises(StoreError, match=r"unknown column 'modle' \(did you mean 'model'\?\)"):
        filled.samples(["modle"])


def test_frames_have_no_categories(filled):
    """Grouping by labels counts only combinations that occurred, in every version of pandas."""
    grouped = filled.to_pandas().groupby(["model", "mechanism"]).size()
    assert dict(grouped) == {("pocket-llama", "h2o"): 3, ("pocket-llama", "r-kv"): 3}


def test_two_studies_share_a_store(filled, make_row, ids):
    """A second study adds its cells, finds shared ones done, and both declarations are kept."""
    cell, _, shard = ids
    filled.write_study("first", {"budgets": [48]})
    filled.write_study("second", {"budgets": [96]})
    path = filled.write_study("second", {"budgets": [96]})
    filled.write_study("second", {"budgets": [128]})
    assert filled.is_committed(cell, shard)
    filled.commit("ef" + "2" * 62, shard, {"cell": 3}, [make_row(study="second")])
    studies = filled.studies()
    assert studies["first"] == [{"budgets": [48]}]
    assert sorted(d["budgets"][0] for d in studies["second"]) == [96, 128]
    assert json.loads(path.read_text()) == {"budgets": [96]}
    assert set(filled.to_pandas()["study"]) == {"quick", "second"}


def test_failures_are_kept_with_their_reasons(store, ids):
    """Each attempt leaves its reason."""
    cell, _, shard = ids
    store.record_failure(cell, shard, 1, {"error": "OutOfMemory"})
    store.record_failure(cell, shard, 2, {"error": "Killed"})
    assert [(f.attempt, f.reason["error"], f.shard_id) for f in store.failures()] == [
        (1, "OutOfMemory", shard),
        (2, "Killed", shard),
    ]


def test_open_results_reads(filled, ids):
    """The reading side offers dataset, frame, studies and cells."""
    results = open_results(filled.root)
    assert results.dataset.to_table().schema.equals(RESULTS_SCHEMA)
    assert len(results.to_pandas(["text"])) == 6
    assert set(results.cells()) == set(ids[:2])
    assert (results.studies(), results.failures(), results.damaged()) == ({}, [], [])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)), repeats=st.lists(st.integers(0, 5), max_size=4))
def test_any_commit_order_gives_the_same_table(tmp_path_factory, make_row, make_grade, order, repeats):
    """The table depends on what was committed, not on when, by whom, or how often."""

    def run(sequence, root):
        store = ResultsStore.open(root)
        for n in sequence:
            cell, shard = f"{n // 2:02d}" + "a" * 62, f"{n:032d}"
            store.commit(cell, shard, {"cell": n // 2}, [make_row(n * 10 + i) for i in range(2)])
            store.commit_grades("g1", cell, shard, [make_grade(n * 10 + i) for i in range(2)])
        return ResultsStore.open(root).samples().to_table()

    root = tmp_path_factory.mktemp("orders")
    assert run([*order, *repeats], root / "a").equals(run(range(6), root / "b"))
