"""The Ray executor passes the suite, and survives what only processes can do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cluster.attempt import ExecutorError
from cluster.ray_executor import RayExecutor
from cluster.shard_queue import ShardQueue
from tests.cluster.executor_suite import ExecutorSuite, MakeScripted, drain, kinds, shards

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
