"""What any executor must do, as one suite; a subclass says how to make one."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from cluster.attempt import ExecutorError
from cluster.interrupt import Interrupted
from cluster.shard_queue import Bundle, Event, Settled, ShardQueue, ShardSummary, Ticket
from designspace.errors import StoreError
from designspace.models.model_spec import ModelSpec
from sweeps.generation_fields import GenerationSpec

_WAIT_S = 60.0


@dataclass(frozen=True)
class FakeCell:
    """As much of a cell as executors look at."""

    model: ModelSpec
    cell_id: str = "cell"
    arm: str = "arm"
    replicate: int = 0
    rows: int = 4

    @property
    def generation(self) -> GenerationSpec:
        """As many rows."""
        return GenerationSpec(temperature=0.0, max_new_tokens=8, rows=self.rows)

    @property
    def identity(self) -> dict[str, Any]:
        """What shards that share an engine agree on, and seeds."""
        return {"model": self.model.name, "mechanism": self.arm, "replicate": self.replicate, "root_seed": 0}

    def label(self) -> str:
        """Name it."""
        return f"cell on {self.model.name}"


@dataclass(frozen=True)
class FakeShard:
    """A shard whose id says what happens to it.

    `ok`, `raise-once`, `raise`, `slow`, `kill-once`, `kill`, `disk-full`; `ungradable` fails by itself, `wait` waits for a
    file `go`, `hang-once` does so the first time, and `crawl` takes three seconds and moves on all the time.
    """

    shard_id: str
    cell: FakeCell = FakeCell(ModelSpec("a"))
    index: int = 0
    problem_ids: tuple[str, ...] = ("p",)


class ScriptedWorker:
    """Does what a shard's id says; keeps its log in files, because a killed process keeps nothing else."""

    def __init__(self, folder: Path, threads: int, device: str) -> None:
        self.folder, self.name = folder, f"{threads} {device}"
        self.is_closed = False
        self.progress = 0

    def run(self, bundle: Bundle) -> Iterator[Settled]:
        """Follow the scripts in turn."""
        for ticket in bundle:
            yield Settled(ticket, self._follow(ticket.shard, ticket.attempt))

    def _follow(self, shard: Any, attempt: int) -> ShardSummary | Exception:
        script, _, times = shard.shard_id.rpartition("#")[0].partition("-")
        with (self.folder / shard.shard_id).open("a") as log:
            log.write(f"{os.getpid()} {attempt}\n")
        is_first = attempt == 1
        if script == "raise" and (is_first or times != "once"):
            raise ValueError(f"scripted failure of {shard.shard_id}")
        if script == "kill" and (is_first or times != "once"):
            os.kill(os.getpid(), signal.SIGKILL)
        if script == "disk":
            raise StoreError("disk full")
        if script == "slow":
            time.sleep(0.3)
        if script == "ungradable":
            return ValueError(f"no grade for {shard.shard_id}")
        if script == "crawl":
            for _ in range(30):
                time.sleep(0.1)
                self.progress += 1
        if script == "wait" or (script == "hang" and is_first):
            self._wait_for(self.folder / "go")
        return ShardSummary(1, 10, 10, 1, 0.1, generated=True, worker=self.name)

    def _wait_for(self, file: Path) -> None:
        deadline_s = time.monotonic() + _WAIT_S
        while not file.exists():
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"nobody wrote {file}")
            time.sleep(0.01)

    def close(self) -> None:
        """Note it."""
        self.is_closed = True


@dataclass(frozen=True)
class MakeScripted:
    """Picklable factory."""

    folder: Path

    def __call__(self, threads: int, device: str) -> ScriptedWorker:
        """Return a worker."""
        return ScriptedWorker(self.folder, threads, device)


def shards(*ids: str, model: str = "a", **cell: Any) -> list[Any]:
    """Return fake shards of one cell with unique ids."""
    return [FakeShard(f"{name}#{number}", FakeCell(ModelSpec(model), **cell)) for number, name in enumerate(ids)]


def tickets(work: list[Any]) -> Bundle:
    """Return first attempts."""
    return tuple(Ticket(shard, 1) for shard in work)


def drain(executor: Any, work: list[Any], folder: Path, on_event: Callable[[Event], None] | None = None) -> list[Event]:
    """Run an executor over shards and return its events."""
    events: list[Event] = []
    executor.run(ShardQueue(work), MakeScripted(folder), lambda e: (events.append(e), on_event and on_event(e)))
    return events


def kinds(events: list[Event]) -> Counter[tuple[str, str]]:
    """Count events by script and kind, `quarantined` being one."""
    return Counter((e.ticket.shard.shard_id.split("#")[0], "quarantined" if e.quarantined else e.kind) for e in events)


