"""What a killed process left is removed after a day; what a live one is writing never is."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from designspace.store import scratch
from designspace.store.commit import atomic_file
from designspace.store.scratch import STALE_AFTER_S, is_being_written, scratch_name, sweep_scratch


def make(folder, name, age_s):
    """Make a scratch file of some age, by the clock of the file system."""
    path = folder / name
    path.write_bytes(b"")
    os.utime(path, (time.time() - age_s,) * 2)
    return path


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_stale_scratch_files_are_swept(tmp_path, dead):
    """A file of another process at work is left alone."""
    make(tmp_path, f"{dead}-{'a' * 16}-fresh", 60)
    make(tmp_path, f"{dead}-{'a' * 16}-stale", STALE_AFTER_S + 60)
    make(tmp_path, f"elsewhere~1-{'a' * 16}-stale", STALE_AFTER_S + 60)
    assert [path.name[-5:] for path in sweep_scratch(tmp_path)] == ["stale", "stale"]
    assert [path.name[-5:] for path in tmp_path.iterdir()] == ["fresh"]
    assert sweep_scratch(tmp_path / "absent") == []


def test_a_clock_that_is_ahead_removes_no_live_file(tmp_path, monkeypatch):
    """Ages are by the clock of the file system, which stamped the file; this machine's may be 25 hours ahead of it."""
    live = make(tmp_path, f"elsewhere~7-{'a' * 16}-live", 60)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 25 * 3600)
    assert sweep_scratch(tmp_path) == []
    assert list(tmp_path.iterdir()) == [live]


def test_a_file_system_that_is_behind_still_ages(tmp_path, dead, monkeypatch):
    """Its own time is what counts, in both directions."""
    file_system_s = time.time() - 40 * 24 * 3600.0
    monkeypatch.setattr(scratch, "file_system_time_s", lambda folder: file_system_s)
    make(tmp_path, f"{dead}-{'a' * 16}-fresh", 40 * 24 * 3600 + 60)
    stale = make(tmp_path, f"{dead}-{'a' * 16}-stale", 42 * 24 * 3600)
    assert sweep_scratch(tmp_path) == [stale]


def test_what_a_live_process_of_this_host_writes_is_never_swept(tmp_path):
    """Whatever its age: a laptop that slept for two days goes on writing."""
    with atomic_file(tmp_path / "target", tmp_path / "tmp") as stream:
        (mine,) = (tmp_path / "tmp").iterdir()
        os.utime(mine, (0, 0))
        assert is_being_written(mine)
        assert sweep_scratch(tmp_path / "tmp") == []
        stream.write(b"whole")
    assert (tmp_path / "target").read_bytes() == b"whole"


def test_a_name_tells_whose_a_file_is(tmp_path, dead):
    """Host and process; a name without a host is from an earlier version, and taken for one of this host."""
    mine = scratch_name("x.parquet")
    assert is_being_written(tmp_path / mine)
    assert is_being_written(tmp_path / f"{os.getpid()}-{'a' * 16}-x")
    assert is_being_written(tmp_path / f"1-{'a' * 16}-x")  # of another user
    for other in (f"{dead}-{'a' * 16}-x", f"elsewhere~{os.getpid()}-{'a' * 16}-x", f"{'9' * 30}-{'a' * 16}-x", "notes"):
        assert not is_being_written(tmp_path / other)
    assert len(scratch_name("ä" * 300).encode()) < 256


def test_the_probe_leaves_nothing_behind_and_an_empty_folder_is_not_touched(tmp_path):
    """Opening a store writes nothing where there is nothing to sweep."""
    before = tmp_path.stat().st_mtime_ns
    assert sweep_scratch(tmp_path) == []
    assert before == tmp_path.stat().st_mtime_ns
    make(tmp_path, f"elsewhere~7-{'a' * 16}-live", 60)
    sweep_scratch(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
