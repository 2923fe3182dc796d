"""A task of one's own that is nothing but a file: `tasks: [{name: mine, path: file.jsonl, answer: integer}]`."""

from __future__ import annotations

from functools import partial

from designspace.tasks.grading.grader import Grader
from designspace.tasks.hash_split import in_split
from designspace.tasks.problem import Problem
from designspace.tasks.problem_rows import problems_of_file
from designspace.tasks.prompts import FORMATS
from designspace.tasks.task import Task, TaskRequest

SPLITS = ("all", "dev", "confirm")


def file_task(name: str, grader: Grader) -> Task:
    """Return the task that a file and a grader make. Two fifths of the problems, by a hash of their ids, are "dev"."""
    return Task(
        name=name,
        splits=SPLITS,
        load=partial(_load, name),
        grader=grader,
        template=FORMATS[grader.prompt],
        takes_path=True,
    )


def _load(name: str, request: TaskRequest) -> list[Problem]:
    if request.path is None:
        return []  # a declaration without a file is refused before this
    problems = problems_of_file(request.path, request.grader, name=name, fields=request.fields)
    return [problem for problem in problems if in_split(problem.problem_id, request.split)]
