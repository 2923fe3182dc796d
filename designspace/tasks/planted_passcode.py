"""The task `planted-passcode`: a passcode that stands early in a reasoning trace is to be given again at its end.

The passcode is in the trace and not in the prompt, so that no protection of the prompt keeps it: what a cache dropped while
decoding cannot be given. The trace is fed by teacher forcing (`of: solution`), and the tokens of the last passcode are scored.
All of them are the arm's first choice if, and only if, the arm would have written the passcode greedily after this trace.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from designspace.tasks.generated_splits import SPLIT_BUCKETS, bucket_of, problems_of, seed_of
from designspace.tasks.grading.contains_grader import ContainsGrader
from designspace.tasks.parameters import Value, WholeNumber
from designspace.tasks.problem import Problem
from designspace.tasks.task import Task, TaskRequest

NAME: Final = "planted-passcode"
VERSION: Final = 1
_PROMPT: Final = (
    "Add pairs of numbers, one pair on each line, {lines} lines in all. After line {before}, make up a passcode of {digits} "
    "digits and write it down. When all lines are done, give the passcode again."
)
_PLANTED: Final = "I write down the passcode now: the passcode is {passcode}."
_ASKED: Final = "All lines are done. As I wrote down before, the passcode is {passcode}"


def load(request: TaskRequest) -> list[Problem]:
    """Return the first problems of a split; their solutions are the traces."""

    def problem(split: str, index: int) -> Problem:
        return passcode_problem(split, index, request.parameters)

    return problems_of(NAME, problem, request.split, request.n_problems or 0, 0)


def passcode_problem(split: str, index: int, parameters: Mapping[str, Value]) -> Problem:
    """Return one problem, with a passcode that no other split has."""
    lines, before, digits = (int(parameters[name]) for name in ("lines", "before", "digits"))
    rng = random.Random(seed_of(f"{NAME}:{VERSION}:{split}:{index}"))
    passcode = _draw(rng, digits)
    while bucket_of(passcode) not in SPLIT_BUCKETS[split]:
        passcode = _draw(rng, digits)
    trace = [_sum(line, rng) for line in range(1, lines + 1)]
    trace.insert(before, _PLANTED.format(passcode=passcode))
    trace.append(_ASKED.format(passcode=passcode))
    prompt = _PROMPT.format(lines=lines, before=before, digits=digits)
    return Problem(f"{NAME}-{split}-{index:05d}", prompt, passcode, "", "\n".join(trace))


def passcode_conflict(parameters: Mapping[str, Value]) -> str | None:
    """Return why values of the parameters do not go together."""
    lines, before = int(parameters["lines"]), int(parameters["before"])
    return None if before < lines else f"the passcode stands before the last line: before={before}, lines={lines}"


def _draw(rng: random.Random, digits: int) -> str:
    return str(rng.randint(10 ** (digits - 1), 10**digits - 1))


def _sum(line: int, rng: random.Random) -> str:
    a, b = rng.randint(10, 49), rng.randint(10, 49)
    return f"Line {line}: {a} + {b} = {a + b}."


TASK = Task(
    name=NAME,
    splits=tuple(SPLIT_BUCKETS),
    load=load,
    grader=ContainsGrader(),
    template="",
    parameters={
        "lines": WholeNumber(40, 2, 20_000),
        "before": WholeNumber(2, 1, 20_000),
        "digits": WholeNumber(6, 4, 12),
    },
    conflict=passcode_conflict,
    most_problems=10_000,
    is_fed=True,
    summary="a passcode early in a trace that is fed, asked for at its end; for teacher forcing of solutions",
)
