"""What a sweep will do, before it does it: cells, shards, cached and pending, tokens, predicted cache sizes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from designspace.memory.batch_rows import RowsPlan
from designspace.tasks.task_spec import TaskSpec
from sweeps.auto_rows import with_rows
from sweeps.checks import matches
from sweeps.earlier_rows import EarlierRows
from sweeps.expand import Cell, expand
from sweeps.mechanisms import Refusal
from sweeps.plan_notes import plan_notes
from sweeps.predicted_cache import predicted_sizes
from sweeps.shards import shards
from sweeps.spec import Sweep
from sweeps.task_data import TaskData, task_data

PLAN_VERSION = 1


class CommittedShards(Protocol):
    """The one question that a plan asks a results store."""

    def is_committed(self, cell_id: str, shard_id: str) -> bool:
        """Return whether a shard's rows are in the store."""


@dataclass(frozen=True)
class TaskPlan:
    """A task split; `n_problems` None and `state` the reason where its data is not here."""

    name: str
    split: str
    n_problems: int | None
    state: str


@dataclass(frozen=True)
class CellPlan:
    """A cell with its progress; `n_shards` None where the number of problems is not known here."""

    cell_id: str
    provisional: bool
    model: str
    task: str
    split: str
    mechanism: str
    budget: str
    replicate: int
    n_shards: int | None
    n_committed: int
    max_new_tokens: int | None


@dataclass(frozen=True)
class ArmPlan:
    """A mechanism at a budget, with the cache that its cadence predicts, in tokens per (layer, KV head).

    Attributes:
        steady_mean_tokens: mean attended size between events; None where there is no steady state.
        peak_tokens: largest attended size in the steady state; None where the cache grows with the text.
    """

    mechanism: str
    budget: str
    steady_mean_tokens: float | None
    peak_tokens: int | None
    n_cells: int
    n_shards: int | None
    n_committed: int


@dataclass(frozen=True)
class ExcludePlan:
    """An exclude rule, and how many cells it matches (rules may overlap)."""

    rule: dict[str, Any]
    why: str
    n_cells: int


@dataclass(frozen=True)
class RowsLimit:
    """What `rows: auto` went by: bytes that were given, and those that the arm in the way of more rows takes.

    `text` has it all in words.
    """

    memory: int
    arm: str
    model: str
    cache: int
    workspace: int
    weights: int
    text: str


