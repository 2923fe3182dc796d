"""The executor without processes: everything in the caller's, for notebooks, tests and breakpoints."""

from __future__ import annotations

from cluster.attempt import ExecutorError, WorkerFactory, attempt
from cluster.cores import usable_cores
from cluster.interrupt import interruptible
from cluster.schedule import Event, Failure, OnEvent, ShardQueue


class InlineExecutor:
    """Runs shards one after another. No recovery from a crash of the process: run the same command again."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or _default_threads()

    def run(self, queue: ShardQueue, make_worker: WorkerFactory, on_event: OnEvent) -> None:
        """Empty the queue.

        Raises:
            ExecutorError: the store cannot be written.
            Interrupted: Ctrl-C or SIGTERM.
        """
        with interruptible(at_once=True):
            worker = make_worker(self.threads, default_device())
            held = None
            try:
                while (ticket := queue.take(held)) is not None:
                    held = ticket.shard.cell.model
                    on_event(Event("started", ticket, worker.name))
                    outcome = attempt(worker, ticket)
                    if not isinstance(outcome, Failure):
                        on_event(Event("done", ticket, worker.name, summary=outcome))
                        continue
                    if outcome.stops_run:
                        raise ExecutorError(outcome.message)
                    quarantined = queue.fail(ticket, outcome)
                    on_event(Event("failed", ticket, worker.name, failure=outcome, quarantined=quarantined))
            finally:
                worker.close()


def _default_threads() -> int:
    # torch knows OMP_NUM_THREADS and what the caller has set, but not the limit of a container.
    import torch

    return min(torch.get_num_threads(), usable_cores())


def default_device() -> str:
    """Return `cuda` where there is a device, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
