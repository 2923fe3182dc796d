"""From a sweep to its cells: models × tasks × mechanisms × budgets × replicates, in file order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from designspace.axes import Budget, Mechanism
from designspace.errors import DeclarationError
from designspace.models.calibration import artefact_hash
from designspace.models.model_spec import ModelSpec
from designspace.tasks.problem import content_hash, solutions_hash
from designspace.tasks.task_spec import TaskSpec
from sweeps.auto_rows import with_rows
from sweeps.combinations import Combination, combinations
from sweeps.generation_fields import GenerationSpec
from sweeps.identity import calibrations_needed, cell_id, identity_document
from sweeps.spec import Sweep
from sweeps.task_data import TaskData, task_data


@dataclass(frozen=True)
class Cell:
    """One entry of the grid: everything that a worker needs, and its identity.

    Attributes:
        budget: None where the mechanism has no use for one.
        identity: the document whose canonical JSON hashes to `cell_id`.
        provisional: the task's data or a calibration artefact is not here, so a run will have another id.
    """

    model: ModelSpec
    task: TaskSpec
    mechanism: Mechanism
    budget: Budget | None
    replicate: int
    root_seed: int
    generation: GenerationSpec
    cell_id: str
    provisional: bool = False
    identity: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def writes_answers(self) -> bool:
        """Whether its texts are the model's own, to be graded; those of teacher forcing are given."""
        decoding = self.mechanism.decoding
        return decoding is None or decoding.reference is None

    @property
    def needs_reference(self) -> bool:
        """Whether the text of the full cache, or a solution, must be there first: to be fed, or to know what is to come."""
        return not self.writes_answers or self.mechanism.needs().foresight

    def label(self) -> str:
        """Return the cell in words, for progress lines and messages."""
        budget = "no budget" if self.budget is None else f"budget {self.budget}"
        task = f"{self.task.name}/{self.task.split}"
        return f"{self.model.name} · {task} · {self.mechanism.name} · {budget} · replicate {self.replicate}"


def expand(sweep: Sweep, data: Mapping[TaskSpec, TaskData] | None = None) -> tuple[Cell, ...]:
    """Return the cells of a sweep. A mechanism without a use for budgets runs once per model, task and replicate.

    `data` saves loading the tasks again where the caller has them.

    Raises:
        DeclarationError: two cells have one identity, so one of them is declared twice under two names.
        DesignspaceError: `rows: auto` cannot be made a number here.
    """
    data = data if data is not None else {task: task_data(task) for task in sweep.tasks}
    cells = tuple(_cells(with_rows(sweep, data), data))
    seen: dict[str, Cell] = {}
    for cell in cells:
        first = seen.setdefault(cell.cell_id, cell)
        if first is not cell:
            raise DeclarationError(f"two cells are the same run under two names: {first.label()} and {cell.label()}")
    return cells


def _cells(sweep: Sweep, data: Mapping[TaskSpec, TaskData]) -> Iterator[Cell]:
    hashes = {task: _hashes(found) for task, found in data.items()}
    artefacts = {name for mechanism in sweep.mechanisms for name in calibrations_needed(mechanism)}
    calibration = {model: {name: artefact_hash(model, name) for name in artefacts} for model in sweep.models}
    for one in combinations(sweep):
        for replicate in range(sweep.seeds.count):
            yield _cell(sweep, one, hashes[one.task], calibration[one.model], replicate)


def _hashes(found: TaskData) -> tuple[str | None, str | None]:
    """Return the hashes of a task's problems and of their solutions, None where they are not here."""
    problems = found.problems
    return (None, None) if problems is None else (content_hash(problems), solutions_hash(problems))


def _cell(
    sweep: Sweep,
    one: Combination,
    hashes: tuple[str | None, str | None],
    calibration: Mapping[str, str | None],
    replicate: int,
) -> Cell:
    generation, (task_content_hash, solutions) = sweep.generation_of(one.model), hashes
    assert isinstance(generation, GenerationSpec)
    document = identity_document(
        model=one.model,
        task=one.task,
        task_content_hash=task_content_hash,
        mechanism=one.mechanism,
        calibration=calibration,
        budget=one.budget,
        generation=generation,
        replicate=replicate,
        root_seed=sweep.seeds.root,
        solutions=solutions,
    )
    return Cell(
        model=one.model,
        task=one.task,
        mechanism=one.mechanism,
        budget=one.budget,
        replicate=replicate,
        root_seed=sweep.seeds.root,
        generation=generation,
        cell_id=cell_id(document),
        provisional=task_content_hash is None or None in document["calibration"].values(),
        identity=document,
    )
