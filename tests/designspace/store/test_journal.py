"""Journals: what is read back is what was written under the same conditions, whatever happened to the file meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from designspace.store import ResultsStore
from designspace.store.journal import Journal

CELL, SHARD = "c" * 64, "5" * 32


@pytest.fixture
def store(tmp_path: Path) -> ResultsStore:
    """An empty store."""
    return ResultsStore.open(tmp_path / "r")


def journal(store: ResultsStore, **conditions: object) -> Journal:
    """Return the journal of a new attempt at the shard."""
    return store.journal(CELL, SHARD, {"code": "1", **conditions})


def file_of(store: ResultsStore) -> Path:
    """Return the one file that there is."""
    (path,) = store.root.glob("journals/*/*/*")
    return path


def test_attempts_read_what_the_others_have_noted(store: ResultsStore) -> None:
    """Each writes a file of its own; every float comes back to the last bit."""
    first, second = journal(store), journal(store)
    first.write([{"a": 0.1 + 0.2, "b": [1, None, "é\n"]}])
    second.write([{"a": 2}])
    first.write([{"a": 3}, {"a": float("-inf")}])

    found = sorted(map(str, journal(store).entries()))
    assert (
        sorted(map(str, [{"a": 0.1 + 0.2, "b": [1, None, "é\n"]}, {"a": 2}, {"a": 3}, {"a": float("-inf")}])) == found
    )
    assert 2 == len(list(store.root.glob("journals/*/*/*")))


@pytest.mark.parametrize("cut", [1, 2, 40, 70])
def test_a_torn_line_is_passed_over(store: ResultsStore, cut: int) -> None:
    """A kill in the middle of a write; what the next attempt writes is in another file."""
    journal(store).write([{"a": 1}, {"a": 2}])
    path = file_of(store)
    path.write_bytes(path.read_bytes()[:-cut])
    journal(store).write([{"a": 3}])

    assert [1, 3] == sorted(entry["a"] for entry in journal(store).entries())


def test_a_damaged_line_is_passed_over_and_the_others_are_not(store: ResultsStore) -> None:
    """Every byte of a line is vouched for; a conditions line that is hit takes the whole file with it."""
    journal(store).write([{"a": 1}, {"a": 2}, {"a": 3}])
    path = file_of(store)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'{"a":2}', b'{"a":4}'))
    assert [1, 3] == [entry["a"] for entry in journal(store).entries()]

    path.write_bytes(whole.replace(b'"code":"1"', b'"code":"2"'))
    assert [] == list(journal(store).entries())


def test_other_conditions_are_left_alone(store: ResultsStore) -> None:
    """They are neither read nor removed, until the shard is committed."""
    journal(store, code="2").write([{"a": 1}])
    assert [] == list(journal(store).entries())
    assert [{"a": 1}] == list(journal(store, code="2").entries())

    journal(store).remove()
    assert [] == list(journal(store, code="2").entries())
    assert not (store.root / "journals").exists()


def test_what_is_removed_stays_removed(store: ResultsStore) -> None:
    """Another worker commits the shard while this one is still at it."""
    slow = journal(store)
    slow.write([{"a": 1}])
    journal(store).remove()
    slow.write([{"a": 2}])

    assert not list(store.root.glob("journals/*/*/*"))


def test_a_disk_that_refuses_is_no_error(store: ResultsStore) -> None:
    """The commit will tell; half a line is followed by nothing."""
    (store.root / "journals").write_text("no folder")
    full = journal(store)
    full.write([{"a": 1}])
    (store.root / "journals").unlink()
    full.write([{"a": 2}])

    assert [] == list(journal(store).entries())


def test_journals_are_no_fault_of_a_store(store: ResultsStore) -> None:
    """A check knows them, and tells foreign files from them."""
    journal(store).write([{"a": 1}])
    assert [] == store.examine()
    (file_of(store).parent / "notes.txt").write_text("mine")

    assert ["foreign"] == [str(finding.kind) for finding in store.examine()]
