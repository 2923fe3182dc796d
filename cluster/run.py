"""Run a sweep: what is left to do, checks, execution, outcome."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from cluster.attempt import WorkerFactory
from cluster.claims import LeasedClaims
from cluster.cores import usable_cores
from cluster.inline import default_device
from cluster.interrupt import Interrupted
from cluster.preflight import PreflightError, check_memory
from cluster.progress import Progress, ProgressMode, make_progress
from cluster.ray_session import resolved_address
from cluster.run_state import RunState
from cluster.shard_queue import Event, OnEvent, ShardQueue, Ticket
from cluster.study_record import code_notes, record_study, with_rows_of
from cluster.work import Work, find_work, make_way, merged, rows_there
from cluster.worker import WorkerSettings
from designspace.errors import DeclarationError, UnknownName
from designspace.models.free_memory import free_bytes
from designspace.models.loading import check_device
from designspace.protocol.places import FOLDER
from designspace.store import ResultsStore
from sweeps.expand import Cell
from sweeps.idle_axes import idle_notes
from sweeps.shards import Shard
from sweeps.spec import Sweep, load_sweep
from sweeps.task_data import task_data

ExecutorName = Literal["ray", "inline"]


class Executor(Protocol):
    """What empties a queue."""

    def run(self, queue: ShardQueue, make_worker: WorkerFactory, on_event: OnEvent) -> None:
        """Attempt every shard until it is done or quarantined."""


@dataclass(frozen=True)
class Quarantined:
    """A shard that was given up in this run."""

    cell: str
    cell_id: str
    shard_id: str
    error: str
    message: str


@dataclass
class RunOutcome:
    """What a run did. Of `n_shards`, `n_cached` were done before and `n_left` lie beyond a limit.

    `n_elsewhere` shards were done by another run on the same store, while this one was at work.

    `labels` has the mechanism's name of every cell of the sweep, by cell id.
    """

    study: str
    results: Path
    n_shards: int
    n_cached: int
    labels: dict[str, str] = field(default_factory=dict)
    n_left: int = 0
    n_done: int = 0
    n_elsewhere: int = 0
    n_rows: int = 0
    n_new_tokens: int = 0
    wall_s: float = 0.0
    quarantined: list[Quarantined] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every shard is in the store."""
        return self.n_cached + self.n_done + self.n_elsewhere == self.n_shards


@dataclass(frozen=True)
class RunSettings:
    """How to run; see `run_sweep`. Nothing of it changes a row."""

    executor: ExecutorName = "ray"
    address: str | None = None
    workers: int | None = None
    limit: int | None = None
    progress: ProgressMode = "auto"
    strict: bool = False


def run_sweep(
    sweep: Sweep | str | Path,
    results: str | Path | None = None,
    *,
    executor: ExecutorName = "ray",
    address: str | None = None,
    workers: int | None = None,
    limit: int | None = None,
    only: Callable[[Cell], bool] | None = None,
    progress: ProgressMode = "auto",
    strict: bool = False,
) -> RunOutcome:
    """Run what a results store lacks of a sweep; the same call again resumes.

    Args:
        sweep: a declaration, or the file that holds it.
        results: folder of the store; by default `results/<study>`.
        executor: `ray` for real runs, `inline` to stay in this process.
        address: a running Ray cluster; by default `RAY_ADDRESS`, else a local Ray is started.
        workers: number of Ray actors; by default one per GPU, or on CPUs one per core as far as there are shards. Each
            holds a copy of the model.
        limit: stop after so many shards.
        only: run the cells for which this is true.
        progress: `auto`, `plain` or `none`.
        strict: refuse to go on with results that another state of the code made, instead of noting it.

    Raises:
        DeclarationError: the sweep is invalid, or cannot run here; nothing was started.
        DesignspaceError: the store cannot be written, or no worker starts.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what is committed stays.
    """
    sweep = sweep if isinstance(sweep, Sweep) else load_sweep(sweep)
    settings = RunSettings(executor, address, workers, limit, progress, strict)
    root = Path(results) if results is not None else default_results(sweep.study)
    return run_sweeps([sweep], sweep.study, root, settings, only)


