"""What is wrong with a file is told from what is wrong with the moment: only the first is damage."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from designspace.errors import StoreError
from designspace.store import DamagedFilesWarning, ResultsStore
from designspace.store.stored_file import Absent, Damaged, Unreadable, read_file


def refuse(monkeypatch, number):
    """Let every reading of a file fail, but of documents."""
    read = Path.read_bytes

    def fail(self):
        if self.suffix == ".json":
            return read(self)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", fail)


def test_a_missing_file_is_absent(tmp_path):
    """Below a folder that is none, too."""
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nothing", tmp_path / "file" / "nothing"):
        with pytest.raises(Absent):
            read_file(path)


@pytest.mark.parametrize("number", [errno.EIO, errno.EISDIR])
def test_a_medium_that_fails_is_damage(tmp_path, monkeypatch, number):
    """A sector that is lost stays lost: the shard is made anew."""
    (tmp_path / "file").write_text("")
    refuse(monkeypatch, number)
    with pytest.raises(Damaged, match="cannot be read") as caught:
        read_file(tmp_path / "file")
    assert not isinstance(caught.value, Unreadable)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT])
def test_a_process_that_may_not_or_cannot_read_finds_no_damage(tmp_path, monkeypatch, number):
    """The file may be sound."""
    (tmp_path / "file").write_text("")
    refuse(monkeypatch, number)
    with pytest.raises(Unreadable):
        read_file(tmp_path / "file")


def test_what_is_no_file_is_damage_and_nobody_waits_for_it(tmp_path):
    """A pipe would keep its reader for ever."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(Damaged, match="not a regular file"):
            read_file(path)


def test_a_file_that_cannot_be_read_now_is_never_made_anew(filled, ids, make_row, monkeypatch):
    """The run stops with the file's name; reading goes on without it; nothing is moved or overwritten."""
    cell, _, shard = ids
    path = filled.root / "samples" / cell[:2] / cell / f"{shard}.parquet"
    before = path.read_bytes()
    store = ResultsStore.open(filled.root)
    refuse(monkeypatch, errno.EACCES)
    for ask in (
        lambda: store.is_committed(cell, shard),
        lambda: store.commit(cell, shard, {"cell": 1}, [make_row()]),
        lambda: store.set_shard_aside(cell, shard),
    ):
        with pytest.raises(StoreError, match=r"Permission denied"):
            ask()
    with pytest.warns(DamagedFilesWarning, match="Permission denied"):
        assert store.shards() == []
    assert {finding.kind for finding in store.examine()} >= {"unreadable"}
    assert store.set_damaged_aside() == []
    monkeypatch.undo()
    assert path.read_bytes() == before
