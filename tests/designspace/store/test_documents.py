"""Documents come back as they were written, or are refused with a reason."""

from __future__ import annotations

import json

import pytest

from designspace.errors import StoreError
from designspace.store.commit import document_bytes
from designspace.store.documents import Failure, read_cell, read_document, read_failure, read_study, write_document
from designspace.store.seal import MARK, SEAL_KEY
from designspace.store.stored_file import Damaged


@pytest.mark.parametrize("document", [{}, {"b": 1, "a": {"z": "é"}}, {"text": MARK.decode() + "0" * 64 + '"'}])
def test_a_document_comes_back_without_its_checksum(tmp_path, document):
    """The file is plain JSON for any other program, with one key more."""
    path = tmp_path / "d.json"
    write_document(path, document, tmp_path / "tmp")
    assert read_document(path) == (document, True)
    raw = json.loads(path.read_bytes())
    assert len(raw.pop(SEAL_KEY)) == 64
    assert raw == document


def test_the_key_of_the_checksum_is_taken(tmp_path):
    """At any depth: the mark must stand in the file once."""
    for document in ({SEAL_KEY: "x"}, {"a": [{SEAL_KEY: "x"}]}):
        with pytest.raises(StoreError, match="must not have the key"):
            write_document(tmp_path / "d.json", document, tmp_path / "tmp")


def test_a_document_from_before_there_were_checksums_is_read(tmp_path):
    """And told from the others."""
    (tmp_path / "d.json").write_bytes(document_bytes({"a": 1}))
    assert read_document(tmp_path / "d.json") == ({"a": 1}, False)


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '"x"', "[" * 100_000, '{"a": 1, "designspace.sha256": "%s"}' % ("0" * 64)]
)
def test_what_is_no_document_is_damaged(tmp_path, text):
    """Torn, of another kind, nested without end, or written again by a program that moved the checksum."""
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(Damaged):
        read_cell(tmp_path / "d.json")


def test_a_declaration_lies_under_its_hash_and_its_study(store):
    """Its name is its checksum, so that older ones are checked too; a copy under another study is not read."""
    path = store.write_study("one", {"study": "one", "budgets": [48]})
    assert read_study(path) == {"study": "one", "budgets": [48]}
    other = path.parent.parent / "two" / path.name
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    with pytest.raises(Damaged, match="declares the study 'one'"):
        read_study(other)
    path.write_bytes(path.read_bytes().replace(b"48", b"96"))
    with pytest.raises(Damaged, match="checksum that is its name"):
        read_study(path)
    with pytest.raises(StoreError, match="declares the study 'one'"):
        store.write_study("two", {"study": "one"})


def test_a_failure_says_which_attempt_it_records(store, ids):
    """A record under another name, or without its fields, is damaged."""
    cell, other, shard = ids
    path = store.record_failure(cell, shard, 2, {"error": "Killed"})
    assert read_failure(path) == Failure(cell, shard, 2, {"error": "Killed"})
    elsewhere = path.with_name(f"{shard}.3.json")
    elsewhere.write_bytes(path.read_bytes())
    with pytest.raises(Damaged, match="the attempt that its name says"):
        read_failure(elsewhere)
    for field, value in (("attempt", "2"), ("attempt", True), ("reason", "Killed"), ("cell_id", other)):
        record = {"cell_id": cell, "shard_id": shard, "attempt": 2, "reason": {}, field: value}
        path.write_bytes(document_bytes(record))
        with pytest.raises(Damaged):
            read_failure(path)