def run_sweeps(
    sweeps: Sequence[Sweep],
    study: str,
    results: Path,
    settings: RunSettings,
    only: Callable[[Cell], bool] | None = None,
    look_sha256: str | None = None,
) -> RunOutcome:
    """Run several sweeps as one, cells that they share once; rows carry `study`, and the look that they are made under.

    look_sha256: the look that is noted for them; None notes one where a problem is held out by a registration here.

    Raises:
        DeclarationError, DesignspaceError, KeyboardInterrupt: as `run_sweep`.
    """
    display = make_progress(settings.progress)
    chosen = make_executor(settings.executor, settings.address, settings.workers, display.note)
    root, limit = results.resolve(), settings.limit
    before = existing_store(root, display.note)
    sweeps = [with_rows_of(sweep, before) for sweep in sweeps]
    found = [find_work(sweep, before, only) for sweep in sweeps]
    notes = list(code_notes(before, found, strict=settings.strict))
    store = ResultsStore.open(root, say=display.note)
    work = _recorded(store, sweeps, found)
    n_shards, labels = len(work.shards), {cell.cell_id: cell.mechanism.name for cell in work.cells}
    outcome = RunOutcome(study, root, n_shards, n_cached=n_shards - len(work.pending), labels=labels)
    display.note(_summary(work, rows_there(store, work)))
    pending = work.pending if limit is None else work.pending[:limit]
    if executes_here(settings):
        check_room(pending, settings.workers)
    outcome.n_left = len(work.pending) - len(pending)
    for note in (*notes, *idle_notes(shard.cell for shard in pending)):
        display.note(f"note: {note}")
    look = look_sha256 or _note_look(work, root, display.note)
    if pending:
        _execute(chosen, pending, store, outcome, display, look)
    return outcome


def _recorded(store: ResultsStore, sweeps: Sequence[Sweep], parts: Sequence[Work]) -> Work:
    """Store the documents of sweeps, and return their work as one, with nothing damaged in its way."""
    for sweep, part in zip(sweeps, parts, strict=True):
        record_study(store, sweep, part)
    work = merged(parts)
    make_way(store, work)
    return work


def _note_look(work: Work, root: Path, say: Callable[[str], None]) -> str | None:
    """Note a look where the work is on held-out problems, before any of it is shown, and return its hash."""
    if not (root / FOLDER).is_dir():
        return None
    from cluster.evidence.run_gate import note_run

    return note_run(work, root, say)


def executes_here(settings: RunSettings) -> bool:
    """Return whether the workers share this machine's memory; those of a cluster have their own."""
    return settings.executor == "inline" or resolved_address(settings.address) == "local"


