"""MATH-500, from the hub or from a local JSON Lines file."""

from __future__ import annotations

from designspace.tasks.grading.math_grader import MathGrader
from designspace.tasks.hash_split import in_split
from designspace.tasks.hub import hub_rows
from designspace.tasks.problem import Problem
from designspace.tasks.problem_rows import problems_of_file, problems_of_rows
from designspace.tasks.prompts import BOXED_INSTRUCTION, BOXED_INSTRUCTION_HASH
from designspace.tasks.task import Task, TaskRequest

_REPOSITORY, _FILE = "HuggingFaceH4/MATH-500", "test.jsonl"
_FIELDS = {"id": "unique_id", "kind": "subject"}


def load(request: TaskRequest) -> list[Problem]:
    """Return the problems of "dev" or "confirm" (the split of [sun2026minimal]), or all; `kind` is the subject."""
    fields = {**_FIELDS, **request.fields}
    if request.path is not None:
        problems = problems_of_file(request.path, request.grader, name="math500", fields=fields)
    else:
        rows = hub_rows(_REPOSITORY, _FILE)
        problems = problems_of_rows(
            rows, request.grader, source=f"{_REPOSITORY}/{_FILE}", name="math500", fields=fields
        )
    return [problem for problem in problems if in_split(problem.problem_id, request.split)]


TASK = Task(
    name="math500",
    splits=("dev", "confirm", "all"),
    load=load,
    grader=MathGrader(),
    template=BOXED_INSTRUCTION,
    template_hash=BOXED_INSTRUCTION_HASH,
    takes_path=True,
    summary="500 competition problems of seven subjects, answers in LaTeX",
)
