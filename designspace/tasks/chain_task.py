"""The task `chain-arithmetic`: problems that are generated, for the pocket models."""

from __future__ import annotations

from designspace.tasks.chain_arithmetic import chain_arithmetic
from designspace.tasks.generated_splits import SPLIT_BUCKETS
from designspace.tasks.grading.math_grader import MathGrader
from designspace.tasks.problem import Problem
from designspace.tasks.task import Task, TaskRequest


def load(request: TaskRequest) -> list[Problem]:
    """Return the first problems of a split."""
    generated = chain_arithmetic(request.split, request.n_problems or 0)
    return [Problem(p.problem_id, p.prompt, p.answer, p.kind, p.solution) for p in generated]


TASK = Task(
    name="chain-arithmetic",
    splits=tuple(SPLIT_BUCKETS),
    load=load,
    grader=MathGrader(),
    template="",
    summary="labelled rules over variables that a long chain of steps keeps consulting; generated",
)
