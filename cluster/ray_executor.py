"""The executor over Ray: long-lived actors, one loop in the driver.

The loop is our own because the alternatives hide what matters here: `ActorPool` stops at the first exception, and
retries inside Ray (`max_task_retries`, `max_restarts`) would make attempts that the store never hears of. So an actor
that dies is replaced by the driver, and every attempt is a `Ticket`. Actors answer in streams: what comes of a shard is
known here when it is committed, not when the last of its bundle is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.attempt import BundleInProgress, ExecutorError, Outcome, ShardWorker, WorkerFactory, attempt, failure_of
from cluster.interrupt import Stop, interruptible
from cluster.ray_session import Placement, placement, ray_session, resolved_address
from cluster.shard_queue import Bundle, Failure, OnEvent, ShardQueue

if TYPE_CHECKING:
    from designspace.models.model_spec import ModelSpec

_POLL_S = 0.5  # how soon a signal is noticed
_PARK_S = 2.0  # an unavailable actor is asked again this often
_MAX_PARKED = 30  # … and replaced after so many times
_MAX_FAILED_STARTS = 3
_SLOW_START_S = 60.0


class Host:
    """The actor: makes a worker in its own process and keeps it."""

    def __init__(self, make_worker: WorkerFactory, threads: int, device: str) -> None:
        if device == "cpu":
            # An actor without GPUs still sees them all, and torch would be free to take one.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self._worker: ShardWorker = make_worker(threads, device)

    def ready(self) -> str:
        """Return the worker's name: it is up."""
        return self._worker.name

    def run(self, bundle: Bundle) -> Iterator[Outcome]:
        """Run one attempt; called as a stream."""
        yield from attempt(self._worker, bundle)


