"""Kill a run at random moments: nothing is lost, nothing is there twice, and the table is that of a quiet run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.cluster.test_run import inline, stable_table
from tests.cluster.tiny import write_replicated

_TIMEOUT_S = 120.0


def _start(sweep: Path, results: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "designspace", "run", str(sweep), "--results", str(results)]
    return subprocess.Popen(
        [*command, "--executor", "inline", "--progress", "none", "--no-report"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_for_commits(process: subprocess.Popen[str], results: Path, n_commits: int) -> None:
    deadline_s = time.monotonic() + _TIMEOUT_S
    while len(list(results.glob("samples/*/*/*.parquet"))) < n_commits:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


@pytest.fixture(scope="module")
def quiet_run(tiny_sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The table of a run that nothing disturbed."""
    results = tmp_path_factory.mktemp("quiet")
    inline(tiny_sweep, results)
    return stable_table(results)


def test_a_killed_run_resumes_to_the_same_table(tiny_sweep: Path, tmp_path: Path, quiet_run: pd.DataFrame) -> None:
    """SIGKILL twice, then run to the end."""
    moments = random.Random()
    for n_commits in (moments.randint(1, 10), moments.randint(12, 24)):
        process = _start(tiny_sweep, tmp_path / "r")
        _wait_for_commits(process, tmp_path / "r", n_commits)
        time.sleep(moments.random() * 0.2)
        process.kill()
        assert -signal.SIGKILL == process.wait(_TIMEOUT_S)
        process.communicate()
    outcome = inline(tiny_sweep, tmp_path / "r")
    assert outcome.complete
    assert outcome.n_cached > 0
    table = stable_table(tmp_path / "r")
    assert len(table) == len(table.drop_duplicates(["cell_id", "problem_id"]))
    pd.testing.assert_frame_equal(quiet_run, table)


def test_a_run_killed_in_the_middle_of_a_bundle_resumes_to_the_same_table(tmp_path: Path) -> None:
    """All 18 shards go through one engine; those committed before the kill stay, the others are made again."""
    sweep, results = write_replicated(tmp_path / "s", replicates=6), tmp_path / "r"
    process = _start(sweep, results)
    _wait_for_commits(process, results, 3)
    process.kill()
    assert -signal.SIGKILL == process.wait(_TIMEOUT_S)
    process.communicate()
    kept = {path.name: path.stat().st_mtime_ns for path in results.glob("samples/*/*/*.parquet")}
    assert 3 <= len(kept) < 18
    outcome = inline(sweep, results)
    assert outcome.complete
    inline(sweep, tmp_path / "quiet")
    pd.testing.assert_frame_equal(stable_table(tmp_path / "quiet"), stable_table(results))
    after = {path.name: path.stat().st_mtime_ns for path in results.glob("samples/*/*/*.parquet")}
    assert kept == {name: after[name] for name in kept}


def test_ctrl_c_leaves_a_store_that_resumes(tiny_sweep: Path, tmp_path: Path, quiet_run: pd.DataFrame) -> None:
    """One line, exit code 130, no traceback."""
    process = _start(tiny_sweep, tmp_path / "r")
    _wait_for_commits(process, tmp_path / "r", 5)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: the whole group gets it
    _, errors = process.communicate(timeout=_TIMEOUT_S)
    assert 130 == process.returncode
    assert ["stopped; what is committed stays, and the same command goes on from there"] == errors.splitlines()
    assert inline(tiny_sweep, tmp_path / "r").complete
    pd.testing.assert_frame_equal(quiet_run, stable_table(tmp_path / "r"))
