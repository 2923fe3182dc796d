"""The grader of mathematical answers: numbers, formulas, sets, intervals; math-verify in a sandbox where need be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, ClassVar

from designspace.tasks.grading.equality import compare, parse_number
from designspace.tasks.grading.extraction import Extraction, boxes_only, extract_lenient, extract_strict
from designspace.tasks.grading.grader import Grade, Grader, GradeStatus, Reading
from designspace.tasks.grading.normalise import comparison_key, normalise
from designspace.tasks.grading.sandbox import DEADLINE_S, Sandbox

N_GOLD_CHARS = 200  # a longer gold without a box is a solution text, to be read like one
_LIBRARIES = ("math-verify", "latex2sympy2-extended", "sympy")
_STATUS_OF = {
    "equal": GradeStatus.CORRECT,
    "unequal": GradeStatus.INCORRECT,
    "timeout": GradeStatus.GRADER_TIMEOUT,
    "error": GradeStatus.GRADER_ERROR,
}


@dataclass(frozen=True)
class MathGrader(Grader):
    r"""Compare final answers as mathematics, in two readings of every text.

    Strict: the last balanced ``\boxed{...}`` and nothing else. Lenient: that box, else a final-answer marker, else the last
    number or formula. Equality is decided by strings and exact numbers first, then by math-verify in a killable,
    memory-limited child process, which starts at first need (integers never need it).

    Attributes:
        deadline_s: wall-clock limit of one comparison in the child process, in seconds.

    >>> with MathGrader() as grader:
    ...     str(grader.grade(r"It is \boxed{033}.", "33").strict_status)
    'correct'
    """

    kind: ClassVar[str] = "math"
    version: ClassVar[int] = 2
    prompt: ClassVar[str] = "boxed-suffix"

    deadline_s: float = DEADLINE_S

    @cached_property
    def sandbox(self) -> Sandbox:
        """Where math-verify compares; it starts no process before the first comparison."""
        return Sandbox(self.deadline_s)

    def __reduce__(self) -> tuple[type[MathGrader], tuple[float]]:
        """Pickle the parameters alone: the child process stays here."""
        return type(self), (self.deadline_s,)

    def identity(self) -> dict[str, Any]:
        """Return kind, version, parameters, and the versions of the libraries that compare."""
        return {**super().identity(), **{name: version(name) for name in _LIBRARIES}}

    def gold_error(self, gold: str) -> str | None:
        """Return why a gold holds no answer: it is empty, its box does not end, or its braces are not balanced."""
        answer = read_gold(gold)
        if answer is not None and compare(answer, answer, self.sandbox).outcome == "equal":
            return None
        return f"the gold answer cannot be read as mathematics: {gold!r}"

    def grade(self, text: str, gold: str) -> Grade:
        """Grade a text against a gold: bare, delimited, boxed, or a solution text that holds the answer."""
        gold_answer = read_gold(gold)
        strict, lenient = extract_strict(text), extract_lenient(text)
        strict_status = self._status(strict, gold_answer)
        # The same answer gets the same verdict without a second comparison (or a second timeout).
        lenient_status = strict_status if lenient == strict else self._status(lenient, gold_answer)
        return Grade.of(Reading(strict_status, strict.answer), Reading(lenient_status, lenient.answer))

    def vote(self, text: str) -> str | None:
        """Return the strict reading's answer, as an exact number where it is one.

        Answers that only algebra shows to be equal count as different.
        """
        answer = extract_strict(text).answer
        if not answer:
            return None
        normalised = normalise(answer)
        number = parse_number(normalised)
        if number is not None and not number.is_percent:
            return str(number.value)
        return comparison_key(normalised) or None

    def close(self) -> None:
        """End the child process, if one was started."""
        self.sandbox.close()

    def _status(self, extraction: Extraction, gold_answer: str | None) -> GradeStatus:
        if gold_answer is None:
            return GradeStatus.GOLD_ERROR
        if extraction.status == "unfinished":
            return GradeStatus.UNFINISHED
        if not extraction.answer:
            return GradeStatus.NO_ANSWER
        return _STATUS_OF[compare(gold_answer, extraction.answer, self.sandbox).outcome]


def read_gold(gold: str) -> str | None:
    """Return the answer a gold holds, None when it holds none (empty, unterminated box, unbalanced braces)."""
    boxed = extract_strict(gold)
    if boxed.status == "unfinished":
        return None
    if boxed.status == "boxed":
        # In a prediction the last box counts; a gold that is nothing but a row of boxes means all of them.
        answer = ", ".join(boxes_only(gold)) or boxed.answer
    else:
        reading = extract_lenient(gold)
        is_solution = reading.status == "marker" or len(gold.strip()) > N_GOLD_CHARS
        answer = reading.answer if is_solution else gold.strip()
    if not answer or not normalise(answer) or not _is_balanced(answer):
        return None
    return answer


def _is_balanced(answer: str) -> bool:
    depth = 0
    for brace in re.findall(r"\\.|[{}]", answer):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return False
    return depth == 0