@dataclass(frozen=True)
class Plan:
    """The whole plan. Shard and token numbers cover the tasks whose data is here.

    Attributes:
        n_cells_uncounted: cells whose number of shards is not known, because their task's data is not here.
        n_rows_taken: rows of pending shards that are there already, of the same cells with fewer problems.
        n_rows_to_generate: the other rows of pending shards.
        max_new_tokens: upper bound over all shards; `max_new_tokens_pending` over those not committed yet.
        rows: rows per batch. rows_limit: why it is this number; None where it stands in the file.
    """

    study: str
    counts: Mapping[str, int]
    n_cells: int
    n_cells_uncounted: int
    n_shards: int
    n_committed: int
    n_pending: int
    n_rows_taken: int
    n_rows_to_generate: int
    max_new_tokens: int
    max_new_tokens_pending: int
    rows: int
    rows_limit: RowsLimit | None
    tasks: tuple[TaskPlan, ...]
    arms: tuple[ArmPlan, ...]
    cells: tuple[CellPlan, ...]
    refused: tuple[Refusal, ...]
    excluded: tuple[ExcludePlan, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-able data."""
        return {"plan_version": PLAN_VERSION, **asdict(self)}

    def to_json(self) -> str:
        """Return the plan as JSON text, two spaces of indentation."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)


def plan(sweep: Sweep, store: CommittedShards | None = None, earlier: EarlierRows | None = None) -> Plan:
    """Return what a sweep will do; neither weights nor hub are needed, but for `rows: auto` a hub model's configuration.

    earlier: of the store, to find rows that are there of the same cells with fewer problems; a tokenizer is needed then.

    Raises:
        DeclarationError: two cells are the same run.
        DesignspaceError: `rows: auto` cannot be made a number here.
    """
    data = {task: task_data(task) for task in sweep.tasks}
    sweep = with_rows(sweep, data)
    cells = expand(sweep, data)
    progress = [_Progress.of(cell, data[cell.task], store, earlier) for cell in cells]
    return Plan(
        study=sweep.study,
        counts={
            "models": len(sweep.models),
            "tasks": len(sweep.tasks),
            "budgets": len(sweep.budgets),
            "mechanisms": len(sweep.mechanisms),
            "replicates": sweep.seeds.count,
        },
        n_cells=len(cells),
        n_cells_uncounted=sum(item.n_shards is None for item in progress),
        n_shards=sum(item.n_shards or 0 for item in progress),
        n_committed=sum(item.n_committed for item in progress),
        n_pending=sum((item.n_shards or 0) - item.n_committed for item in progress),
        n_rows_taken=sum(item.n_rows_taken for item in progress),
        n_rows_to_generate=sum(item.n_rows_to_generate for item in progress),
        max_new_tokens=sum(item.max_new_tokens or 0 for item in progress),
        max_new_tokens_pending=sum(item.max_new_tokens_pending for item in progress),
        rows=cells[0].generation.rows,
        rows_limit=None if sweep.rows_plan is None else _rows_limit(sweep.rows_plan),
        tasks=tuple(_task_plan(task, found) for task, found in data.items()),
        arms=_arms(progress),
        cells=tuple(item.plan() for item in progress),
        refused=sweep.refused,
        excluded=tuple(_exclude_plans(sweep)),
        notes=tuple(plan_notes(sweep, cells, data)),
    )


def _rows_limit(found: RowsPlan) -> RowsLimit:
    taken = found.footprint
    return RowsLimit(found.memory, found.arm, found.model, taken.cache, taken.workspace, taken.weights, text=str(found))


@dataclass(frozen=True)
class _Progress:
    cell: Cell
    n_shards: int | None
    n_committed: int
    max_new_tokens: int | None
    n_rows_taken: int
    n_rows_to_generate: int

    @staticmethod
    def of(cell: Cell, found: TaskData, store: CommittedShards | None, earlier: EarlierRows | None = None) -> _Progress:
        if found.problems is None:
            return _Progress(cell, None, 0, None, 0, 0)
        blocks = shards(cell, found.problems)
        # A provisional id is not the one that a run will have, so nothing can be committed under it.
        asked = None if cell.provisional else store
        pending = [block for block in blocks if asked is None or not asked.is_committed(cell.cell_id, block.shard_id)]
        there = frozenset[str]() if earlier is None or not pending else earlier.known_here(cell, found.problems)
        wanted = [name for block in pending for name in block.problem_ids]
        n_rows_taken = sum(name in there for name in wanted)
        return _Progress(
            cell,
            n_shards=len(blocks),
            n_committed=len(blocks) - len(pending),
            max_new_tokens=cell.generation.most_new_tokens * len(found.problems),
            n_rows_taken=n_rows_taken,
            n_rows_to_generate=len(wanted) - n_rows_taken,
        )

    @property
    def max_new_tokens_pending(self) -> int:
        return self.cell.generation.most_new_tokens * self.n_rows_to_generate

    def plan(self) -> CellPlan:
        cell = self.cell
        return CellPlan(
            cell_id=cell.cell_id,
            provisional=cell.provisional,
            model=cell.model.name,
            task=cell.task.name,
            split=cell.task.split,
            mechanism=cell.mechanism.name,
            budget=budget_label(cell),
            replicate=cell.replicate,
            n_shards=self.n_shards,
            n_committed=self.n_committed,
            max_new_tokens=self.max_new_tokens,
        )


def budget_label(cell: Cell) -> str:
    """Return the budget as store and report show it: `48`, `48 nominal`, or `none` where it does not apply."""
    return "none" if cell.budget is None else str(cell.budget)


def _task_plan(task: TaskSpec, found: TaskData) -> TaskPlan:
    if found.problems is None:
        return TaskPlan(task.name, task.split, None, f"data not found here: {found.missing_because}")
    return TaskPlan(task.name, task.split, len(found.problems), "ready")


def _arms(progress: Iterable[_Progress]) -> tuple[ArmPlan, ...]:
    grouped: dict[tuple[str, str], list[_Progress]] = {}
    for item in progress:
        grouped.setdefault((item.cell.mechanism.name, budget_label(item.cell)), []).append(item)
    return tuple(_arm(name, label, items) for (name, label), items in grouped.items())


def _arm(name: str, label: str, items: list[_Progress]) -> ArmPlan:
    steady_mean, steady_peak = predicted_sizes(items[0].cell)
    return ArmPlan(
        mechanism=name,
        budget=label,
        steady_mean_tokens=steady_mean,
        peak_tokens=steady_peak,
        n_cells=len(items),
        n_shards=None if None in (item.n_shards for item in items) else sum(item.n_shards or 0 for item in items),
        n_committed=sum(item.n_committed for item in items),
    )


def _exclude_plans(sweep: Sweep) -> Iterator[ExcludePlan]:
    for rule in sweep.exclude:
        shown = rule.model_dump(exclude_none=True, exclude={"why"})
        n_matched = sum(
            matches(rule, model, task, budget, mechanism)
            for model in sweep.models
            for task in sweep.tasks
            for mechanism in sweep.mechanisms
            for budget in (sweep.budgets if mechanism.budget_applies else (None,))
        )
        yield ExcludePlan(shown, rule.why, n_matched * sweep.seeds.count)
