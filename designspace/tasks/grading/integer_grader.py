"""The grader of whole-number answers: GSM8K, AIME and the like. Exact, and without any child process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from designspace.tasks.grading.equality import parse_number
from designspace.tasks.grading.extraction import Extraction, extract_lenient, extract_strict
from designspace.tasks.grading.grader import Grade, Grader, GradeStatus, Reading
from designspace.tasks.grading.math_grader import read_gold
from designspace.tasks.grading.normalise import normalise


@dataclass(frozen=True)
class IntegerGrader(Grader):
    r"""Compare whole numbers exactly; `033`, `33.0`, `\$33` and `33 apples` are 33.

    Strict: the last balanced ``\boxed{...}``. Lenient: that box, else a final-answer marker, else the last number.
    """

    kind: ClassVar[str] = "integer"
    prompt: ClassVar[str] = "boxed-suffix"

    def gold_error(self, gold: str) -> str | None:
        """Return why a gold is no whole number."""
        return None if _gold_value(gold) is not None else f"the gold answer must be a whole number, got {gold!r}"

    def grade(self, text: str, gold: str) -> Grade:
        """Return both readings of a text."""
        value = _gold_value(gold)
        return Grade.of(_read(extract_strict(text), value), _read(extract_lenient(text), value))

    def vote(self, text: str) -> str | None:
        """Return the strict reading's number, or its words where it is none."""
        answer = extract_strict(text).answer
        if not answer:
            return None
        value = _value(answer)
        return normalise(answer) or None if value is None else str(value)


def _read(found: Extraction, gold: int | None) -> Reading:
    if gold is None:
        return Reading(GradeStatus.GOLD_ERROR, found.answer)
    if found.status == "unfinished":
        return Reading(GradeStatus.UNFINISHED)
    if not found.answer:
        return Reading(GradeStatus.NO_ANSWER)
    return Reading(GradeStatus.CORRECT if _value(found.answer) == gold else GradeStatus.INCORRECT, found.answer)


def _gold_value(gold: str) -> int | None:
    answer = read_gold(gold)
    return None if answer is None else _value(answer)


def _value(answer: str) -> int | None:
    number = parse_number(normalise(answer))
    if number is None or number.is_percent or number.value.denominator != 1:
        return None
    return int(number.value)
