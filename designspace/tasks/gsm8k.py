"""GSM8K, from the hub or from a local JSON Lines file."""

from __future__ import annotations

from designspace.tasks.grading.math_grader import MathGrader
from designspace.tasks.hub import hub_rows
from designspace.tasks.json_lines import Line
from designspace.tasks.problem import Problem
from designspace.tasks.problem_rows import problems_of_file, problems_of_rows
from designspace.tasks.prompts import BOXED_INSTRUCTION, BOXED_INSTRUCTION_HASH
from designspace.tasks.task import Task, TaskRequest

_REPOSITORY, _FILE = "openai/gsm8k", "main/test-00000-of-00001.parquet"


def load(request: TaskRequest) -> list[Problem]:
    """Return the 1,319 problems of the test set."""
    if request.path is not None:
        return problems_of_file(request.path, request.grader, name="gsm8k-test", fields=request.fields)
    rows = [
        Line(line.number, {"id": f"gsm8k-{request.split}-{index}", **line.data})
        for index, line in enumerate(hub_rows(_REPOSITORY, _FILE))
    ]
    return problems_of_rows(
        rows, request.grader, source=f"{_REPOSITORY}/{_FILE}", name="gsm8k-test", fields=request.fields
    )


TASK = Task(
    name="gsm8k",
    splits=("test",),
    load=load,
    grader=MathGrader(),
    template=BOXED_INSTRUCTION,
    template_hash=BOXED_INSTRUCTION_HASH,
    takes_path=True,
    summary="1,319 word problems of primary school, answers are numbers",
)
