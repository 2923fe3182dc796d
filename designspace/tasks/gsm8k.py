"""GSM8K, from the hub or from a local JSON Lines file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from designspace.tasks.grading.math_grader import MathGrader
from designspace.tasks.hash_split import in_split
from designspace.tasks.hub import hub_rows
from designspace.tasks.json_lines import Line, read_json_lines
from designspace.tasks.problem import Problem
from designspace.tasks.problem_rows import COLUMNS, problems_of_rows
from designspace.tasks.prompts import BOXED_INSTRUCTION, BOXED_INSTRUCTION_HASH
from designspace.tasks.task import Task, TaskRequest

_REPOSITORY, _FILE = "openai/gsm8k", "main/test-00000-of-00001.parquet"


def load(request: TaskRequest) -> list[Problem]:
    """Return the problems of the test set, or of its part "dev" or "confirm"."""
    split = "all" if request.split == "test" else request.split
    return [problem for problem in _test_set(request) if in_split(problem.problem_id, split)]


def _test_set(request: TaskRequest) -> list[Problem]:
    if request.path is not None:
        lines, source = read_json_lines(request.path), request.path
    else:
        lines, source = hub_rows(_REPOSITORY, _FILE), f"{_REPOSITORY}/{_FILE}"
    rows = [Line(line.number, _with_id(line.data, index)) for index, line in enumerate(lines)]
    return problems_of_rows(rows, request.grader, source=source, name="gsm8k-test", fields=request.fields)


def _with_id(row: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Number a problem as it stands in the set, where its source has no ids: the authors' file and the hub's have none."""
    has_id = any(column in row for column in COLUMNS["id"])
    return {**row} if has_id else {"id": f"gsm8k-test-{index:04d}", **row}


TASK = Task(
    name="gsm8k",
    splits=("test", "dev", "confirm"),
    load=load,
    grader=MathGrader(),
    template=BOXED_INSTRUCTION,
    template_hash=BOXED_INSTRUCTION_HASH,
    takes_path=True,
    summary="1,319 word problems of primary school, answers are numbers",
)
