"""A study: a sweep file with a `protocol` block, whose own tasks are the development tasks.

Development and held-out data are kept apart by type: nothing here makes a sweep over held-out tasks without a
`HeldoutKey`, and only an entry in the ledger of looks makes such a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from designspace.axes import Budget
from designspace.errors import DeclarationError, ProtocolError
from designspace.memory.batch_rows import plan_rows
from designspace.protocol import HeldoutKey, heldout_hash, task_record
from designspace.protocol.metric import MetricName
from designspace.protocol.splits import check_disjoint
from designspace.tasks.problem import Problem
from designspace.tasks.task_spec import TaskSpec
from sweeps.auto_rows import arms, combinations_of, with_plan
from sweeps.generation_fields import AutoGeneration
from sweeps.placeholders import find_space, substituted
from sweeps.problems import Problems
from sweeps.protocol_checks import check_metric, check_protocol, contrast_cells, hypotheses
from sweeps.protocol_fields import Contrast, ProtocolSpec
from sweeps.sources import build_task
from sweeps.space import Space, checked_values, first_values, probes
from sweeps.spec import Sweep, build_sweep, check_schema
from sweeps.task_data import task_data
from sweeps.yaml_document import DataPath, Document, parse_document, path_text, read_document


@dataclass(frozen=True)
class Study:
    """A validated study.

    Attributes:
        sweep: the development sweep with the first value of every placeholder.
        space: what is tuned, in file order.
        document: the file. folder: where its relative paths start.
    """

    sweep: Sweep
    protocol: ProtocolSpec
    space: Space
    document: Document = field(repr=False)
    folder: Path

    @property
    def name(self) -> str:
        """The study's name."""
        return self.sweep.study

    @property
    def source_text(self) -> str:
        """The text of the file."""
        return self.document.text

    def sweep_for(self, values: Mapping[str, Any]) -> Sweep:
        """Return the sweep over the development tasks with these values of the placeholders.

        Raises:
            DeclarationError: a value is missing, unknown or not one of its parameter's, or the mechanism that it makes
                means nothing.
        """
        document = substituted(self.document, self.space, checked_values(self.space, values))
        problems = Problems(_without_protocol(document))
        sweep = build_sweep(problems.document, self.folder, self.sweep.source_path, problems)
        problems.raise_any()
        if sweep is None:
            raise DeclarationError(f"{self.document.source}: not a study")
        # No value is tuned in this section, and the number of rows is one for the whole study.
        return replace(sweep, generation=self.sweep.generation, rows_plan=self.sweep.rows_plan)

    def heldout_sweep(self, values: Mapping[str, Any], key: HeldoutKey) -> Sweep:
        """Return the confirmation: the held-out tasks with these values and `protocol.replicates` replicates.

        Raises:
            TypeError: `key` is no HeldoutKey.
            ProtocolError: the key is for other held-out problems than this study has now.
            DeclarationError: as `sweep_for`.
        """
        if not isinstance(key, HeldoutKey):
            raise TypeError(
                f"held-out tasks need a HeldoutKey, which a look in the ledger gives, got {type(key).__name__}"
            )
        sweep = self.sweep_for(values)
        tasks = _heldout_tasks(self)
        found = heldout_hash({"data": {"heldout": _records(tasks)}})
        if found != key.heldout:
            raise ProtocolError(f"the held-out problems must be those of the key, {key.heldout}, got {found}")
        seeds = sweep.seeds.model_copy(update={"count": self.protocol.replicates})
        return replace(sweep, tasks=tasks, seeds=seeds)

    def data_records(self) -> dict[str, list[dict[str, Any]]]:
        """Return what a registration says about the data: ids and hashes of `dev` and `heldout`, no problem's text.

        Raises:
            DesignspaceError: the data cannot be had.
        """
        return {"dev": _records(self.sweep.tasks), "heldout": _records(_heldout_tasks(self))}

    def overlaps(self) -> list[str]:
        """Return what development and held-out problems share, by id and by text: nothing, in a sound study."""
        return check_disjoint(_problems(self.sweep.tasks), _problems(_heldout_tasks(self)))

    def cells(self, contrast: Contrast) -> tuple[tuple[str, Budget], ...]:
        """Return the models and budgets that a contrast is about."""
        return tuple((model.name, budget) for model, budget in contrast_cells(contrast, self.sweep))

    def hypotheses(self) -> list[dict[str, Any]]:
        """Return one hypothesis per contrast, held-out task, model and budget, as a registration lists them."""
        return hypotheses(self.protocol, [task.name for task in self.protocol.heldout], self.sweep)

    def arms(self) -> dict[str, dict[str, Any]]:
        """Return every mechanism's identity by name, with `{tune: id}` where a value is still to be found."""
        arms = {mechanism.name: mechanism.identity() for mechanism in self.sweep.mechanisms}
        entries = self.document.data["mechanisms"]
        for parameter in self.space:
            if not parameter.condition:
                name = entries[parameter.mechanism]["name"]
                arms[name] = _marked(arms[name], parameter.path[2:], {"tune": parameter.id})
        return arms


def is_study(path: str | Path) -> bool:
    """Return whether a file has a `protocol` block.

    Raises:
        DeclarationError: it cannot be read, or is no YAML.
    """
    return "protocol" in read_document(path).data


def load_study(path: str | Path) -> Study:
    """Read and validate a study file. Relative paths in it start at the file's own folder.

    Raises:
        DeclarationError: holding every problem found, each as `file:line:col: path: rule, got …`.
    """
    return _validated(read_document(path), Path(path).parent, Path(path))