class ExecutorSuite:
    """Subclass it and define `make`."""

    def make(self) -> Any:
        """Return an executor."""
        raise NotImplementedError

    def test_every_shard_is_done_once(self, tmp_path: Path) -> None:
        """Nothing is skipped, nothing is done twice."""
        events = drain(self.make(), shards(*["ok"] * 7), tmp_path)
        assert {("ok", "started"): 7, ("ok", "done"): 7} == kinds(events)
        assert 7 == len({e.ticket.shard.shard_id for e in events if e.kind == "done"})

    def test_a_failing_shard_is_tried_twice_and_the_rest_goes_on(self, tmp_path: Path) -> None:
        """One failure is retried, the second one ends in quarantine, with the reason."""
        events = drain(self.make(), shards("raise", "ok", "raise-once", "ok"), tmp_path)
        found = kinds(events)
        assert (1, 1) == (found["raise", "failed"], found["raise", "quarantined"])
        assert (1, 1) == (found["raise-once", "failed"], found["raise-once", "done"])
        assert 2 == found["ok", "done"]
        last = next(e for e in events if e.quarantined)
        assert last.failure is not None
        assert ("raised", "ValueError", 2) == (last.failure.kind, last.failure.error, last.ticket.attempt)
        assert "scripted failure" in last.failure.message
        assert "Traceback" in last.failure.traceback

    def test_a_shard_that_breaks_its_bundle_is_given_up_alone(self, tmp_path: Path) -> None:
        """Its mates come back without a strike and are done; what was settled before stays settled; one event tells."""
        events = drain(self.make(), shards("ok", "raise", *["ok"] * 4), tmp_path)
        found = kinds(events)
        assert (1, 1) == (found["raise", "failed"], found["raise", "quarantined"])
        assert 5 == found["ok", "done"]
        assert {1} == {e.ticket.attempt for e in events if e.kind == "done"}
        assert [1, 2] == [e.ticket.attempt for e in events if e.kind == "failed"]
        (returned,) = [e for e in events if e.kind == "returned"]
        assert "raise#1" == returned.ticket.shard.shard_id
        assert returned.n_shards > 1
        assert returned.failure is not None
        assert "scripted failure" in returned.failure.message
        assert 1 == len((tmp_path / "ok#0").read_text().splitlines())

    def test_an_error_after_generating_is_the_shards_own(self, tmp_path: Path) -> None:
        """The bundle goes on."""
        events = drain(self.make(), shards("ok", "ungradable", *["ok"] * 4), tmp_path)
        found = kinds(events)
        assert (1, 1) == (found["ungradable", "failed"], found["ungradable", "quarantined"])
        assert {("ok", "done"): 5} == {key: n for key, n in found.items() if key[1] in ("done", "returned")}
        assert all(1 == len((tmp_path / f"ok#{i}").read_text().splitlines()) for i in (0, 2, 3, 4, 5))

    def test_a_shard_is_told_of_while_its_bundle_goes_on(self, tmp_path: Path) -> None:
        """The second one waits for a file that is written when the first one is heard of."""

        def answer(event: Event) -> None:
            if event.kind == "done" and event.ticket.shard.shard_id == "ok#0":
                (tmp_path / "go").touch()

        events = drain(self.make(), shards("ok", "wait", "ok", "ok"), tmp_path, answer)
        assert {("ok", "done"): 3, ("wait", "done"): 1} == {k: n for k, n in kinds(events).items() if k[1] != "started"}
        started = [e.ticket.shard.shard_id for e in events[: [e.kind for e in events].index("done")]]
        assert {"ok#0", "wait#1"} <= set(started)

    def test_a_store_that_cannot_be_written_stops_the_run(self, tmp_path: Path) -> None:
        """Going on would only burn work."""
        with pytest.raises(ExecutorError, match="disk full"):
            drain(self.make(), shards("ok", "disk", "ok"), tmp_path)

    def test_a_signal_stops_the_run_and_the_handlers_come_back(self, tmp_path: Path) -> None:
        """SIGTERM in the middle leaves the loop with its own exit code."""
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        after_first = threading.Event()

        def stop(event: Event) -> None:
            if event.kind == "done" and not after_first.is_set():
                after_first.set()
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Interrupted) as caught:
            drain(self.make(), shards(*["slow"] * 40), tmp_path, stop)
        assert 143 == caught.value.exit_code
        assert len(list(tmp_path.iterdir())) < 40
        assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))

    def test_a_worker_keeps_to_its_model(self, tmp_path: Path) -> None:
        """No worker takes a model up again after it has left it."""
        mixed = [s for pair in zip(shards(*["ok"] * 6), shards(*["slow"] * 6, model="b"), strict=True) for s in pair]
        events = drain(self.make(), mixed, tmp_path)
        assert 12 == sum(e.kind == "done" for e in events)
        order: dict[str, list[str]] = {}
        for path in sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns):
            pid = path.read_text().split()[0]
            order.setdefault(pid, []).append(path.name.split("#")[0])
        assert all(len(list(groupby(names))) == len(set(names)) for names in order.values())
