"""GPQA Diamond [rein2024gpqa], from the hub or from a local file in its form.

The hub asks for an account that has accepted the terms of the data set: do not publish its problems.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from designspace.tasks.csv_rows import read_csv_rows
from designspace.tasks.generated_splits import seed_of
from designspace.tasks.grading.choice_grader import ChoiceGrader
from designspace.tasks.hash_split import in_split
from designspace.tasks.hub import hub_rows
from designspace.tasks.json_lines import Line, read_json_lines
from designspace.tasks.problem import Problem
from designspace.tasks.problem_rows import problems_of_rows
from designspace.tasks.prompts import FORMATS, letter_of
from designspace.tasks.task import Task, TaskRequest

VERSION: Final = 1  # of the order of options
_REPOSITORY, _FILE = "Idavidrein/gpqa", "gpqa_diamond.csv"
_OPTIONS: Final = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
_FIELDS: Final = {"id": "Record ID", "problem": "Question", "kind": "High-level domain"}


def load(request: TaskRequest) -> list[Problem]:
    """Return the problems of a split; two fifths, by a hash of their ids, are "dev". The kind is the domain.

    The correct answer stands first in a row. Options are put in an order of their own for each problem, drawn from a hash of
    its id, or of its question where it has none: the same on every machine, and whichever other problems there are.
    """
    if request.path is None:
        rows, source = hub_rows(_REPOSITORY, _FILE), f"{_REPOSITORY}/{_FILE}"
    else:
        is_table = Path(request.path).suffix == ".csv"
        rows, source = (read_csv_rows if is_table else read_json_lines)(request.path), request.path
    fields = {**_FIELDS, **request.fields}
    mixed = [Line(line.number, _with_choices(line.data, fields)) for line in rows]
    problems = problems_of_rows(mixed, request.grader, source=source, name="gpqa-diamond", fields=fields)
    return [problem for problem in problems if in_split(problem.problem_id, request.split)]


def _with_choices(row: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """Return a row with its options as a list, and the letter of the correct one; what is missing is refused later."""
    options = [row.get(column) for column in _OPTIONS]
    order = list(range(len(options)))
    random.Random(seed_of(f"gpqa:{VERSION}:{row.get(fields['id']) or row.get(fields['problem'])}")).shuffle(order)
    return {**row, "choices": [options[index] for index in order], "answer": letter_of(order.index(0))}


TASK = Task(
    name="gpqa-diamond",
    splits=("all", "dev", "confirm"),
    load=load,
    grader=ChoiceGrader(),
    template=FORMATS[ChoiceGrader.prompt],
    takes_path=True,
    summary="198 questions of experts in biology, physics and chemistry with four options each; the hub asks for an account",
)
