"""`designspace doctor`: what it prints, its exit codes, and that it deletes nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from designspace.cli import app as cli
from designspace.store import ResultsStore
from tests.designspace.store.harm import KEYS, content, drop_checksums, fill, full_store, stored_files


@pytest.fixture
def whole(tmp_path: Path) -> ResultsStore:
    """A store that holds every kind of file."""
    return full_store(tmp_path / "results")


def doctor(*arguments: object, code: int = 0) -> Result:
    """Run the command and check its exit code."""
    result = CliRunner().invoke(cli.app, ["doctor", *map(str, arguments)])
    assert (code, None) == (result.exit_code, result.exception if code == 0 else None), result.output
    return result


def harm(store: ResultsStore, top: str, nth: int = 0) -> Path:
    """Change a byte of a file."""
    path = [path for path in stored_files(store.root) if top in path.parts][nth]
    harmed = bytearray(path.read_bytes())
    harmed[len(harmed) // 3] ^= 0x40
    path.write_bytes(harmed)
    return path


def test_a_sound_store(whole: ResultsStore) -> None:
    """One line, exit code 0."""
    assert [f"{whole.root}: sound"] == doctor(whole.root).stdout.splitlines()
    assert {"results": str(whole.root), "sound": True, "findings": [], "set_aside": [], "made_anew_by_run": ""} == (
        json.loads(doctor(whole.root, "--json").stdout)
    )


def test_damage_is_named_with_what_to_type(whole: ResultsStore) -> None:
    """One line for each file, and the command that mends; nothing is moved without it."""
    samples, cell = harm(whole, "samples"), harm(whole, "cells")
    lines = doctor(whole.root, code=1).stdout.splitlines()
    assert lines[0] == (
        f"damaged: {samples}: its bytes are not those of its checksum: its rows are left out until the next "
        "`designspace run` of its sweep makes them anew"
    )
    assert lines[1].startswith(f"damaged: {cell}: ")
    assert lines[2:] == [
        f"{whole.root}: 2 damaged; to move them out of the way: designspace doctor {whole.root} --mend"
    ]
    assert samples.exists()


def test_mending_moves_and_says_what_a_run_makes_anew(whole: ResultsStore) -> None:
    """Then the store is sound, and the run's calls make it whole again; every byte is still there."""
    before = content(whole)
    samples, grades, study = harm(whole, "samples"), harm(whole, "grades", 1), harm(whole, "studies")
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in stored_files(whole.root)}
    lines = doctor(whole.root, "--mend").stdout.splitlines()
    moved = [line for line in lines if line.startswith("moved: ")]
    assert {str(path) for path in (samples, grades, study)} <= {line.split()[1] for line in moved}
    assert lines[-1] == (
        f"{whole.root}: nothing was deleted; the next `designspace run` makes anew: 1 shard, 3 files of grades, 1 declaration"
    )
    after = {hashlib.sha256(path.read_bytes()).hexdigest() for path in whole.root.rglob("*") if path.is_file()}
    assert hashes <= after
    assert [f"{whole.root}: sound"] == doctor(whole.root).stdout.splitlines()
    again = ResultsStore.open(whole.root)
    assert again.shards() == KEYS[1:]
    fill(again)
    assert content(again) == before


def test_json_holds_every_finding_and_every_move(whole: ResultsStore) -> None:
    """For scripts; the exit code is the same."""
    path = harm(whole, "failures")
    found = json.loads(doctor(whole.root, "--json", code=1).stdout)
    assert (found["sound"], found["set_aside"]) == (False, [])
    assert [("damaged", "failure", str(path))] == [(f["kind"], f["what"], f["path"]) for f in found["findings"]]
    assert {"kind", "what", "path", "reason", "meaning"} == set(found["findings"][0])
    mended = json.loads(doctor(whole.root, "--json", "--mend").stdout)
    assert (mended["sound"], mended["made_anew_by_run"]) == (True, "")
    assert [str(path)] == [moved["path"] for moved in mended["set_aside"]]
    assert Path(mended["set_aside"][0]["moved_to"]).exists()


def test_a_damaged_format_file_is_written_anew(whole: ResultsStore) -> None:
    """Every other command reads the store meanwhile, so that the doctor can."""
    harm(whole, "designspace.json")
    assert "damaged: " in doctor(whole.root, code=1).stdout
    assert "nothing is to be made anew" in doctor(whole.root, "--mend").stdout
    assert "sound" in doctor(whole.root).stdout


def test_files_without_a_checksum_share_a_line(whole: ResultsStore) -> None:
    """All files of an older store are such, and sound."""
    n = len(stored_files(whole.root)) - 2  # but the declaration, and the file that makes the folder a store
    drop_checksums(whole.root)
    lines = doctor(whole.root).stdout.splitlines()
    assert lines[0].startswith(f"without a checksum: {n} files, the first is {whole.root}")
    assert lines[1:] == [f"{whole.root}: sound"]
    assert n == len(json.loads(doctor(whole.root, "--json").stdout)["findings"])


def test_what_cannot_be_read_is_no_soundness_and_is_not_moved(
    whole: ResultsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, with --mend too: only a person can tell what it is."""
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path.suffix == ".parquet":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return read(path)

    before = stored_files(whole.root)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "cannot be read: Permission denied" in doctor(whole.root, code=1).stdout
    assert "7 not readable" in doctor(whole.root, "--mend", code=1).stdout
    assert before == stored_files(whole.root)


def test_what_is_no_store_is_one_clear_error(tmp_path: Path) -> None:
    """As for every command."""
    done = doctor(tmp_path / "nothing", code=2)
    assert f"error: no results store at {tmp_path / 'nothing'}" in done.stderr
