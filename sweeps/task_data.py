"""What is here of a task: its problems, or the reason why they are not."""

from __future__ import annotations

from dataclasses import dataclass

from designspace.errors import DataMissing
from designspace.tasks.problem import Problem
from designspace.tasks.task_spec import TaskSpec


@dataclass(frozen=True)
class TaskData:
    """What is here of a task: its problems, or the reason why they are not."""

    problems: tuple[Problem, ...] | None
    missing_because: str = ""


def task_data(task: TaskSpec) -> TaskData:
    """Return a task's problems if they can be had here.

    Raises:
        DesignspaceError: the data is here and breaks a rule.
    """
    try:
        return TaskData(tuple(task.load()))
    except DataMissing as error:
        return TaskData(None, str(error))
