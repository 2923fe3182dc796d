"""A run finds what is damaged, says so in one line, and makes it anew; every other command goes on without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from cluster.evidence import tune
from cluster.run import RunOutcome, run_sweep
from designspace.errors import DeclarationError
from designspace.store import DamagedFilesWarning, ResultsStore
from sweeps.effects import axis_effects
from sweeps.spec import load_sweep
from tests.cluster.test_evidence import INLINE, registered
from tests.cluster.test_run import stable_table
from tests.cluster.tiny import write_replicated
from tests.designspace.store.harm import stored_files


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid of four arms, three problems in two shards each."""
    folder, grid = tmp_path_factory.mktemp("sweep"), "{scoring: [random, h2o], cadence: [every-k, every-step]}"
    return write_replicated(folder, mechanisms=f"[grid: {grid}]", replicates=1, n_problems=3, max_new_tokens=8)


@pytest.fixture(scope="module")
def done(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished sweep, with a failed attempt on record."""
    root = tmp_path_factory.mktemp("done") / "results"
    run(sweep, root)
    store = ResultsStore.open(root)
    key = store.shards()[0]
    store.record_failure(key.cell_id, key.shard_id, 1, {"error": "OutOfMemory", "message": "7 GiB"})
    return root


@pytest.fixture
def results(done: Path, tmp_path: Path) -> Path:
    """A copy of it to harm."""
    return Path(shutil.copytree(done, tmp_path / "results"))


def run(sweep: Path, results: Path) -> RunOutcome:
    """Run inline; what is said goes to stderr."""
    return run_sweep(sweep, results, executor="inline", progress="plain")


def harm(path: Path) -> Path:
    """Change one byte: of a shard the last one of a data page, so that its footer and the page's header are whole."""
    content = bytearray(path.read_bytes())
    content[_end_of_a_page(path) - 1 if path.suffix == ".parquet" else len(content) // 4] ^= 0x08
    path.write_bytes(content)
    return path


def _end_of_a_page(path: Path) -> int:
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(0)
    first = chunk.dictionary_page_offset or chunk.data_page_offset
    return int(first + chunk.total_compressed_size)


def shard_files(results: Path, top: str) -> list[Path]:
    """Return the files of shards, sorted."""
    return sorted((results / top).rglob("*.parquet"))


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what was said of files that were set aside."""
    return [line for line in capsys.readouterr().err.splitlines() if "set aside" in line or "left out" in line]


def check_mended(done: Path, results: Path) -> None:
    """The store is that of a quiet run."""
    pd.testing.assert_frame_equal(stable_table(done), stable_table(results))
    assert [] == [str(finding) for finding in ResultsStore.open(results).examine() if not finding.is_sound]


def samples_damaged(results: Path) -> list[Path]:
    """One samples file."""
    return [harm(shard_files(results, "samples")[1])]


def grades_damaged(results: Path) -> list[Path]:
    """One grades file."""
    return [harm(shard_files(results, "grades")[1])]


def samples_damaged_and_grades_missing(results: Path) -> list[Path]:
    """As when a run was killed between the two."""
    shard_files(results, "grades")[1].unlink()
    return samples_damaged(results)


def both_damaged(results: Path) -> list[Path]:
    """Of one shard; the samples are named, the grades go with them."""
    grades_damaged(results)
    return samples_damaged(results)


@pytest.mark.filterwarnings("error::designspace.store.DamagedFilesWarning")
@pytest.mark.parametrize("damage", [samples_damaged, grades_damaged, samples_damaged_and_grades_missing, both_damaged])
def test_a_damaged_shard_is_set_aside_and_made_anew_by_the_same_run(
    sweep: Path, done: Path, results: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], list[Path]]
) -> None:
    """One line says which file, what is wrong, and where it went; only its shard is made anew, and only graded if it can."""
    (path,) = damage(results)
    outcome = run(sweep, results)
    (line,) = lines_of(capsys)
    target = results / "damaged" / path.relative_to(results)
    assert f"set aside, to be made anew: {path}: its bytes are not those of its checksum; moved to {target}" in line
    assert target.exists()
    assert (outcome.complete, outcome.n_done) == (True, 1)
    assert (outcome.n_new_tokens == 0) == (damage is grades_damaged)
    check_mended(done, results)
    run(sweep, results)
    assert lines_of(capsys) == []


@pytest.mark.filterwarnings("error::designspace.store.DamagedFilesWarning")
def test_damage_everywhere_is_mended_at_once(
    sweep: Path, done: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every file of the store, the one included that makes the folder a store: no command needs a hand to go on."""
    files = [harm(path) for path in stored_files(results) if path.name != "report.html"]
    outcome = run(sweep, results)
    assert (outcome.complete, outcome.n_done) == (True, 8)
    said = lines_of(capsys)
    assert len(said) == len(files) - len(shard_files(done, "grades"))  # these go with their samples
    check_mended(done, results)
    kept = [path for path in (results / "damaged").rglob("*") if path.is_file()]
    assert len(kept) == len(files)


@pytest.mark.filterwarnings("error::designspace.store.DamagedFilesWarning")
@pytest.mark.parametrize("top", ["cells", "studies", "failures"])
def test_documents_are_written_anew_though_nothing_is_to_be_run(
    sweep: Path, done: Path, results: Path, capsys: pytest.CaptureFixture[str], top: str
) -> None:
    """From the declaration; the record of a failure alone cannot be."""
    path = harm(next(path for path in stored_files(results) if top in path.parts))
    assert run(sweep, results).n_done == 0
    (line,) = lines_of(capsys)
    assert str(path) in line
    if top == "failures":
        assert "to be made anew" not in line
        assert not path.exists()
    else:
        assert path.read_bytes() == (done / path.relative_to(results)).read_bytes()
    check_mended(done, results)


def test_a_damaged_shard_without_checksum_is_made_anew_too(sweep: Path, done: Path, results: Path) -> None:
    """An older store: a page that was hit no longer counts as done."""
    from tests.designspace.store.harm import drop_checksums

    drop_checksums(results)
    pd.testing.assert_frame_equal(stable_table(done), stable_table(results))
    assert run(sweep, results).n_done == 0
    harm(shard_files(results, "samples")[0])
    outcome = run(sweep, results)
    assert (outcome.complete, outcome.n_done) == (True, 1)
    check_mended(done, results)


def test_tuning_goes_on_after_damage_to_development_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command makes them anew, before it compares arms on the problems of both."""
    path, results = registered(tmp_path), tmp_path / "results"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules[tune.__module__], "freeze_selection", stop)  # the package has `tune` the function
    with pytest.raises(KeyboardInterrupt):
        tune(path, INLINE)
    monkeypatch.undo()
    before = stable_table(results)
    harm(shard_files(results, "samples")[0])
    harm(shard_files(results, "grades")[-1])
    assert tune(path, INLINE).values
    pd.testing.assert_frame_equal(before, stable_table(results))


@pytest.mark.parametrize("command", ["status", "report", "export"])
def test_other_commands_go_on_and_name_the_one_that_mends(results: Path, tmp_path: Path, command: str) -> None:
    """One line on stderr; the numbers on stdout are of what is left."""
    path = harm(shard_files(results, "samples")[1])
    options = ["--out", str(tmp_path / "all.csv")] if command == "export" else []
    done = subprocess.run(
        [sys.executable, "-m", "designspace", command, str(results), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert str(path) in line
    assert f"to mend: designspace doctor {results} --mend" in line
    assert done.returncode == 0
    if command == "status":
        assert "7/8 shards" in done.stdout


def test_effects_need_every_row_and_say_what_to_run(sweep: Path, results: Path) -> None:
    """The line about the file comes first; a missing generation passes for no wrong answer."""
    path = harm(shard_files(results, "samples")[1])
    store = ResultsStore.open(results, create=False)
    with (
        pytest.warns(DamagedFilesWarning, match=f"{path.name}.*designspace doctor"),
        pytest.raises(DeclarationError, match="run"),
    ):
        axis_effects(load_sweep(sweep), store)
