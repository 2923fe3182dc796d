"""The `models`, `tasks` and `budgets` sections: from entries to the core's own specifications."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from designspace.axes import Budget, Geometry
from designspace.errors import DeclarationError, DesignspaceError, ModelError, UnknownName
from designspace.models.config_file import check_config_file, configuration_of
from designspace.models.gguf_import import ensure_imported
from designspace.models.model_spec import ModelSpec
from designspace.tasks import lookup
from designspace.tasks.chat_arguments import ChatArguments
from designspace.tasks.grading import Grader
from designspace.tasks.task_spec import TaskSpec
from sweeps.fields import BudgetEntry, ModelEntry, TaskEntry
from sweeps.problems import Problems
from sweeps.yaml_document import DataPath, shown

Item = TypeVar("Item")


def build_all(
    section: str, entries: Iterable[Any], build: Callable[[Any, DataPath], Item | None]
) -> list[tuple[Item, DataPath]]:
    """Return what could be built of a section, each with its path."""
    built = [(build(entry, (section, index)), (section, index)) for index, entry in enumerate(entries)]
    return [(item, path) for item, path in built if item is not None]


def refuse_repeats(
    items: Iterable[tuple[Item, DataPath]],
    key: Callable[[Item], Hashable],
    what: Callable[[Item], str],
    problems: Problems,
) -> None:
    """Note every item whose key an earlier one has."""
    seen: dict[Hashable, DataPath] = {}
    for item, path in items:
        first = seen.setdefault(key(item), path)
        if first != path:
            line = problems.document.position(first).line
            problems.add(path, f"{what(item)} is declared twice, first at line {line}")


def build_model(data: Any, path: DataPath, folder: Path, problems: Problems) -> ModelSpec | None:
    """Return a model: bundled when the entry is a name or has neither hub nor path."""
    if isinstance(data, str):
        data, name_path = {"name": data}, path
    elif isinstance(data, dict):
        name_path = (*path, "name")
    else:
        problems.add(path, f"must be the name of a bundled model or a mapping, got {shown(data)}")
        return None
    entry = problems.validated(ModelEntry, data, path)
    if entry is None:
        return None
    calibration = str(folder / Path(entry.calibration).expanduser()) if entry.calibration else None
    try:
        if not entry.hub and not entry.path and not entry.gguf:
            return ModelSpec.bundled(
                entry.name,
                dtype=entry.dtype,
                calibration=calibration,
                device=entry.device,
                quantization=entry.quantization,
            )
        location = str(folder / Path(entry.path).expanduser()) if entry.path else None
        gguf = str(folder / Path(entry.gguf).expanduser()) if entry.gguf else None
        spec = ModelSpec(
            entry.name,
            entry.hub,
            entry.revision,
            location,
            entry.dtype,
            calibration,
            gguf,
            device=entry.device,
            quantization=entry.quantization,
        )
    except UnknownName as error:
        problems.add(name_path, f"{error}; another model needs hub and revision, path or gguf")
        return None
    except DesignspaceError as error:
        problems.add_error(path, error)
        return None
    if spec.gguf is not None:
        return spec if _is_imported(spec, entry.gguf, (*path, "gguf"), problems) else None
    # Presence only: hashing many gigabytes of weights is for the identity, not for reading a file.
    if spec.folder is not None and not (spec.exists_locally and any(spec.folder.glob("*.safetensors"))):
        rule = "must be a folder with config.json and *.safetensors (relative to the sweep file)"
        problems.add((*path, "path"), f"{rule}, got {entry.path!r}")
        return None
    return spec if spec.folder is None or _config_is_sound(spec.folder, (*path, "path"), problems) else None


def _is_imported(spec: ModelSpec, named: str | None, path: DataPath, problems: Problems) -> bool:
    """Note why a GGUF file has no model; it is imported if it was not before: a plan needs the model's shape."""
    if not Path(str(spec.gguf)).is_file():
        problems.add(path, f"must be a file (relative to the sweep file), got {named!r}")
        return False
    try:
        ensure_imported(spec)
    except DesignspaceError as error:
        problems.add_error(path, error)
        return False
    return True


def _config_is_sound(folder: Path, path: DataPath, problems: Problems) -> bool:
    """Note a config.json that is no JSON object: a plan without the model's shape would only put it off until the run."""
    try:
        check_config_file(folder)
    except ModelError as error:
        problems.add_error(path, error)
        return False
    return True


def declared_geometry(model: ModelSpec) -> Geometry | None:
    """Return a local model's shape as its configuration states it, None where that does not say or is not here.

    The rotary frequencies are zeros of the right number: only loading the model gives them.
    """
    if model.folder is None:
        return None
    try:
        changed_ns = (model.folder / "config.json").stat().st_mtime_ns
    except OSError:
        return None
    return _geometry_in(model.folder, changed_ns)