def parse_study(text: str, folder: str | Path = Path(), source: str = "<study>") -> Study:
    """Validate a study given as text; relative paths in it start at `folder`.

    Raises:
        DeclarationError: as `load_study`.
    """
    return _validated(parse_document(text, source), Path(folder), None)


def _validated(document: Document, folder: Path, source_path: Path | None) -> Study:
    problems = Problems(document)
    check_schema(document, problems)
    if "protocol" not in document.data:
        problems.add(("protocol",), "required field is missing: a file without it is a sweep (plan, run)")
        problems.raise_any()
    protocol = problems.validated(ProtocolSpec, document.data["protocol"], ("protocol",))
    malformed = Problems(document)
    space = find_space(document.data, malformed)
    _include(problems, malformed)
    if malformed:
        # What stands in such a place cannot be checked, and what is said of it would only mislead.
        problems.raise_any()
    metric = None if protocol is None else protocol.metric
    sweep = _check_values(document, space, folder, source_path, metric, problems)
    if protocol is not None:
        heldout = _build_heldout(protocol, folder, problems)
        if sweep is not None and sweep.own:
            said = "; ".join(f"{own.model}: {own}" for own in sweep.own)
            rule = "a study has one way of generating for all its models, which is what it registers"
            problems.add(("generation", "preset"), f"{rule}, got {said}: write the numbers, or a study for each model")
        elif sweep is not None:
            check_protocol(protocol, heldout, space, sweep, problems)
    problems.raise_any()
    if protocol is None or sweep is None:
        raise DeclarationError(f"{document.source}: not a study")
    return _with_rows(Study(sweep, protocol, space, document, folder))


def _with_rows(study: Study) -> Study:
    """Return a study with a number for `rows: auto`, which development and held-out tasks have in common.

    It must hold for every value that tuning may find. Of the held-out problems, only the lengths of the prompts matter.

    Raises:
        DesignspaceError: data, a model's configuration or a calibration is not here.
    """
    generation = study.sweep.generation
    if not isinstance(generation, AutoGeneration):
        return study
    tasks = (*study.sweep.tasks, *_heldout_tasks(study))
    tried = [first_values(study.space), *(values for _, values in probes(study.space))]
    everything = [replace(study.sweep_for(values), tasks=tasks) for values in tried]
    plan = plan_rows(arms(combinations_of(*everything), {task: task_data(task) for task in tasks}), generation.memory)
    return replace(study, sweep=with_plan(study.sweep, plan))


def _check_values(
    document: Document,
    space: Space,
    folder: Path,
    source_path: Path | None,
    metric: MetricName | None,
    problems: Problems,
) -> Sweep | None:
    """Validate the sweep with first values and return it; then once with every other choice and bound."""
    first = Problems(_without_protocol(substituted(document, space, first_values(space))))
    sweep = build_sweep(first.document, folder, source_path, first)
    check_metric(sweep, metric, first)
    _include(problems, first)
    seen = [first_values(space)]
    for parameter, values in probes(space):
        if values in seen:
            continue
        seen.append(values)
        tried = Problems(_without_protocol(substituted(document, space, values)))
        check_metric(build_sweep(tried.document, folder, source_path, tried), metric, tried)
        where = path_text(parameter.path)
        for position, text in tried.found:
            if (position, text) not in first.found:
                # A message about the value itself points at it; one about the whole mechanism does not.
                with_value = "" if text.startswith(where) else f" (with {parameter.id} = {values[parameter.id]})"
                problems.add_found(position, text + with_value)
    return sweep


def _include(problems: Problems, others: Problems) -> None:
    for position, text in others.found:
        problems.add_found(position, text)


def _without_protocol(document: Document) -> Document:
    return replace(document, data={name: part for name, part in document.data.items() if name != "protocol"})


def _build_heldout(protocol: ProtocolSpec, folder: Path, problems: Problems) -> list[tuple[TaskSpec, DataPath]]:
    """Check the held-out tasks; what is made here is compared by name and dropped."""
    built = []
    for index, entry in enumerate(protocol.heldout):
        path: DataPath = ("protocol", "heldout", index)
        task = build_task(entry.model_dump(), path, folder, problems)
        if task is not None:
            built.append((task, path))
    return built


def _heldout_tasks(study: Study) -> tuple[TaskSpec, ...]:
    """Return the held-out tasks: for the one function that wants a key, and for hashes."""
    problems = Problems(study.document)
    tasks = tuple(task for task, _ in _build_heldout(study.protocol, study.folder, problems))
    problems.raise_any()
    return tasks


def _records(tasks: Iterable[TaskSpec]) -> list[dict[str, Any]]:
    return [_record(task) for task in tasks]


def _record(task: TaskSpec) -> dict[str, Any]:
    grader = {"id": task.grader.grader_id, "kind": task.grader.kind, "version": task.grader.version}
    return task_record(task.name, task.split, task.load(), task.template_hash, grader)


def _problems(tasks: Iterable[TaskSpec]) -> list[Problem]:
    return [problem for task in tasks for problem in task.load()]


def _marked(identity: Any, path: Sequence[str | int], mark: Mapping[str, Any]) -> Any:
    """Return an identity with a mark at a path; what has no such path (a `base`) is hidden by the mark as a whole."""
    if not path:
        return dict(mark)
    key, rest = path[0], path[1:]
    if isinstance(identity, dict) and key in identity:
        return {**identity, str(key): _marked(identity[key], rest, mark)}
    if isinstance(identity, dict) and "kind" in identity and not rest:  # a parameter that its value left out
        return {**identity, str(key): dict(mark)}
    if isinstance(identity, list | tuple) and isinstance(key, int) and key < len(identity):
        return [_marked(item, rest, mark) if index == key else item for index, item in enumerate(identity)]
    return dict(mark)
