"""One attempt at a shard, with every exception turned into plain data: the same on both executors."""

from __future__ import annotations

import gc
import sys
import traceback
from typing import TYPE_CHECKING, Protocol

from cluster.schedule import Failure, ShardSummary, Ticket
from designspace.errors import DesignspaceError, StoreError

if TYPE_CHECKING:
    from sweeps.shards import Shard

_MAX_TRACEBACK_CHARS = 8_000


class ShardWorker(Protocol):
    """What an executor drives."""

    @property
    def name(self) -> str:
        """Label for progress lines and failure records."""

    def run(self, shard: Shard, attempt: int) -> ShardSummary:
        """Generate, grade and commit a shard."""

    def close(self) -> None:
        """Release what the worker holds."""


class WorkerFactory(Protocol):
    """Makes a worker in the process that will run it; must pickle."""

    def __call__(self, threads: int, device: str) -> ShardWorker:
        """Return a worker with so many CPU threads on a device (`cpu` or `cuda`)."""


class ExecutorError(DesignspaceError):
    """The executor itself cannot go on; what is committed stays committed."""


def attempt(worker: ShardWorker, ticket: Ticket) -> ShardSummary | Failure:
    """Run one attempt. Only exceptions of our own code become failures; Ctrl-C and process exits pass through."""
    try:
        return worker.run(ticket.shard, ticket.attempt)
    except Exception as error:
        _release_memory(error)
        return failure_of(error, worker.name)


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
