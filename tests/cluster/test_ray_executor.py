"""The Ray executor passes the suite, and survives what only processes can do."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from cluster.attempt import ExecutorError
from cluster.limits import Limits
from cluster.ray_executor import RayExecutor
from cluster.shard_queue import Event, ShardQueue
from tests.cluster.executor_suite import ExecutorSuite, MakeScripted, ScriptedWorker, drain, kinds, shards

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


class TestRay(ExecutorSuite):
    """The suite, on two actors."""

    def make(self) -> RayExecutor:
        """Two actors."""
        return RayExecutor(workers=2)


def test_a_killed_worker_is_replaced_and_a_poisonous_shard_given_up(tmp_path: Path) -> None:
    """A shard that was hit once is done by another actor; one that kills three actors is quarantined; the rest goes on."""
    events = drain(RayExecutor(workers=2), shards("kill-once", "ok", "kill", *["ok"] * 4), tmp_path)
    found = kinds(events)
    assert (1, 1) == (found["kill-once", "failed"], found["kill-once", "done"])
    assert (2, 1) == (found["kill", "failed"], found["kill", "quarantined"])
    assert 5 == found["ok", "done"]
    assert {"lost"} == {e.failure.kind for e in events if e.failure is not None}
    pids = [line.split()[0] for line in (tmp_path / "kill#2").read_text().splitlines()]
    assert 3 == len(set(pids))


def test_attempts_are_numbered_over_runs(tmp_path: Path) -> None:
    """Failures of earlier runs number the attempts, and do not bring the quarantine nearer."""
    queue = ShardQueue(shards("raise"), {("cell", "raise#0"): 5})
    attempts: Counter[int] = Counter()
    RayExecutor(workers=1).run(queue, MakeScripted(tmp_path), lambda e: attempts.update([e.ticket.attempt]))
    assert {6: 2, 7: 2} == attempts


def test_workers_that_do_not_start_are_an_error() -> None:
    """Not a loop without end; the message has the cause."""

    def broken(threads: int, device: str) -> None:
        raise RuntimeError("no such device")

    with pytest.raises(ExecutorError, match=r"(?s)workers do not start: .*no such device"):
        RayExecutor(workers=1).run(ShardQueue(shards("ok")), broken, lambda event: None)


def test_a_process_that_dies_while_it_starts_is_tried_again(tmp_path: Path) -> None:
    """So it is on a machine that is gone, until Ray notices: three such deaths are no reason to end a run."""
    starts = tmp_path / "starts"

    def dies_thrice(threads: int, device: str) -> ScriptedWorker:
        n_before = starts.stat().st_size if starts.exists() else 0
        with starts.open("a") as file:
            file.write(".")
        if n_before < 3:
            os._exit(1)
        return ScriptedWorker(tmp_path, threads, device)

    events: list[Event] = []
    RayExecutor(workers=1).run(ShardQueue(shards("ok")), dies_thrice, events.append)
    assert ["started", "done"] == [e.kind for e in events]


# Workers are asked how far they are every two seconds: a shorter limit would be over between two answers.
HASTY = Limits(still_s=8.0, first_s=8.0)
# Each of these tests waits for a limit of a few seconds, then for an actor to start: seconds, and more beside other work.
LIMIT_S = 60.0


def test_a_worker_that_stands_still_is_replaced_and_its_shard_done_by_another(tmp_path: Path) -> None:
    """It answers that it lives and generates nothing; nobody waits for it."""
    began_s = time.monotonic()
    events = drain(RayExecutor(workers=1, limits=HASTY), shards("hang-once", "ok"), tmp_path)
    found = kinds(events)
    assert (1, 1) == (found["hang-once", "done"], found["ok", "done"])
    failures = [e.failure for e in events if e.failure is not None]
    assert [("lost", "WorkerStuck")] * 2 == [(f.kind, f.error) for f in failures]  # with its bundle, then alone
    assert all("the worker has generated nothing for " in f.message for f in failures)
    assert time.monotonic() - began_s < LIMIT_S


def test_a_worker_that_is_slow_and_moves_on_is_left_alone(tmp_path: Path) -> None:
    """Three shards of three seconds each, of which nothing is heard but progress, outlast the limit of eight seconds."""
    work = shards("crawl", "crawl", "crawl")
    events = drain(RayExecutor(workers=1, limits=HASTY), work, tmp_path)
    assert {("crawl", "started"): 3, ("crawl", "done"): 3} == kinds(events)


def test_too_few_workers_go_on_without_the_others(tmp_path: Path) -> None:
    """Ray has two CPUs here, so the third worker never starts."""
    began_s = time.monotonic()
    events = drain(RayExecutor(workers=3, limits=Limits(start_s=30.0)), shards("crawl", "crawl", "ok"), tmp_path)
    assert 3 == sum(e.kind == "done" for e in events)
    assert time.monotonic() - began_s < LIMIT_S


def test_without_any_worker_the_run_ends_with_what_is_missing(tmp_path: Path) -> None:
    """Somebody else has all CPUs. The limit here is three seconds instead of ten minutes."""
    import ray

    class Hog:
        def ready(self) -> None: ...

    hog = ray.remote(Hog).options(num_cpus=2).remote()
    try:
        ray.get(hog.ready.remote(), timeout=LIMIT_S)
        began_s = time.monotonic()
        with pytest.raises(ExecutorError) as caught:
            drain(RayExecutor(workers=1, limits=Limits(start_s=3.0)), shards("ok"), tmp_path)
        assert time.monotonic() - began_s < LIMIT_S
    finally:
        ray.kill(hog)
    (line,) = str(caught.value).splitlines()
    assert "no worker is left, and none has started for 3 s: 1 wait for 2 CPU and 0 GPU each" in line
    assert "1 live machines with 2 CPU" in line
    assert "what is committed stays, and the same command" in line
