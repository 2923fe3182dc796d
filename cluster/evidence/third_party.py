"""The source of what a study uses of other packages: strategies, tasks and graders that they register."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from designspace import plugins
from designspace.axes import AXES, Mechanism
from designspace.environment import PACKAGES
from designspace.errors import ProtocolError
from designspace.tasks.lookup import GRADER_GROUP, TASK_GROUP, grader_class
from sweeps.space import probes
from sweeps.study import Study

_OWN = ("designspace", "families", "sweeps", "cluster")  # what `code_id` is about
_SOURCES = (".py", ".pyx", ".c", ".cc", ".cpp", ".cu", ".h", ".hpp", ".so", ".pyd")


def third_party_code(study: Study, data: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of each source file of the packages outside of this one that a study's parts are defined in.

    The whole top-level package counts, not the one module: what a strategy computes may be written in the file beside it.

    Args:
        study: with the strategies of all values that tuning may choose.
        data: `study.data_records()`, which names tasks and graders.

    Raises:
        ProtocolError: a part has no source file, such as one that was typed into an interpreter.
    """
    packages = {package for part in _parts(study, data) for package in _foreign(part)}
    return {package: _files(package) for package in sorted(packages)}


def _parts(study: Study, data: dict[str, Any]) -> Iterator[str]:
    """Yield the module of every class and function that the study uses, base classes included."""
    mechanisms = [*study.sweep.mechanisms]
    for _, values in probes(study.space):
        mechanisms += study.sweep_for(values).mechanisms
    for mechanism in dict.fromkeys(mechanisms):
        yield from _modules_of_strategies(mechanism)
    for task in (*data["dev"], *data["heldout"]):
        registered = plugins.points(TASK_GROUP).get(task["name"])
        if registered is not None:
            loaded = plugins.load(registered)
            yield from (registered.module, *_modules_of(getattr(loaded.load, "func", loaded.load)))
        if task["grader"]["kind"] in plugins.points(GRADER_GROUP):
            yield from _modules_of(grader_class(task["grader"]["kind"]))


def _modules_of_strategies(mechanism: Mechanism) -> Iterator[str]:
    waiting = [getattr(mechanism, axis) for axis in AXES]
    while waiting:
        strategy = waiting.pop()
        if is_dataclass(strategy):  # None where an axis is left to the settings, and plain values
            yield from _modules_of(type(strategy))
            waiting += [getattr(strategy, field.name) for field in fields(strategy)]


def _modules_of(found: Any) -> Iterator[str]:
    yield from (str(part.__module__) for part in (found.__mro__ if isinstance(found, type) else (found,)))


def _foreign(module: str) -> Iterator[str]:
    """Yield the top-level package of a module, unless it is one of this project, of Python, or registered by its version."""
    package = module.partition(".")[0]
    registered = {name.replace("-", "_") for name in PACKAGES}
    if package not in (*_OWN, *sys.stdlib_module_names) and package not in registered:
        yield package


def _files(package: str) -> dict[str, str]:
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in _named_files(package)}


def _named_files(package: str) -> Iterable[tuple[str, Path]]:
    try:
        spec = find_spec(package)
    except ValueError:  # `__main__` has none
        spec = None
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = [
        (file.relative_to(folder).as_posix(), file)
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.suffix in _SOURCES and file.is_file()
    ]
    if spec is not None and not folders and spec.origin is not None and Path(spec.origin).is_file():
        found = [(Path(spec.origin).name, Path(spec.origin))]
    if not found:
        raise ProtocolError(f"what is registered must have source files, got none for {package!r}")
    return found
