"""The task `last-binding`: chains of the pocket models, graded by the binding that the answer names, such as `a7`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from designspace.tasks import Problem, Task, TaskRequest
from designspace.tasks.chain_arithmetic import chain_arithmetic
from designspace.tasks.grading import Grade, Grader, GradeStatus, Reading

_BINDING = re.compile(r"answer ([a-dr])([0-9])\b")


@dataclass(frozen=True)
class BindingGrader(Grader):
    """Compare the digit of the last binding after the word `answer`."""

    kind: ClassVar[str] = "last-binding"

    def gold_error(self, gold: str) -> str | None:
        """Refuse what is no digit."""
        return None if re.fullmatch("[0-9]", gold) else f"the gold answer must be one digit, got {gold!r}"

    def grade(self, text: str, gold: str) -> Grade:
        """Read both ways alike."""
        digit = self.vote(text)
        if digit is None:
            reading = Reading(GradeStatus.NO_ANSWER)
        else:
            reading = Reading(GradeStatus.CORRECT if digit == gold else GradeStatus.INCORRECT, digit)
        return Grade.of(reading, reading)

    def vote(self, text: str) -> str | None:
        """Return the digit."""
        found = _BINDING.findall(text)
        return found[-1][1] if found else None


def load(request: TaskRequest) -> list[Problem]:
    """Return the first problems of a split."""
    made = chain_arithmetic(request.split, request.n_problems or 0)
    return [Problem(f"last-{p.problem_id}", p.prompt, p.answer, p.kind) for p in made]


TASK = Task(name="last-binding", splits=("dev", "confirm"), load=load, grader=BindingGrader(), template="")