def check_room(pending: Sequence[Shard], workers: int | None) -> None:
    """Check that every arm's weights, cache and workspace fit into what a worker on this machine has.

    Raises:
        ModelError: there is no such device.
        PreflightError: one does not, with what it takes and the number of rows that would fit.
    """
    cells = tuple(dict.fromkeys(shard.cell for shard in pending))
    data = {task: task_data(task) for task in dict.fromkeys(cell.task for cell in cells)}
    reasons: list[str] = []
    for device in dict.fromkeys(cell.model.device_on(default_device()) for cell in cells):
        there = [cell for cell in cells if cell.model.device_on(default_device()) == device]
        check_device(device, there[0].model.name)
        n_workers = 1 if device != "cpu" else workers or min(usable_cores(), max(len(pending), 1))
        reasons += check_memory(there, data, free_bytes(device) // n_workers)
    if reasons:
        raise PreflightError(reasons)


def make_executor(name: ExecutorName, address: str | None, workers: int | None, say: Callable[[str], None]) -> Executor:
    """Return an executor by name.

    Raises:
        UnknownName: no such executor.
        DeclarationError: settings that it cannot follow.
    """
    if workers is not None and workers < 1:
        raise DeclarationError(f"workers must be at least 1, got workers={workers}")
    if name == "ray":
        from cluster.ray_executor import RayExecutor

        return RayExecutor(address, workers, say)
    if name != "inline":
        raise UnknownName("executor", name, ("inline", "ray"))
    if address is not None or (workers or 1) > 1:
        raise DeclarationError("executor 'inline' is one process: it takes neither an address nor several workers")
    from cluster.inline import InlineExecutor

    return InlineExecutor()


def default_results(study: str) -> Path:
    """Return where a study's results go unless told otherwise."""
    return Path("results") / study


def existing_store(root: Path, say: Callable[[str], None] | None = None) -> ResultsStore | None:
    """Return the store at a folder, None where there is nothing yet; `say` is of a run, see `ResultsStore.open`.

    Raises:
        StoreError: the folder holds something else.
    """
    return ResultsStore.open(root, create=False, say=say) if root.is_dir() and any(root.iterdir()) else None


def _summary(work: Work, taken: Mapping[Cell, int]) -> str:
    n_tokens = sum(len(shard.problem_ids) * shard.cell.generation.most_new_tokens for shard in work.pending)
    n_tokens -= sum(n * cell.generation.most_new_tokens for cell, n in taken.items())
    n_there = sum(taken.values())
    there = f" ({n_there:,} rows of them are there of the same cells with fewer problems)" if n_there else ""
    return (
        f"{len(work.cells):,} cells, {len(work.shards):,} shards: {len(work.shards) - len(work.pending):,} done, "
        f"{len(work.pending):,} to do{there}, at most {n_tokens:,} tokens to generate"
    )


def _execute(
    executor: Executor,
    pending: Sequence[Shard],
    store: ResultsStore,
    outcome: RunOutcome,
    display: Progress,
    look_sha256: str | None,
) -> None:
    started_s = time.monotonic()

    told = threading.RLock()  # how far a worker is may be told by a thread of its own

    def on_event(event: Event) -> None:
        with told:
            _record(event, store, outcome)
            display.on_event(event)
            state.on_event(event)

    def on_done_elsewhere(shard: Shard) -> None:
        on_event(Event("elsewhere", Ticket(shard, 0)))

    n_rows = sum(len(shard.problem_ids) for shard in pending)
    state = RunState(len(pending), n_rows)
    display.start(len(pending), n_rows)
    try:
        with store.leases() as leases:
            state.leases = leases
            claims = LeasedClaims(store, leases, on_done_elsewhere, display.note)
            queue = ShardQueue(pending, _earlier_attempts(store), claims)
            executor.run(queue, WorkerSettings(store.root, outcome.study, look_sha256), on_event)
    except KeyboardInterrupt as error:
        raise error if isinstance(error, Interrupted) else Interrupted() from error
    finally:
        outcome.wall_s = time.monotonic() - started_s
        display.stop()


def _record(event: Event, store: ResultsStore, outcome: RunOutcome) -> None:
    shard, failure = event.ticket.shard, event.failure
    outcome.n_elsewhere += event.kind == "elsewhere"
    if event.summary is not None:
        outcome.n_done += 1
        outcome.n_rows += event.summary.n_rows
        outcome.n_new_tokens += event.summary.n_new_tokens if event.summary.generated else 0
    if failure is None or event.kind != "failed":  # of a bundle that broke, each shard has its attempt yet to come
        return
    reason = {**failure.document(), "quarantined": event.quarantined, "cell": shard.cell.label()}
    store.record_failure(shard.cell.cell_id, shard.shard_id, event.ticket.attempt, reason)
    if event.quarantined:
        outcome.quarantined.append(
            Quarantined(shard.cell.label(), shard.cell.cell_id, shard.shard_id, failure.error, failure.message)
        )


def _earlier_attempts(store: ResultsStore) -> dict[tuple[str, str], int]:
    earlier: dict[tuple[str, str], int] = {}
    for failure in store.failures():
        key = (failure.cell_id, failure.shard_id)
        earlier[key] = max(failure.attempt, earlier.get(key, 0))
    return earlier
