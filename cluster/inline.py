"""The executor without processes: everything in the caller's, for notebooks, tests and breakpoints."""

from __future__ import annotations

import threading
import time
from contextlib import closing

from cluster.attempt import BundleInProgress, ShardWorker, WorkerFactory, attempt
from cluster.claims import LOOK_EVERY_S
from cluster.cores import default_threads, sensible_threads
from cluster.interrupt import interruptible
from cluster.live_progress import LiveProgress
from cluster.shard_queue import Event, OnEvent, ShardQueue
from designspace.models.model_spec import ModelSpec

ASK_EVERY_S = 2.0


class InlineExecutor:
    """Runs bundles of shards one after another. No recovery from a crash of the process: run the same command again.

    Args:
        threads: what torch gets; None = what suits each model, see `cluster.cores.sensible_threads`.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads
        self._most_threads = default_threads()  # a worker changes the number for the whole process, until it is closed

    def threads_for(self, model: ModelSpec) -> int:
        """Return the number of threads that a model runs with, which is stored with every row."""
        return self.threads or sensible_threads(model, self._most_threads)

    def run(self, queue: ShardQueue, make_worker: WorkerFactory, on_event: OnEvent) -> None:
        """Empty the queue.

        Raises:
            ExecutorError: the store cannot be written.
            Interrupted: Ctrl-C or SIGTERM.
        """
        with interruptible(at_once=True):
            worker: ShardWorker | None = None
            held, threads = None, 0
            try:
                while len(queue):
                    bundle = queue.take(held)
                    if not bundle:  # another run is at what is left
                        time.sleep(LOOK_EVERY_S)
                        continue
                    held = bundle[0].shard.cell.model
                    if worker is None or threads != self.threads_for(held):
                        if worker is not None:
                            worker.close()
                        threads = self.threads_for(held)
                        worker = make_worker(threads, default_device())
                    underway = BundleInProgress(bundle, worker.name, queue, on_event)
                    with closing(attempt(worker, bundle)) as outcomes, _Asking(worker, underway, on_event):
                        for outcome in outcomes:
                            underway.note(outcome)
                    underway.end()
            finally:
                if worker is not None:
                    worker.close()


class _Asking:
    """Asks a worker every few seconds how far it is, in a thread beside it, as a context."""

    def __init__(self, worker: ShardWorker, underway: BundleInProgress, on_event: OnEvent) -> None:
        self._worker, self._underway, self._on_event = worker, underway, on_event
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._ended.wait(ASK_EVERY_S):
            answer = self._worker.progress
            if isinstance(answer, LiveProgress):
                self._on_event(Event("working", self._underway.first, self._worker.name, live=answer))


def default_device() -> str:
    """Return `cuda` where there is a device, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
