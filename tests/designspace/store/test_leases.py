"""A shard has one holder at a time: exclusive while its run lives, free again when that run is dead or silent."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from designspace.errors import StoreError
from designspace.store.layout import ShardKey
from designspace.store.leases import Leases

KEY, OTHER = ShardKey("ab" + "0" * 62, "5" * 32), ShardKey("cd" + "1" * 62, "6" * 32)


def rewrite(folder: Path, key: ShardKey, **changes: object) -> Path:
    """Change what a lease says of its run, and return the file."""
    path = folder / f"{key.cell_id}.{key.shard_id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return path


def test_one_of_two_runs_holds_a_shard_until_it_gives_it_up(tmp_path: Path) -> None:
    """Taking it again is no error; the other one is told by whom it is held."""
    with Leases(tmp_path / "leases") as first, Leases(tmp_path / "leases") as second:
        assert [first.take(KEY), second.take(KEY), first.take(KEY), second.take(OTHER)] == [True, False, True, True]
        assert ({OTHER}, {KEY: first.me}) == (set(first.of_others()), second.of_others())
        assert f"process {os.getpid()} on " in str(second.of_others()[KEY])
        second.release(KEY)  # not its own: nothing happens
        assert not second.take(KEY)
        first.release(KEY)
        assert second.take(KEY)
    assert not (tmp_path / "leases").exists()


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    """Known at once on the same machine: the command that follows a `kill -9` need not wait until the lease expires."""
    script = f"""
import os, signal
from pathlib import Path
from designspace.store.layout import ShardKey
from designspace.store.leases import Leases
with Leases(Path({str(tmp_path / "leases")!r})) as mine:
    assert mine.take(ShardKey({KEY.cell_id!r}, {KEY.shard_id!r}))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert -9 == subprocess.run([sys.executable, "-c", script], check=False).returncode
    assert 2 == len(list((tmp_path / "leases").iterdir()))
    with Leases(tmp_path / "leases") as leases:
        assert leases.take(KEY)


def test_a_lease_of_another_machine_expires_when_it_is_not_renewed(tmp_path: Path) -> None:
    """Its process is not looked for here, even if one of that number is absent; its age is all there is to go by."""
    with Leases(tmp_path / "l") as mine:
        with Leases(tmp_path / "l", renew_s=0.05) as theirs:
            theirs.take(KEY)
            path = rewrite(tmp_path / "l", KEY, place="elsewhere", pid=2**22 + 1)
            os.utime(path, (1, 1))
            mine.valid_s = 1.0
            time.sleep(1.2)
            assert not mine.take(KEY)  # it has been renewed meanwhile
        os.utime(path, (1, 1))  # its run is gone without giving it up, as the file no longer looked like its own
        assert mine.take(KEY)


def test_ages_are_taken_by_the_clock_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is a day ahead does not take over what is alive."""
    with Leases(tmp_path / "l") as theirs, Leases(tmp_path / "l") as mine:
        theirs.take(KEY)
        rewrite(tmp_path / "l", KEY, place="elsewhere")
        now_s = time.time()
        monkeypatch.setattr(time, "time", lambda: now_s + 86400.0)
        assert not mine.take(KEY)


def test_a_lease_that_is_being_written_counts(tmp_path: Path) -> None:
    """Between its creation and its content it names nobody; it is respected for its own age."""
    with Leases(tmp_path / "l") as mine:
        path = tmp_path / "l" / f"{KEY.cell_id}.{KEY.shard_id}.json"
        path.touch()
        assert not mine.take(KEY)
        assert {KEY: None} == mine.of_others()
        os.utime(path, (1, 1))
        assert mine.take(KEY)


def test_a_run_that_lost_a_lease_does_not_remove_the_new_one(tmp_path: Path) -> None:
    """It stood still for minutes, and another has taken over."""
    with Leases(tmp_path / "l") as mine:
        mine.take(KEY)
        path = rewrite(tmp_path / "l", KEY, run="another")
        mine.release(KEY)
        assert path.exists()
        path.unlink()


def test_what_dead_runs_left_is_removed(tmp_path: Path) -> None:
    """Also of shards that nobody asks for any more: the folder does not grow."""
    folder = tmp_path / "l"
    folder.mkdir()
    for name in ("0.run", "1.old", f"{KEY.cell_id}.{KEY.shard_id}.json"):
        (folder / name).touch()
        os.utime(folder / name, (1, 1))
    with Leases(folder) as mine:
        assert [f"{mine.me.run}.run"] == [path.name for path in folder.iterdir()]


def _take_all(folder: Path, start: object, taken: object) -> None:
    with Leases(folder) as leases:
        start.wait()  # type: ignore[attr-defined]
        mine = [n for n in range(200) if leases.take(ShardKey(KEY.cell_id, f"{n:032x}"))]
        taken.put(mine)  # type: ignore[attr-defined]
        start.wait()  # type: ignore[attr-defined]


def test_of_many_runs_at_once_one_gets_each_shard(tmp_path: Path) -> None:
    """Four processes ask for the same 200 shards, which a dead run holds: each shard goes to one of them."""
    folder = tmp_path / "l"
    folder.mkdir()
    for n in range(0, 200, 4):
        (folder / f"{KEY.cell_id}.{n:032x}.json").touch()
        os.utime(folder / f"{KEY.cell_id}.{n:032x}.json", (1, 1))
    spawn = multiprocessing.get_context("spawn")
    start, taken = spawn.Barrier(4), spawn.Queue()
    runs = [spawn.Process(target=_take_all, args=(folder, start, taken)) for _ in range(4)]
    for run in runs:
        run.start()
    found = [taken.get(timeout=60) for _ in runs]  # they start in seconds; a busy machine needs more
    for run in runs:
        run.join(60)
    assert list(range(200)) == sorted(n for mine in found for n in mine)


def test_the_renewing_ends_with_the_run(tmp_path: Path) -> None:
    """No thread stays behind."""
    with Leases(tmp_path / "l", renew_s=0.01):
        assert "leases" in {thread.name for thread in threading.enumerate()}
    assert "leases" not in {thread.name for thread in threading.enumerate()}


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """It names the folder."""
    (tmp_path / "l").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot write below .*l"), Leases(tmp_path / "l"):
        pass
