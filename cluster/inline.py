"""The executor without processes: everything in the caller's, for notebooks, tests and breakpoints."""

from __future__ import annotations

from contextlib import closing

from cluster.attempt import BundleInProgress, WorkerFactory, attempt
from cluster.cores import usable_cores
from cluster.interrupt import interruptible
from cluster.shard_queue import OnEvent, ShardQueue


class InlineExecutor:
    """Runs bundles of shards one after another. No recovery from a crash of the process: run the same command again."""

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
                while bundle := queue.take(held):
                    held = bundle[0].shard.cell.model
                    underway = BundleInProgress(bundle, worker.name, queue, on_event)
                    with closing(attempt(worker, bundle)) as outcomes:
                        for outcome in outcomes:
                            underway.note(outcome)
                    underway.end()
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
