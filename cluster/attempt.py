"""One attempt at a bundle of shards, with every exception turned into plain data: the same on both executors."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

from cluster.shard_queue import Bundle, Event, Failure, OnEvent, Settled, ShardQueue, ShardSummary, Ticket, shard_key
from designspace.errors import DesignspaceError, InvariantViolation, StoreError

_MAX_TRACEBACK_CHARS = 8_000


class ShardWorker(Protocol):
    """What an executor drives."""

    @property
    def name(self) -> str:
        """Label for progress lines and failure records."""

    @property
    def progress(self) -> object:
        """Something that is another as soon as a shard moves on, if only by a token; asked from another thread."""

    def run(self, bundle: Bundle) -> Iterator[Settled]:
        """Generate, commit and grade shards together; yield each as soon as it is through.

        What is yielded is settled, also if the rest of the bundle ends with an exception.
        """

    def close(self) -> None:
        """Release what the worker holds."""


class WorkerFactory(Protocol):
    """Makes a worker in the process that will run it; must pickle."""

    def __call__(self, threads: int, device: str) -> ShardWorker:
        """Return a worker with so many CPU threads on a device (`cpu` or `cuda`)."""


class ExecutorError(DesignspaceError):
    """The executor itself cannot go on; what is committed stays committed."""


@dataclass(frozen=True)
class Outcome:
    """What came of one shard, named by its key; or, with None for it, of all shards of the bundle that are open still."""

    shard: tuple[str, str] | None
    result: ShardSummary | Failure


def attempt(worker: ShardWorker, bundle: Bundle) -> Generator[Outcome, None, None]:
    """Run one attempt, and yield what comes of each shard as soon as that is known.

    Only exceptions of our own code become failures; Ctrl-C and process exits pass through.
    """
    try:
        for ticket, result in worker.run(bundle):
            noted = failure_of(result, worker.name) if isinstance(result, Exception) else result
            yield Outcome(shard_key(ticket.shard), noted)
    except Exception as error:
        _release_memory(error)
        failure = failure_of(error, worker.name)
    else:
        return
    yield Outcome(None, failure)


class BundleInProgress:
    """A bundle that a worker is at: tells of what happens to its shards, and returns to the queue what is to be repeated.

    first: its first shard.
    """

    def __init__(self, bundle: Bundle, worker: str, queue: ShardQueue, on_event: OnEvent) -> None:
        self.first = bundle[0]
        self._open = {shard_key(ticket.shard): ticket for ticket in bundle}
        self._is_alone = len(bundle) == 1
        self._worker, self._queue, self._on_event = worker, queue, on_event
        for ticket in bundle:
            on_event(Event("started", ticket, worker))

    def note(self, outcome: Outcome) -> None:
        """Take an outcome down.

        Raises:
            ExecutorError: it is a failure that makes going on useless.
        """
        if outcome.shard is None and isinstance(outcome.result, Failure):
            self.broken(outcome.result)
        elif outcome.shard is not None:
            self._write_bookkeeping(self._open.pop(outcome.shard), outcome.result)

    def broken(self, failure: Failure) -> None:
        """Take down that the bundle ended early. A shard that was alone in it is to blame; of several nobody knows which.

        Raises:
            ExecutorError: going on is useless.
        """
        tickets = list(self._open.values())
        self._open.clear()
        if failure.stops_run:
            raise ExecutorError(failure.message)
        if self._is_alone:
            for ticket in tickets:
                self._write_bookkeeping(ticket, failure)
        elif tickets:
            for ticket in tickets:
                self._queue.give_back(ticket)
            self._on_event(Event("returned", tickets[0], self._worker, failure=failure, n_shards=len(tickets)))

    def end(self) -> None:
        """Take down that nothing more will come: a shard of which nothing was heard is not lost by that."""
        if self._open:
            self.broken(failure_of(InvariantViolation(f"{len(self._open)} shards without an outcome"), self._worker))

    def _write_bookkeeping(self, ticket: Ticket, result: ShardSummary | Failure) -> None:
        if not isinstance(result, Failure):
            self._queue.done(ticket)
            self._on_event(Event("done", ticket, self._worker, summary=result))
            return
        if result.stops_run:
            raise ExecutorError(result.message)
        quarantined = self._queue.fail(ticket, result)
        self._on_event(Event("failed", ticket, self._worker, failure=result, quarantined=quarantined))


def failure_of(error: BaseException, worker: str) -> Failure:
    """Return an exception as a failure record."""
    text = "".join(traceback.format_exception(error))
    return Failure(
        kind="raised",
        error=type(error).__name__,
        message=str(error) or type(error).__name__,
        worker=worker,
        traceback=text[-_MAX_TRACEBACK_CHARS:],
        stops_run=isinstance(error, StoreError),
    )


def _release_memory(error: Exception) -> None:
    """Give memory back after an accelerator ran out of it: the next attempt deserves a clean start."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        traceback.clear_frames(error.__traceback__)  # they hold the tensors
        gc.collect()
        torch.cuda.empty_cache()
