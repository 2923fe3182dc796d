"""The loop over Ray actors: hands bundles out, hears of them, and replaces what dies or stands still.

The loop is our own because the alternatives hide what matters here: `ActorPool` stops at the first exception, and
retries inside Ray (`max_task_retries`, `max_restarts`) would make attempts that the store never hears of. So an actor
that dies is replaced by the driver, and every attempt is a `Ticket`. Actors answer in streams: what comes of a shard is
known here when it is committed, not when the last of its bundle is. Beside that each is asked every few seconds how far
it is, because Ray notices a process that has died, and not one that stands still.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.attempt import BundleInProgress, ExecutorError, Outcome, ShardWorker, WorkerFactory, attempt, failure_of
from cluster.interrupt import Stop
from cluster.limits import Limits
from cluster.live_progress import LiveProgress
from cluster.pulse import AwakeClock, Pulse, Speeds
from cluster.ray_health import ClusterHealth, is_raised_at_start, one_line
from cluster.ray_session import Placement
from cluster.shard_queue import Bundle, Event, Failure, OnEvent, ShardQueue, ShardSummary

if TYPE_CHECKING:
    from designspace.models.model_spec import ModelSpec

_POLL_S = 0.5  # how soon a signal is noticed
_PARK_S = 2.0  # an unavailable actor is asked again this often
_MAX_PARKED = 30  # … and replaced after so many times
_MAX_FAILED_STARTS = 3  # by an error of the worker's own
_MAX_DEATHS_AT_START = 30  # a machine that has died is offered to new actors until Ray notices: a minute by default
_SLOW_START_S = 60.0
_ASK_EVERY_S = 2.0  # how far an actor is
_BESIDE = "pulse"  # the thread of an actor that answers while its worker works


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

    def pulse(self) -> object:
        """Return how far the worker is; it is asked in a thread of its own, beside `run`."""
        return self._worker.progress

    def run(self, bundle: Bundle) -> Iterator[Outcome]:
        """Run one attempt; called as a stream."""
        yield from attempt(self._worker, bundle)


@dataclass(eq=False)
class _Actor:
    """A handle and what the driver knows of it."""

    handle: Any
    name: str
    held: ModelSpec | None = None
    n_parked: int = 0
    asked_again_s: float = 0.0


@dataclass(eq=False)
class _Work:
    """What a busy actor is at, and what is heard of it meanwhile; `asked` is a question without an answer so far."""

    actor: _Actor
    underway: BundleInProgress
    pulse: Pulse
    asked: Any = None
    ask_again_s: float = 0.0


class Loop:
    """One run. Every actor is in exactly one place: starting, idle, busy or parked. One that died at its start is due anew."""

    def __init__(
        self,
        queue: ShardQueue,
        make_worker: WorkerFactory,
        on_event: OnEvent,
        where: Placement,
        health: ClusterHealth,
        limits: Limits,
        stop: Stop,
        say: Callable[[str], None],
    ) -> None:
        import ray

        self._ray = ray
        self._queue, self._make_worker, self._on_event = queue, make_worker, on_event
        self._where, self._health, self._limits, self._stop, self._say = where, health, limits, stop, say
        # Ray counts 1 CPU for an actor as soon as any resource is named, and 0 while it runs otherwise: never left out.
        self._remote = ray.remote(concurrency_groups={_BESIDE: 1})(Host).options(
            num_cpus=where.threads, num_gpus=where.n_gpus, max_restarts=0, max_task_retries=0
        )
        self._starting: dict[Any, _Actor] = {}
        self._busy: dict[Any, _Work] = {}
        self._idle: list[_Actor] = []
        self._parked: list[_Actor] = []
        self._n_failed_starts = self._n_deaths_at_start = 0
        self._spawn_at_s: list[float] = []
        self._clock, self._speeds = AwakeClock(), Speeds()
        self._alone_since_s = self._said_s = self._clock.now_s()  # since when no worker has been up

    def run(self) -> None:
        """Empty the queue.

        Raises:
            ExecutorError: the cluster is lost, no worker starts, or the store cannot be written.
            Interrupted: a signal has come.
        """
        for _ in range(min(self._where.n_actors, len(self._queue))):
            self._spawn()
        while len(self._queue) or self._busy:
            self._health.check()
            self._dispatch()
            self._ask_parked_again()
            self._spawn_again()
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
            self._feel_pulses()
            self._check_starts()

    def close(self) -> None:
        """Kill all actors: whatever they were at is not committed, and the next run does it."""
        if self._health.is_lost:
            return  # they end with their cluster, and to ask for anything would block
        for actor in self._actors():
            self._ray.kill(actor.handle, no_restart=True)

    def _actors(self) -> list[_Actor]:
        return [*self._idle, *self._parked, *self._starting.values(), *(work.actor for work in self._busy.values())]

    def _spawn(self) -> None:
        self._health.wait_for_head()
        handle = self._remote.remote(self._make_worker, self._where.threads, self._where.device)
        self._starting[handle.ready.remote()] = _Actor(handle, "")

    def _dispatch(self) -> None:
        for actor in list(self._idle):
            # Those that are starting count too: they are about to want their share.
            bundle = self._queue.take(actor.held, [other.held for other in self._actors() if other is not actor])
            if not bundle:
                return
            self._idle.remove(actor)
            model = bundle[0].shard.cell.model
            still_s = self._speeds.still_s(bundle, self._limits, has_model=actor.held == model)
            actor.held = model
            underway = BundleInProgress(bundle, actor.name, self._queue, self._on_event)
            pulse = Pulse(self._clock.now_s(), self._limits.silent_s, still_s)
            stream = actor.handle.run.options(num_returns="streaming").remote(bundle)
            self._busy[stream] = _Work(actor, underway, pulse)

    def _collect_start(self, ref: Any) -> None:
        actor, errors = self._starting.pop(ref), self._ray.exceptions
        try:
            name = self._ray.get(ref)
        except errors.RayTaskError as error:
            raise ExecutorError(failure_of(error, actor.name).message) from error
        except errors.RayError as error:
            self._lost(actor, error)
            return
        actor.name, actor.n_parked = str(name), 0
        self._n_failed_starts = self._n_deaths_at_start = 0
        self._idle.append(actor)

    def _collect_outcome(self, stream: Any) -> None:
        """Take the next item off a stream that has one, or its end."""
        work, errors = self._busy[stream], self._ray.exceptions
        actor, underway = work.actor, work.underway
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
            work.pulse.moved(self._clock.now_s())
            if isinstance(outcome.result, ShardSummary) and actor.held is not None:
                self._speeds.note(actor.held, outcome.result)
            underway.note(outcome)

    def _feel_pulses(self) -> None:
        """Ask busy actors how far they are, and replace those that stand still, without waiting for any of them."""
        now_s = self._clock.now_s()
        for stream, work in list(self._busy.items()):
            self._ask(work, now_s)
            reason = work.pulse.reason_to_give_up(now_s)
            if reason is not None:
                del self._busy[stream]
                work.underway.broken(Failure("lost", "WorkerStuck", reason, worker=work.actor.name))
                self._replace(work.actor)

    def _ask(self, work: _Work, now_s: float) -> None:
        if work.asked is None and now_s >= work.ask_again_s:
            work.asked = work.actor.handle.pulse.options(concurrency_group=_BESIDE).remote()
        elif work.asked is not None and self._ray.wait([work.asked], timeout=0)[0]:
            asked, work.asked, work.ask_again_s = work.asked, None, now_s + _ASK_EVERY_S
            with suppress(self._ray.exceptions.RayError):  # if it is dead, its stream says so
                self._hear(work, now_s, self._ray.get(asked))

    def _hear(self, work: _Work, now_s: float, answer: object) -> None:
        work.pulse.answered(now_s, answer)
        if isinstance(answer, LiveProgress):
            self._on_event(Event("working", work.underway.first, work.actor.name, live=answer))

    def _lost(self, actor: _Actor, error: Exception, underway: BundleInProgress | None = None) -> None:
        """Handle what is not our code's doing: open shards go back, the actor is asked again later or replaced."""
        reason = one_line(error)
        if underway is not None:
            whole = str(error).strip()
            underway.broken(Failure("lost", type(error).__name__, reason, worker=actor.name, traceback=whole))
        if isinstance(error, self._ray.exceptions.ActorUnavailableError) and actor.n_parked < _MAX_PARKED:
            # The handle raises this every few seconds until the actor answers again; a shard given to it meanwhile
            # would be lost each time.
            actor.n_parked += 1
            actor.asked_again_s = time.monotonic() + _PARK_S
            self._parked.append(actor)
            return
        if underway is None and not is_raised_at_start(error):
            self._died_at_start(actor, reason)
            return
        if underway is None:
            self._n_failed_starts += 1
            if self._n_failed_starts >= _MAX_FAILED_STARTS:
                raise self._health.do_not_start(reason)
        self._replace(actor)

    def _died_at_start(self, actor: _Actor, reason: str) -> None:
        """Try again in a while, where Ray may know by then that a machine is gone."""
        self._n_deaths_at_start += 1
        if self._n_deaths_at_start >= _MAX_DEATHS_AT_START:
            raise self._health.do_not_start(reason)
        self._health.wait_for_head()
        self._ray.kill(actor.handle, no_restart=True)
        self._spawn_at_s.append(time.monotonic() + _PARK_S)

    def _spawn_again(self) -> None:
        due = [at_s for at_s in self._spawn_at_s if at_s <= time.monotonic()]
        self._spawn_at_s = [at_s for at_s in self._spawn_at_s if at_s not in due]
        for _ in due:
            self._spawn()

    def _replace(self, actor: _Actor) -> None:
        self._health.wait_for_head()
        self._ray.kill(actor.handle, no_restart=True)
        self._spawn()

    def _ask_parked_again(self) -> None:
        for actor in [a for a in self._parked if a.asked_again_s <= time.monotonic()]:
            self._parked.remove(actor)
            self._starting[actor.handle.ready.remote()] = actor

    def _check_starts(self) -> None:
        """Go on with the workers that are up; say that none is, and end the run when that lasts too long.

        Raises:
            ExecutorError: none has started within the limit, or none ever can.
        """
        now_s = self._clock.now_s()
        n_starting = len(self._starting) + len(self._parked) + len(self._spawn_at_s)
        if self._busy or self._idle or not n_starting:
            self._alone_since_s = self._said_s = now_s
            return
        waited_s = now_s - self._alone_since_s
        if waited_s > self._limits.start_s or self._health.can_start_none():
            raise self._health.nothing_works(waited_s, n_starting, self._where)
        if now_s - self._said_s > _SLOW_START_S:
            self._said_s = now_s
            self._say(
                f"still waiting for {n_starting} worker(s) that need {self._where.threads} CPU and {self._where.n_gpus} GPU "
                f"each, for {self._limits.start_s - waited_s:.0f} s more"
            )
