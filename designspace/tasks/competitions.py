"""Competition problems whose answers are whole numbers: AIME 2024 and 2025, AMC 2023; from the hub or from a local file."""

from __future__ import annotations

from functools import partial

from designspace.tasks.grading.integer_grader import IntegerGrader
from designspace.tasks.hash_split import in_split
from designspace.tasks.hub import hub_rows
from designspace.tasks.problem import Problem
from designspace.tasks.problem_rows import problems_of_file, problems_of_rows
from designspace.tasks.prompts import FORMATS
from designspace.tasks.task import Task, TaskRequest


def _load(name: str, repository: str, filename: str, request: TaskRequest) -> list[Problem]:
    """Return the problems of a split; two fifths, by a hash of their ids, are "dev"."""
    if request.path is not None:
        problems = problems_of_file(request.path, request.grader, name=name, fields=request.fields)
    else:
        rows, source = hub_rows(repository, filename), f"{repository}/{filename}"
        problems = problems_of_rows(rows, request.grader, source=source, name=name, fields=request.fields)
    return [problem for problem in problems if in_split(problem.problem_id, request.split)]


def _task(name: str, repository: str, filename: str, summary: str) -> Task:
    return Task(
        name=name,
        splits=("all", "dev", "confirm"),
        load=partial(_load, name, repository, filename),
        grader=IntegerGrader(),
        template=FORMATS[IntegerGrader.prompt],
        takes_path=True,
        summary=summary,
    )


AIME24 = _task(
    "aime24",
    "HuggingFaceH4/aime_2024",
    "data/train-00000-of-00001.parquet",
    "30 problems of AIME 2024, answers from 0 to 999",
)
AIME25 = _task("aime25", "math-ai/aime25", "test.jsonl", "30 problems of AIME 2025, answers from 0 to 999")
AMC23 = _task(
    "amc23", "math-ai/amc23", "test-00000-of-00001.parquet", "40 problems of AMC 12 of 2023, answers made whole numbers"
)
