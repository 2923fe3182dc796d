"""Which cells a study is: those of its newest document; which study a folder is of: the only one, or it is asked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from designspace.errors import DeclarationError, UnknownName
from designspace.report.declared import Declared, declared_study, newest_document, other_cells
from designspace.store import ResultsStore
from designspace.store.schema import SAMPLES_SCHEMA

CELL = {"model": "pocket", "task": "chain", "split": "dev", "mechanism": "h2o", "budget": "48", "replicate": 0}


def document(*cell_ids, **more):
    """A study's document with these cells."""
    return {"cells": [{**CELL, "cell_id": cell_id, "n_shards": 1, "n_problems": 1} for cell_id in cell_ids], **more}


@pytest.fixture
def store(tmp_path):
    """An empty store."""
    return ResultsStore.open(tmp_path / "r")


def commit(store, cell_id, hours=0, study="small", mechanism="h2o", n=1):
    """Store a shard of a cell, begun so many hours after the first."""
    filled = {f.name: None if f.nullable else _value(f.name, str(f.type)) for f in SAMPLES_SCHEMA}
    begun = {"started_at": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours)}
    rows = [
        {**filled, **CELL, **begun, "study": study, "mechanism": mechanism, "problem_id": f"p{i}", "cell_id": cell_id,
         "shard_id": "ab"}
        for i in range(n)
    ]  # fmt: skip
    store.commit(cell_id, "ab", {"of": cell_id}, rows)


def _value(name, kind):
    if "timestamp" in kind:
        return datetime(2026, 1, 1, tzinfo=UTC)
    if "list" in kind:
        return [1] if "int" in kind else [1.0]
    return 1 if "int" in kind and "dictionary" not in kind else 1.0 if "double" in kind else "x"


def test_the_highest_revision_stands(store):
    """Not the largest study, and not the last in the order of hashes."""
    for revision, cells in enumerate((("aa", "bb"), ("aa",), ("aa", "bb", "cc"), ("bb",)), start=1):
        store.write_study("small", document(*cells, revision=revision))
    declared = declared_study(store)

    assert (declared.study, list(declared.labels)) == ("small", ["bb"])


def test_without_revisions_the_newest_rows_decide(store):
    """As an earlier version wrote them; one whose cells have no row at all is older than any."""
    for cells in (("aa",), ("aa", "bb"), ("cc",), ("dd",)):
        store.write_study("small", document(*cells))
    for cell_id, hours in (("aa", 0), ("bb", 5), ("cc", 2)):
        commit(store, cell_id, hours)

    assert list(declared_study(store).labels) == ["aa", "bb"]
    assert newest_document(store, [document("dd"), document("aa")]) == document("aa")
    assert newest_document(store, [document("dd", revision=1), document("aa")]) == document("dd", revision=1)


def test_several_studies_are_named_in_one_line(store):
    """A dozen is cut short."""
    assert declared_study(store) is None
    for index in range(12):
        store.write_study(f"s{index:02d}", document("aa"))
    with pytest.raises(DeclarationError, match=r"holds 12 studies.*--study: s00, s01, .*s07 and 4 more$"):
        declared_study(store)

    assert declared_study(store, "s11").study == "s11"
    with pytest.raises(UnknownName, match="unknown study 's1x'"):
        declared_study(store, "s1x")


def test_other_cells_are_counted_by_label(store):
    """Whoever made them, with the labels they were made under."""
    commit(store, "aa", n=2)
    commit(store, "bb", study="other", n=3)
    commit(store, "cc", study="other", n=4)
    commit(store, "dd", study="other", mechanism="r-kv", n=1)
    found = other_cells(store, store.shards(), Declared("small", tuple(document("aa")["cells"])).labels)

    assert [(cells.study, cells.mechanism, cells.budget, cells.n_cells, cells.n_texts) for cells in found] == [
        ("other", "h2o", "48", 2, 7),
        ("other", "r-kv", "48", 1, 1),
    ]
    assert other_cells(store, store.shards(), ["aa", "bb", "cc", "dd"]) == []
