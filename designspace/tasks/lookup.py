"""Tasks and graders by name, those of other packages included."""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import cache
from typing import Any

from designspace import plugins
from designspace.errors import DeclarationError, DesignspaceError, UnknownName
from designspace.tasks.grading.grader import Grader
from designspace.tasks.task import Task

TASK_GROUP = "designspace.tasks"
GRADER_GROUP = "designspace.graders"


def task_names() -> list[str]:
    """Return the names of all tasks, sorted."""
    return list(plugins.points(TASK_GROUP))


@cache
def task(name: str) -> Task:
    """Return a task by name.

    Raises:
        UnknownName: no such task.
        DesignspaceError: what is registered cannot be loaded, or is no task of that name.
    """
    if name not in task_names():
        raise UnknownName("task", name, task_names())
    point = plugins.points(TASK_GROUP)[name]
    found = plugins.load(point)
    if not isinstance(found, Task) or found.name != name:
        raise DesignspaceError(f"{point.value} is registered as task {name!r}, got {found!r:.80}")
    return found


def grader_kinds() -> list[str]:
    """Return the kinds of all graders, sorted."""
    return list(plugins.points(GRADER_GROUP))


@cache
def grader_class(kind: str) -> type[Grader]:
    """Return a class of graders by its kind.

    Raises:
        UnknownName: no such kind.
        DesignspaceError: what is registered cannot be loaded, or is no grader of that kind.
    """
    if kind not in grader_kinds():
        raise UnknownName("grader", kind, grader_kinds())
    point = plugins.points(GRADER_GROUP)[kind]
    found = plugins.load(point)
    if not (isinstance(found, type) and issubclass(found, Grader)) or found.kind != kind:
        raise DesignspaceError(f"{point.value} is registered as grader {kind!r}, got {found!r:.80}")
    return found


def make_grader(kind: str, parameters: dict[str, Any]) -> Grader:
    """Return a grader with parameters.

    Raises:
        UnknownName: no such kind, or no such parameter of it.
        DeclarationError: a parameter is missing, or breaks a rule.
    """
    made = grader_class(kind)
    known = [field.name for field in fields(made) if field.init]
    for name in parameters:
        if name not in known:
            raise UnknownName(f"parameter of grader {kind!r}", name, known)
    needed = [f.name for f in fields(made) if f.init and f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in parameters]
    if missing:
        raise DeclarationError(f"grader {kind!r} needs {', '.join(missing)}")
    return made(**parameters)


def forget() -> None:
    """Look for tasks and graders again when they are next asked for: a package may have been installed since."""
    plugins.forget()
    task.cache_clear()
    grader_class.cache_clear()
