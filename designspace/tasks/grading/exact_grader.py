"""The grader of answers in words: equal after case, spaces and marks at the ends are put aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from designspace.errors import DeclarationError
from designspace.tasks.grading.grader import Grade, Grader, GradeStatus, Reading
from designspace.tasks.grading.stated_answer import Stated, last_line, plain_words, stated_answer


@dataclass(frozen=True)
class ExactGrader(Grader):
    r"""Compare words in one spelling: compatibility characters, case, spaces and marks at the ends do not count.

    Strict: the last balanced ``\boxed{...}``, else the rest of the line after the last final-answer marker, else a text of
    one line. Lenient: that, else the last line.

    Attributes:
        case: whether upper and lower case differ.
    """

    kind: ClassVar[str] = "exact"
    prompt: ClassVar[str] = "answer-colon"

    case: bool = False

    def __post_init__(self) -> None:
        """Check the parameter.

        Raises:
            DeclarationError: neither true nor false.
        """
        if not isinstance(self.case, bool):
            raise DeclarationError(f"case must be true or false, got {self.case!r}")

    def gold_error(self, gold: str) -> str | None:
        """Return why a gold says nothing."""
        return None if self._spelt(gold) else f"the gold answer must not be empty, got {gold!r}"

    def grade(self, text: str, gold: str) -> Grade:
        """Return both readings of a text."""
        strict = self._read(self._strict(text), gold)
        if strict.status is not GradeStatus.NO_ANSWER:
            return Grade.of(strict, strict)
        return Grade.of(strict, self._read(Stated(last_line(text)), gold))

    def vote(self, text: str) -> str | None:
        """Return the strict reading's words."""
        answer = self._strict(text).answer
        return None if answer is None else self._spelt(answer) or None

    def _strict(self, text: str) -> Stated:
        stated = stated_answer(text)
        if stated.answer is None and not stated.unfinished and "\n" not in text.strip():
            return Stated(last_line(text))
        return stated

    def _read(self, stated: Stated, gold: str) -> Reading:
        if stated.unfinished:
            return Reading(GradeStatus.UNFINISHED)
        if not stated.answer:
            return Reading(GradeStatus.NO_ANSWER)
        right = self._spelt(stated.answer) == self._spelt(gold)
        return Reading(GradeStatus.CORRECT if right else GradeStatus.INCORRECT, stated.answer)

    def _spelt(self, text: str) -> str:
        return plain_words(text, case=self.case)