@cache
def _geometry_in(folder: Path, changed_ns: int) -> Geometry | None:
    """Read a folder's configuration as transformers reads it; every cell of a plan asks for it."""
    try:
        config = configuration_of(ModelSpec(folder.name, path=str(folder)))
        n_heads = int(config.num_attention_heads)
        head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // n_heads)
        rotary = getattr(config, "rope_parameters", None) or {}
        return Geometry(
            n_layers=int(config.num_hidden_layers),
            n_query_heads=n_heads,
            n_kv_heads=int(getattr(config, "num_key_value_heads", None) or n_heads),
            head_dim=head_dim,
            inv_freq=torch.zeros(int(head_dim * float(rotary.get("partial_rotary_factor") or 1.0)) // 2),
        )
    except (ValueError, TypeError, AttributeError, ArithmeticError):  # a ModelError is a ValueError
        return None


def build_task(data: Any, path: DataPath, folder: Path, problems: Problems) -> TaskSpec | None:
    """Return a task split; its data is not loaded here."""
    if not isinstance(data, dict):
        problems.add(
            path, f"must be a mapping such as {{name: chain-arithmetic, split: dev, problems: 64}}, got {shown(data)}"
        )
        return None
    entry = problems.validated(TaskEntry, data, path)
    if entry is None:
        _check_split(data, path, problems)
        return None
    file = folder / Path(entry.path).expanduser() if entry.path else None
    if file is not None and not file.is_file():
        problems.add((*path, "path"), f"must be a file (relative to the sweep file), got {entry.path!r}")
        _check_split(data, path, problems)
        return None
    grader = None if entry.answer is None else _grader(entry.answer, (*path, "answer"), problems)
    if grader is None and entry.answer is not None:
        return None
    if entry.of is not None and entry.of not in lookup.task_names():
        problems.add((*path, "of"), str(UnknownName("task", entry.of, lookup.task_names())))
        return None
    if entry.of is None and entry.name not in lookup.task_names() and (file is None or grader is None):
        known = UnknownName("task", entry.name, lookup.task_names())
        problems.add((*path, "name"), f"{known}; a task of your own needs path and answer")
        return None
    arguments = _chat_arguments(entry.chat, (*path, "chat"), problems)
    if arguments is None:
        return None
    return _task_spec(entry, None if file is None else str(file), grader, arguments, path, problems)


def _chat_arguments(chat: str | dict[str, Any], path: DataPath, problems: Problems) -> ChatArguments | None:
    """Return what a template is given, or note every problem with it and return None."""
    if isinstance(chat, str):
        return ChatArguments()
    if not chat:
        problems.add(path, 'a mapping has arguments of a chat template, got none: write chat: "on"')
        return None
    try:
        return ChatArguments.of(chat)
    except DeclarationError as error:
        problems.add_error(path, error)
        return None


def _check_split(data: dict[str, Any], path: DataPath, problems: Problems) -> None:
    """Note an unknown split of a known task where another fault keeps the task from being built."""
    name, split = data.get("of", data.get("name")), data.get("split")
    if isinstance(name, str) and isinstance(split, str) and name in lookup.task_names():
        splits = lookup.task(name).splits
        if split not in splits:
            problems.add((*path, "split"), str(UnknownName(f"split of task {name!r}", split, splits)))


def _task_spec(
    entry: TaskEntry,
    file: str | None,
    grader: Grader | None,
    arguments: ChatArguments,
    path: DataPath,
    problems: Problems,
) -> TaskSpec | None:
    try:
        return TaskSpec(
            entry.name,
            entry.split or _default_split(entry),
            entry.problems,
            file,
            answer=grader,
            prompt=entry.prompt,
            system=entry.system,
            chat=entry.chat if isinstance(entry.chat, str) else "on",
            fields=entry.fields.pairs(),
            chat_arguments=arguments,
            prompt_room=entry.prompt_room,
            of=entry.of,
            parameters=tuple(sorted(entry.parameters.items())),
        )
    except UnknownName as error:
        problems.add((*path, "parameters" if str(error).startswith("unknown parameter") else "split"), str(error))
    except DesignspaceError as error:
        problems.add_error(path, error)
    return None


def _default_split(entry: TaskEntry) -> str:
    known = entry.of or entry.name
    if known not in lookup.task_names():
        return "all"
    splits = lookup.task(known).splits
    return "dev" if "dev" in splits else splits[0]


def _grader(data: str | dict[str, Any], path: DataPath, problems: Problems) -> Grader | None:
    """Return the grader that a declaration names: a kind, or a mapping of a kind and its parameters."""
    kind, parameters = (data, {}) if isinstance(data, str) else (data.get("kind"), {**data})
    parameters.pop("kind", None)
    if not isinstance(kind, str):
        problems.add(path, f"must be a kind of grader or a mapping with one under `kind`, got {shown(data)}")
        return None
    try:
        return lookup.make_grader(kind, parameters)
    except UnknownName as error:
        place = (*path, error.name) if error.name in parameters else path
        problems.add(place, str(error), of_key=error.name in parameters)
    except DesignspaceError as error:
        problems.add_error(path, error)
    return None


def build_budget(data: Any, path: DataPath, problems: Problems) -> Budget | None:
    """Return a budget; a plain number is a mean."""
    if isinstance(data, int) and not isinstance(data, bool):
        data = {"tokens": data}
    elif not isinstance(data, dict):
        problems.add(
            path,
            f"must be a whole number of tokens, {{tokens: 64, of: nominal}} or {{prompt: 24, trace: 40}}, got {shown(data)}",
        )
        return None
    entry = problems.validated(BudgetEntry, data, path)
    return None if entry is None else entry.budget()
