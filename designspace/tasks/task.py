"""Tasks by name: where their problems come from, their splits, and the prompt template."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from designspace.errors import DeclarationError, UnknownName
from designspace.tasks import math_tasks
from designspace.tasks.chain_arithmetic import chain_arithmetic
from designspace.tasks.problem import Problem, content_hash


class TaskKind(NamedTuple):
    """What a task name stands for."""

    splits: tuple[str, ...]
    load: Callable[[TaskSpec], list[Problem]]
    template: str
    takes_path: bool


@dataclass(frozen=True)
class TaskSpec:
    """A task split: `problems` limits it to the first n, `path` reads a local JSONL file instead of the hub."""

    name: str
    split: str = "dev"
    problems: int | None = None
    path: str | None = None

    def __post_init__(self) -> None:
        """Check name, split and the number of problems.

        Raises:
            UnknownName: no such task, or no such split of it.
            DeclarationError: a number of problems below 1, or a path for a generated task.
        """
        kind = task_kind(self.name)
        if self.split not in kind.splits:
            raise UnknownName(f"split of task {self.name!r}", self.split, kind.splits)
        if self.problems is not None and self.problems < 1:
            raise DeclarationError(f"problems must be at least 1, got problems={self.problems}")
        if self.path is not None and not kind.takes_path:
            raise DeclarationError(
                f"task {self.name!r} generates its problems and takes no path, got path={self.path!r}"
            )
        if self.problems is None and not kind.takes_path:
            raise DeclarationError(f"task {self.name!r} generates its problems: say how many, e.g. problems: 64")

    def load(self) -> list[Problem]:
        """Return the problems in order.

        Raises:
            DesignspaceError: the data cannot be had or read, or holds fewer problems than asked for.
        """
        return list(_load(self))

    def content_hash(self) -> str:
        """Return the SHA-256 over the loaded problems."""
        return _content_hash(self)

    @property
    def template_hash(self) -> str:
        """SHA-256 of the prompt template."""
        return hashlib.sha256(task_kind(self.name).template.encode()).hexdigest()


@cache
def _load(spec: TaskSpec) -> tuple[Problem, ...]:
    problems = task_kind(spec.name).load(spec)
    if spec.problems is not None:
        if len(problems) < spec.problems:
            raise DeclarationError(
                f"task {spec.name!r} split {spec.split!r} has {len(problems)} problems, got problems={spec.problems}"
            )
        problems = problems[: spec.problems]
    return tuple(problems)


@cache
def _content_hash(spec: TaskSpec) -> str:
    return content_hash(_load(spec))


def forget_problems() -> None:
    """Read every task's file again when it is next asked for: it may have changed under this process."""
    _load.cache_clear()
    _content_hash.cache_clear()


def _load_chain(spec: TaskSpec) -> list[Problem]:
    generated = chain_arithmetic(spec.split, spec.problems or 0)
    return [Problem(p.problem_id, p.prompt, p.answer, p.kind) for p in generated]


_KINDS = {
    "chain-arithmetic": TaskKind(("train", "dev", "confirm", "calibration"), _load_chain, "", takes_path=False),
    "math500": TaskKind(
        ("dev", "confirm", "all"),
        lambda spec: math_tasks.load_math500(spec.split, spec.path),
        math_tasks.TEMPLATE,
        takes_path=True,
    ),
    "gsm8k": TaskKind(
        ("test",), lambda spec: math_tasks.load_gsm8k(spec.split, spec.path), math_tasks.TEMPLATE, takes_path=True
    ),
}


def task_names() -> list[str]:
    """Return the names of all tasks."""
    return sorted(_KINDS)


def task_kind(name: str) -> TaskKind:
    """Return what a task name stands for.

    Raises:
        UnknownName: no such task.
    """
    if name not in _KINDS:
        raise UnknownName("task", name, _KINDS)
    return _KINDS[name]
