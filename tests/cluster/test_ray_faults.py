"""Processes of Ray are killed and stopped under a run: it goes on with what is left, or ends with one line of ours.

Each test runs the command line with a Ray of its own. Ray's own health checks take a minute by default and five seconds
here. No limit is shorter than what a healthy process may need on a machine with other work: a worker that starts imports
torch, which is three seconds alone and more than five beside a second test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.test_run import inline
from tests.cluster.tiny import write_replicated

pytestmark = pytest.mark.ray

# A start of Ray and of its workers, and the limits below: half a minute alone, and several times that beside other work.
LIMIT_S = 120.0
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
}
N_SHARDS = 180


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms of 90 shards, which take two workers about ten seconds."""
    folder = tmp_path_factory.mktemp("s")
    return write_replicated(folder, mechanisms="[full, random]", replicates=30, max_new_tokens=200)


class Run:
    """A run as a process, and the processes of Ray below it."""

    def __init__(self, sweep: Path, results: Path, limits: str, address: str = "local") -> None:
        self.results, self.log = results, results.parent / "log"
        command = [sys.executable, "-m", "designspace", "run", str(sweep), "--results", str(results), "--no-report"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, "--workers", "2", "--progress", "plain"],
                env={**os.environ, **ENVIRONMENT, "DESIGNSPACE_LIMITS": limits, "RAY_ADDRESS": address},
                stdout=log,
                stderr=log,
            )

    def wait_for_samples(self, n: int = 1) -> None:
        """Wait until a number of shards is committed."""
        deadline_s = time.monotonic() + LIMIT_S
        while len(list(self.results.glob("samples/*/*/*.parquet"))) < n:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline_s
            time.sleep(0.005)

    def below(self, name: str) -> list[int]:
        """Return the processes whose command begins with a name, of those that descend from the run."""
        return [pid for pid in descendants(self.process.pid) if command_of(pid).startswith(name)]

    def ended(self) -> list[str]:
        """Wait for the end, and return the lines that it wrote, without those of progress."""
        try:
            self.process.wait(LIMIT_S)
        finally:
            self.process.kill()
        progress = ("tokens/s", " shards: 0 done", "starting local Ray")
        return [line for line in self.log.read_text().splitlines() if not any(part in line for part in progress)]


def command_of(pid: int) -> str:
    """Return what a process calls itself, without the folder; nothing if it is gone."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return ""
    return command.rpartition("/")[2] if command.startswith("/") else command


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes below one."""
    try:
        children = [int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        yield child
        yield from descendants(child)


def resumes(sweep: Path, results: Path) -> None:
    """Check that what was committed stays, and that the rest follows."""
    kept = {path: path.stat().st_mtime_ns for path in results.glob("samples/*/*/*.parquet")}
    outcome = inline(sweep, results)
    assert (True, True) == (outcome.complete, 0 < outcome.n_cached < N_SHARDS)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_a_stopped_worker_is_killed_and_its_shards_handed_on(sweep: Path, tmp_path: Path) -> None:
    """It is silent for ten seconds, which is the limit here instead of 60."""
    run = Run(sweep, tmp_path / "r", "silent_s=10")
    run.wait_for_samples()
    stopped = run.below("ray::Host")[0]
    os.kill(stopped, signal.SIGSTOP)
    lines = run.ended()
    assert 0 == run.process.returncode, lines
    assert f"{N_SHARDS} shards done, 0 done before" in lines[-1]
    (line,) = lines[:-1]
    assert "the worker has not answered for " in line
    assert "tried one by one" in line or "will be tried again" in line
    assert command_of(stopped) == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_without_its_raylet_a_run_ends_with_one_line(sweep: Path, tmp_path: Path, number: signal.Signals) -> None:
    """A local Ray has one machine, and nobody would start it again: no limit is waited for."""
    run = Run(sweep, tmp_path / "r", "")
    run.wait_for_samples()
    (raylet,) = run.below("raylet")
    os.kill(raylet, number)
    lines = run.ended()
    assert 1 == run.process.returncode, lines
    assert "error: no worker is left, and none has started for " in lines[-1]
    assert lines[-1].endswith("what is committed stays, and the same command starts Ray anew and goes on from there")
    assert all(line.startswith(("stopped, ", "failed, ")) for line in lines[:-1]), lines
    resumes(sweep, tmp_path / "r")


def test_without_the_head_of_the_cluster_a_run_ends_with_one_line(sweep: Path, tmp_path: Path) -> None:
    """Ray would end the process after a minute, from within C++."""
    run = Run(sweep, tmp_path / "r", "local_head_s=2")
    run.wait_for_samples()
    (head,) = run.below("gcs_server")
    os.kill(head, signal.SIGKILL)
    lines = run.ended()
    assert 1 == run.process.returncode, lines
    assert "error: the Ray cluster is lost: its head at " in lines[-1]
    assert lines[-1].endswith("what is committed stays, and the same command starts Ray anew and goes on from there")
    assert all(line.startswith(("stopped, ", "failed, ")) for line in lines[:-1]), lines
    resumes(sweep, tmp_path / "r")


@pytest.fixture
def two_machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of a head without CPUs and two machines of one CPU each, all on this one."""
    from ray.cluster_utils import Cluster

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    small = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **small)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.mark.slow  # three machines on one: their start alone may take half a minute beside other tests
def test_a_run_goes_on_with_one_machine_and_ends_with_one_line_without_any(
    sweep: Path, tmp_path: Path, two_machines: Any
) -> None:
    """Machines may come back to a cluster, so it waits: for a minute here instead of ten."""
    run = Run(sweep, tmp_path / "r", "start_s=60", two_machines.address)
    run.wait_for_samples()
    first, second = [node for node in two_machines.list_all_nodes() if node is not two_machines.head_node]
    two_machines.remove_node(first, allow_graceful=False)
    deadline_s = time.monotonic() + LIMIT_S
    while "stopped, " not in run.log.read_text():
        assert run.process.poll() is None, run.log.read_text()
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    n_before = len(list(run.results.glob("samples/*/*/*.parquet")))
    run.wait_for_samples(n_before + 2)
    two_machines.remove_node(second, allow_graceful=False)
    lines = run.ended()
    assert 1 == run.process.returncode, lines
    assert "error: no worker is left, and none has started for " in lines[-1]
    assert "the Ray cluster has 1 live machines with 0 CPU" in lines[-1]
    assert f"see `ray status --address {two_machines.address}`" in lines[-1]
    assert lines[-1].endswith("the same command goes on from there")
    assert all(line.startswith(("stopped, ", "failed, ")) for line in lines[:-1]), lines
    resumes(sweep, tmp_path / "r")
