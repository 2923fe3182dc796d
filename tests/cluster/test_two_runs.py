"""Two runs of one sweep on one store share its work: together they do it once, and both end with all of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from cluster.claims import LOOK_EVERY_S, LeasedClaims
from cluster.shard_queue import Failure, ShardQueue
from cluster.work import find_work
from designspace.store import ResultsStore
from sweeps.shards import Shard
from sweeps.spec import load_sweep
from tests.cluster.test_run import inline, stable_table
from tests.cluster.tiny import write_replicated

# Two starts of Python with torch, and 36 shards of a tenth of a second: half a minute on a machine that is busy otherwise.
LIMIT_S = 120.0


def start(sweep: Path, results: Path, *options: str) -> subprocess.Popen[str]:
    """Start a run as a process of its own."""
    command = [sys.executable, "-m", "designspace", "run", str(sweep), "--results", str(results), "--no-report"]
    return subprocess.Popen(
        [*command, "--progress", "plain", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for a run, and return what it wrote."""
    try:
        said, errors = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert 0 == process.returncode, errors
    return said, errors


def wait_for_samples(process: subprocess.Popen[str], results: Path, n: int = 1) -> None:
    """Wait until a run has committed a number of shards."""
    deadline_s = time.monotonic() + LIMIT_S
    while len(list(results.glob("samples/*/*/*.parquet"))) < n:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def counts(said: str) -> tuple[int, int, int]:
    """Return the shards done, done before, and done by another run, of a run's last line."""
    words = said.splitlines()[-1].partition(":")[0].replace(",", "").split()
    numbers = [int(word) for word in words if word.isdecimal()]
    return numbers[0], numbers[1], numbers[2] if len(numbers) > 2 else 0


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--executor", "inline"), id="inline"),
        pytest.param(("--workers", "1"), id="ray", marks=pytest.mark.ray),
    ],
)
def test_two_runs_at_once_do_every_shard_once(tiny_sweep: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """What they have done adds up to the sweep, and each of them tells of all of it."""
    runs = [start(tiny_sweep, tmp_path / "r", *options) for _ in range(2)]
    found = [counts(ended(run)[0]) for run in runs]
    assert [36, 36] == [sum(numbers) for numbers in found]
    before = min(numbers[1] for numbers in found)
    assert 36 == sum(numbers[0] for numbers in found) + before
    inline(tiny_sweep, tmp_path / "alone")
    pd.testing.assert_frame_equal(stable_table(tmp_path / "alone"), stable_table(tmp_path / "r"))
    assert not (tmp_path / "r" / "leases").exists()


def test_the_second_run_waits_for_the_last_shards_of_the_first(tmp_path: Path) -> None:
    """The one bundle is the first run's; the second one begins nothing, and ends with everything there."""
    sweep, results = write_replicated(tmp_path / "s", replicates=6, max_new_tokens=120), tmp_path / "r"
    first = start(sweep, results, "--executor", "inline")
    wait_for_samples(first, results)
    outcome = inline(sweep, results)
    assert (18, 0, ended(first)[0].startswith("18 shards done")) == (outcome.n_shards, outcome.n_done, True)
    assert outcome.complete
    assert outcome.n_elsewhere > 0


def test_what_a_killed_run_held_is_taken_over(tmp_path: Path) -> None:
    """By a run that waits for it already, within seconds: its process is known to be dead."""
    sweep, results = write_replicated(tmp_path / "s", replicates=6), tmp_path / "r"
    first = start(sweep, results, "--executor", "inline")
    wait_for_samples(first, results)
    first.send_signal(signal.SIGSTOP)  # alive, and at work for all that others can see
    second = start(sweep, results, "--executor", "inline")
    deadline_s = time.monotonic() + LIMIT_S
    assert second.stderr is not None
    while "waiting for" not in (line := second.stderr.readline()):
        assert line, "the second run ended without waiting"
        assert time.monotonic() < deadline_s
    first.kill()
    first.communicate()
    done, before, elsewhere = counts(ended(second)[0])
    assert 18 == done + before + elsewhere
    assert done > 0


def some_shards(sweep: Path, folder: Path) -> tuple[ResultsStore, list[Shard]]:
    """Return a new store, and the shards of a sweep."""
    store = ResultsStore.open(folder)
    return store, list(find_work(load_sweep(sweep), store).pending)


def test_a_queue_gives_out_only_what_no_other_run_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held elsewhere stays in the queue; what was done there meanwhile leaves it, and is told of."""
    sweep = write_replicated(tmp_path / "s")
    store, shards = some_shards(sweep, tmp_path / "r")
    told: list[Shard] = []
    lines: list[str] = []
    with store.leases() as mine, store.leases() as theirs:
        claims = LeasedClaims(store, mine, told.append, lines.append)
        others = LeasedClaims(store, theirs, told.append)
        queue = ShardQueue(shards, claims=claims)
        assert ["mine"] * 4 == [others.take(shard) for shard in shards[:4]]
        bundle = queue.take(None)
        assert shards[4:] == [ticket.shard for ticket in bundle]
        assert (4, 8) == (len(queue), queue.n_rows)
        assert ((), ()) == (queue.take(None), queue.take(None))
        assert 1 == len(lines)
        assert "waiting for 4 shards that another run is at" in lines[0]
        monkeypatch.setattr("cluster.claims.is_done", lambda store, shard: shard == shards[0])
        others.release(shards[0])
        others.release(shards[1])
        time.sleep(LOOK_EVERY_S)
        assert [shards[1]] == [ticket.shard for ticket in queue.take(None)]
        assert [shards[0]] == told
        assert 2 == len(queue)


def test_a_shard_is_given_up_when_it_is_done_or_quarantined_and_not_before(tmp_path: Path) -> None:
    """Between two attempts it stays this run's."""
    store, shards = some_shards(write_replicated(tmp_path / "s"), tmp_path / "r")
    failure = Failure("raised", "ValueError", "no luck")
    with store.leases() as mine, store.leases() as theirs:
        queue = ShardQueue(shards[:2], claims=LeasedClaims(store, mine, lambda shard: None))
        others = LeasedClaims(store, theirs, lambda shard: None)
        done, failing = queue.take(None)
        assert not queue.fail(failing, failure)
        assert "elsewhere" == others.take(shards[1])
        (again,) = queue.take(None)
        assert queue.fail(again, failure)
        queue.done(done)
        assert ["mine", "mine"] == [others.take(shard) for shard in shards[:2]]
