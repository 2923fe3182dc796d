"""The task `trace-recall`: problems that are generated, for the pocket models of the same language."""

from __future__ import annotations

from designspace.tasks.generated_splits import SPLIT_BUCKETS
from designspace.tasks.grading.math_grader import MathGrader
from designspace.tasks.problem import Problem
from designspace.tasks.task import Task, TaskRequest
from designspace.tasks.trace_recall import trace_recall


def load(request: TaskRequest) -> list[Problem]:
    """Return the first problems of a split."""
    generated = trace_recall(request.split, request.n_problems or 0)
    return [Problem(p.problem_id, p.prompt, p.answer, p.kind, p.solution) for p in generated]


TASK = Task(
    name="trace-recall",
    splits=tuple(SPLIT_BUCKETS),
    load=load,
    grader=MathGrader(),
    template="",
    summary="facts that arise once in the trace and are asked for long after, among distractors; generated",
)
