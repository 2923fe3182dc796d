"""A file appears whole or not at all, whatever happens in between."""

from __future__ import annotations

import errno
import os

import pytest

from designspace.errors import StoreError
from designspace.store.commit import atomic_bytes, atomic_file, document_bytes


@pytest.fixture
def places(tmp_path):
    """A target in a folder that does not exist yet, and a scratch folder."""
    return tmp_path / "deep" / "er" / "file.bin", tmp_path / "tmp"


def test_content_arrives_and_scratch_is_empty(places):
    """A commit makes the folders it needs and leaves nothing behind."""
    target, scratch = places
    atomic_bytes(target, b"one", scratch)
    atomic_bytes(target, b"two", scratch)
    assert target.read_bytes() == b"two"
    assert list(scratch.iterdir()) == []


def test_nothing_is_visible_before_the_end(places):
    """Readers do not see a file that is being written."""
    target, scratch = places
    with atomic_file(target, scratch) as stream:
        stream.write(b"half")
        stream.flush()
        assert not target.exists()
        assert len(list(scratch.iterdir())) == 1
    assert target.read_bytes() == b"half"


@pytest.mark.parametrize("refusal", [None, errno.EPERM, errno.EOPNOTSUPP])
def test_the_first_writer_wins_where_nothing_is_to_be_replaced(places, monkeypatch, refusal):
    """Also on a file system without hard links. The second writer meets no error, and leaves nothing behind."""
    target, scratch = places

    def refuse(*_args):
        raise OSError(refusal, "no links here")

    if refusal is not None:
        monkeypatch.setattr(os, "link", refuse)
    with atomic_file(target, scratch, replace=False) as late:
        late.write(b"late")
        atomic_bytes(target, b"early", scratch, replace=False)
        assert target.read_bytes() == b"early"
    assert target.read_bytes() == b"early"
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_interrupted_block_leaves_the_old_file(places, stop):
    """Ctrl-C included: the old content stays, the scratch file goes."""
    target, scratch = places
    atomic_bytes(target, b"old", scratch)

    def interrupted():
        with atomic_file(target, scratch) as stream:
            stream.write(b"new")
            raise stop

    with pytest.raises(stop):
        interrupted()
    assert target.read_bytes() == b"old"
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_refusing_file_system_fails_the_commit(places, monkeypatch, call):
    """A full disk is an error that names the file, never a message in passing."""
    target, scratch = places

    def refuse(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    scratch.mkdir()
    target.parent.mkdir(parents=True)
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(StoreError, match=r"cannot write .*file\.bin.*No space left"):
        atomic_bytes(target, b"x", scratch)
    monkeypatch.undo()
    assert not target.exists()
    assert list(scratch.iterdir()) == []


def test_the_file_and_its_folder_are_synced_in_order(places, monkeypatch):
    """The content is on disk before the name, the name before the return."""
    target, scratch = places
    scratch.mkdir()
    target.parent.mkdir(parents=True)
    calls = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def spy(name):
        def called(*args):
            calls.append(name)
            return real[name](*args)

        return called

    for name in real:
        monkeypatch.setattr(os, name, spy(name))
    atomic_bytes(target, b"x", scratch)
    assert calls == ["fsync", "replace", "fsync"]


def test_document_bytes_depends_on_content_alone():
    """Key order does not matter; NaN and objects are refused."""
    assert document_bytes({"b": 1, "a": "é"}) == document_bytes({"a": "é", "b": 1}) == '{"a":"é","b":1}'.encode()
    for wrong in (float("nan"), object(), {1, 2}):
        with pytest.raises(StoreError, match="plain JSON"):
            document_bytes({"x": wrong})