class RayExecutor:
    """Runs shards on Ray actors: one per GPU, or `workers` on CPUs.

    Args:
        address: a running cluster; None = `RAY_ADDRESS`, else a local Ray for the duration of the run.
        workers: number of actors; None = one per GPU, or on CPUs one per core as far as there are shards.
        say: told of what takes long.
    """

    def __init__(
        self, address: str | None = None, workers: int | None = None, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self.address, self.workers, self.say = address, workers, say

    def run(self, queue: ShardQueue, make_worker: WorkerFactory, on_event: OnEvent) -> None:
        """Empty the queue.

        Raises:
            ExecutorError: no cluster, workers that do not start, or a store that cannot be written.
            Interrupted: Ctrl-C or SIGTERM.
        """
        is_local = resolved_address(self.address) == "local"
        with ray_session(self.address, self._cores_wanted(), self.say), interruptible(at_once=False) as stop:
            where = placement(self.workers, len(queue), is_local=is_local, say=self.say)
            loop = _Loop(queue, make_worker, on_event, where, stop, self.say)
            try:
                loop.run()
            finally:
                loop.close()

    def _cores_wanted(self) -> int | None:
        """More workers than cores is the user's choice, but Ray would leave those beyond the cores pending for ever."""
        from cluster.cores import usable_cores

        return max(self.workers, usable_cores()) if self.workers else None


@dataclass(eq=False)
class _Actor:
    """A handle and what the driver knows of it."""

    handle: Any
    name: str
    held: ModelSpec | None = None
    n_parked: int = 0
    asked_again_s: float = 0.0


class _Loop:
    """One run. Every actor is in exactly one place: starting, idle, busy or parked."""

    def __init__(
        self,
        queue: ShardQueue,
        make_worker: WorkerFactory,
        on_event: OnEvent,
        where: Placement,
        stop: Stop,
        say: Callable[[str], None],
    ) -> None:
        import ray

        self._ray = ray
        self._queue, self._make_worker, self._on_event = queue, make_worker, on_event
        self._where, self._stop, self._say = where, stop, say
        # Ray counts 1 CPU for an actor as soon as any resource is named, and 0 while it runs otherwise: never left out.
        self._remote = ray.remote(Host).options(
            num_cpus=where.threads, num_gpus=where.n_gpus, max_restarts=0, max_task_retries=0
        )
        self._starting: dict[Any, _Actor] = {}
        self._busy: dict[Any, tuple[_Actor, BundleInProgress]] = {}
        self._idle: list[_Actor] = []
        self._parked: list[_Actor] = []
        self._n_failed_starts = 0
        self._slow_at_s = time.monotonic() + _SLOW_START_S

    def run(self) -> None:
        for _ in range(min(self._where.n_actors, len(self._queue))):
            self._spawn()
        while len(self._queue) or self._busy:
            self._dispatch()
            self._ask_parked_again()
            waited_for = [*self._starting, *self._busy]
            if not waited_for:
                time.sleep(_POLL_S)
            ready = self._ray.wait(waited_for, num_returns=1, timeout=_POLL_S)[0] if waited_for else []
            self._stop.check()
            for source in ready:
                if source in self._starting:
                    self._collect_start(source)
                else:
                    self._collect_outcome(source)
            self._mention_slow_start()

    def close(self) -> None:
        """Kill all actors: whatever they were at is not committed, and the next run does it."""
        for actor in self._actors():
            self._ray.kill(actor.handle, no_restart=True)

    def _actors(self) -> list[_Actor]:
        return [*self._idle, *self._parked, *self._starting.values(), *(actor for actor, _ in self._busy.values())]

    def _spawn(self) -> None:
        handle = self._remote.remote(self._make_worker, self._where.threads, self._where.device)
        self._starting[handle.ready.remote()] = _Actor(handle, "")

    def _dispatch(self) -> None:
        for actor in list(self._idle):
            # Those that are starting count too: they are about to want their share.
            bundle = self._queue.take(actor.held, [other.held for other in self._actors() if other is not actor])
            if not bundle:
                return
            self._idle.remove(actor)
            actor.held = bundle[0].shard.cell.model
            underway = BundleInProgress(bundle, actor.name, self._queue, self._on_event)
            self._busy[actor.handle.run.options(num_returns="streaming").remote(bundle)] = (actor, underway)

    def _collect_start(self, ref: Any) -> None:
        actor, errors = self._starting.pop(ref), self._ray.exceptions
        try:
            name = self._ray.get(ref)
        except errors.RayTaskError as error:
            raise ExecutorError(failure_of(error, actor.name).message) from error
        except errors.RayError as error:
            self._lost(actor, error)
            return
        actor.name, actor.n_parked, self._n_failed_starts = str(name), 0, 0
        self._idle.append(actor)

    def _collect_outcome(self, stream: Any) -> None:
        """Take the next item off a stream that has one, or its end."""
        (actor, underway), errors = self._busy[stream], self._ray.exceptions
        try:
            outcome = self._ray.get(next(stream))
        except StopIteration:
            del self._busy[stream]
            self._idle.append(actor)
            underway.end()
        except errors.RayTaskError as error:  # our code, outside of what `attempt` catches: an unpicklable result, say
            underway.broken(failure_of(error, actor.name))
        except errors.RayError as error:
            del self._busy[stream]
            self._lost(actor, error, underway)
        else:
            underway.note(outcome)

    def _lost(self, actor: _Actor, error: Exception, underway: BundleInProgress | None = None) -> None:
        """Handle what is not our code's doing: open shards go back, the actor is asked again later or replaced."""
        reason = str(error).strip() or type(error).__name__
        if underway is not None:
            underway.broken(Failure("lost", type(error).__name__, reason, worker=actor.name))
        if isinstance(error, self._ray.exceptions.ActorUnavailableError) and actor.n_parked < _MAX_PARKED:
            # The handle raises this every few seconds until the actor answers again; a shard given to it meanwhile
            # would be lost each time.
            actor.n_parked += 1
            actor.asked_again_s = time.monotonic() + _PARK_S
            self._parked.append(actor)
            return
        if underway is None:
            self._n_failed_starts += 1
            if self._n_failed_starts >= _MAX_FAILED_STARTS:
                raise ExecutorError(f"workers do not start: {reason}")
        self._ray.kill(actor.handle, no_restart=True)
        self._spawn()

    def _ask_parked_again(self) -> None:
        for actor in [a for a in self._parked if a.asked_again_s <= time.monotonic()]:
            self._parked.remove(actor)
            self._starting[actor.handle.ready.remote()] = actor

    def _mention_slow_start(self) -> None:
        if self._starting and not self._busy and not self._idle and time.monotonic() > self._slow_at_s:
            self._slow_at_s += _SLOW_START_S
            self._say(
                f"still waiting for {len(self._starting)} worker(s) that need {self._where.threads} CPU and "
                f"{self._where.n_gpus} GPU each"
            )
