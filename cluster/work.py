"""What a sweep still has to do, against a store; and whether it can be done here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.code_id import code_id
from cluster.preflight import PreflightError, check_fed, check_golds, check_models, check_texts
from designspace.errors import DesignspaceError
from designspace.store import ResultsStore
from designspace.tasks.task_spec import TaskSpec
from sweeps.earlier_rows import EarlierRows
from sweeps.expand import Cell, expand
from sweeps.shards import Shard, shards
from sweeps.spec import Sweep
from sweeps.task_data import TaskData, task_data


@dataclass(frozen=True)
class Work:
    """A sweep against a store: its cells, all their shards, and those that are not done."""

    cells: tuple[Cell, ...]
    shards: tuple[Shard, ...]
    pending: tuple[Shard, ...]


def find_work(sweep: Sweep, store: ResultsStore | None, only: Callable[[Cell], bool] | None = None) -> Work:
    """Return what is left to do, after checking that it can be done here.

    Raises:
        PreflightError: tasks, models or calibrations are missing or unfit; every reason at once.
    """
    sweep = _with_absolute_paths(sweep)
    data = _data(sweep.tasks)
    cells = tuple(cell for cell in expand(sweep, data) if only is None or only(cell))
    blocks = tuple(shard for cell in cells for shard in shards(cell, data[cell.task].problems or ()))
    pending = tuple(shard for shard in blocks if store is None or not is_done(store, shard))
    reasons: list[str] = []
    to_run = tuple(dict.fromkeys(shard.cell for shard in pending))
    for task in dict.fromkeys(cell.task for cell in to_run if cell.writes_answers):
        found = check_golds(data[task].problems or (), task.grader)
        reasons += [f"task {task.name!r} split {task.split!r}: {reason}" for reason in found]
    reasons += check_fed(to_run)
    reasons += list(check_models(to_run)) or check_texts(to_run, data)
    if reasons:
        raise PreflightError(reasons)
    return Work(cells, blocks, pending)


def _data(tasks: Sequence[TaskSpec]) -> dict[TaskSpec, TaskData]:
    """Return the data of all tasks.

    Raises:
        PreflightError: some is missing or breaks a rule; every reason at once.
    """
    found, reasons = {}, []
    for task in tasks:
        place = f"task {task.name!r} split {task.split!r}"
        try:
            found[task] = task_data(task)
            if found[task].problems is None:
                reasons.append(f"{place}: {found[task].missing_because}")
        except DesignspaceError as error:
            reasons.append(f"{place}: {error}")
    if reasons:
        raise PreflightError(reasons)
    return found


def merged(parts: Sequence[Work]) -> Work:
    """Return several sweeps' work as one; what two of them share is in it once."""
    cells = {cell.cell_id: cell for part in parts for cell in part.cells}
    blocks = {(s.cell.cell_id, s.shard_id): s for part in parts for s in part.shards}
    pending = {(s.cell.cell_id, s.shard_id): s for part in parts for s in part.pending}
    return Work(tuple(cells.values()), tuple(blocks.values()), tuple(pending.values()))


def rows_there(store: ResultsStore, work: Work) -> dict[Cell, int]:
    """Return, by cell, how many rows of its shards to do are there of the same cell with fewer problems, to be taken over."""
    earlier, wanted = EarlierRows(store, code_id()), dict[Cell, list[str]]()
    for shard in work.pending:
        wanted.setdefault(shard.cell, []).extend(shard.problem_ids)
    known = {cell: earlier.known_here(cell, cell.task.load()) for cell in wanted}
    return {cell: sum(name in known[cell] for name in names) for cell, names in wanted.items()}


def make_way(store: ResultsStore, work: Work) -> None:
    """Set aside what is damaged of the shards to do, and write the documents that other shards' cells have lost.

    Raises:
        StoreError: a file cannot be read here, or the file system refused.
    """
    for shard in work.pending:
        store.set_shard_aside(shard.cell.cell_id, shard.shard_id)
    pending = {shard.shard_id for shard in work.pending}
    done = {shard.cell.cell_id: shard.cell for shard in work.shards if shard.shard_id not in pending}
    for cell_id, cell in done.items():
        store.write_cell(cell_id, cell.identity)


def is_done(store: ResultsStore, shard: Shard) -> bool:
    """Return whether a shard's samples, and grades of them by the task's grader as it is now, are stored."""
    cell_id, shard_id = shard.cell.cell_id, shard.shard_id
    grader = shard.cell.task.grader
    needs_grades = grader.grades and shard.cell.writes_answers
    is_graded = not needs_grades or store.grades_committed(grader.grader_id, cell_id, shard_id)
    return store.is_committed(cell_id, shard_id) and is_graded


def _with_absolute_paths(sweep: Sweep) -> Sweep:
    """Return the sweep with paths that mean the same in another process, whose working folder may differ."""
    return replace(
        sweep,
        models=tuple(
            replace(
                model, path=_absolute(model.path), gguf=_absolute(model.gguf), calibration=_absolute(model.calibration)
            )
            for model in sweep.models
        ),
        tasks=tuple(replace(task, path=_absolute(task.path)) for task in sweep.tasks),
    )


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())
