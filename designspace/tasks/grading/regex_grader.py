"""The grader of answers that a regular expression of one's own finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import regex

from designspace.errors import DeclarationError
from designspace.tasks.grading.equality import parse_number
from designspace.tasks.grading.extraction import after_thinking
from designspace.tasks.grading.grader import Grade, Grader, GradeStatus, Reading
from designspace.tasks.grading.normalise import normalise
from designspace.tasks.grading.stated_answer import plain_words

_DEADLINE_S = 1.0  # of one search: a careless pattern may need for ever on a long text


@dataclass(frozen=True)
class RegexGrader(Grader):
    """Take the last match of a pattern for the answer: its first group, or the whole match where it has none.

    Numbers are compared exactly, everything else as words in one spelling. Strict: the pattern as it is. Lenient: whatever
    the case of letters.

    Attributes:
        pattern: in the syntax of the `regex` package, which includes that of `re`.
    """

    kind: ClassVar[str] = "regex"

    pattern: str

    def __post_init__(self) -> None:
        """Check the pattern.

        Raises:
            DeclarationError: it is no regular expression.
        """
        if not isinstance(self.pattern, str) or not self.pattern:
            raise DeclarationError(f"pattern must be a regular expression, got {self.pattern!r}")
        try:
            regex.compile(self.pattern)
        except regex.error as error:
            raise DeclarationError(f"pattern must be a regular expression, got {self.pattern!r}: {error}") from error

    def gold_error(self, gold: str) -> str | None:
        """Return why a gold says nothing."""
        return None if plain_words(gold) else f"the gold answer must not be empty, got {gold!r}"

    def grade(self, text: str, gold: str) -> Grade:
        """Return both readings of a text."""
        return Grade.of(self._read(text, gold, 0), self._read(text, gold, regex.IGNORECASE))

    def vote(self, text: str) -> str | None:
        """Return the strict reading's answer, as an exact number where it is one."""
        try:
            answer = self._found(text, 0)
        except TimeoutError:
            return None
        return None if answer is None else _spelt(answer) or None

    def _read(self, text: str, gold: str, flags: int) -> Reading:
        try:
            answer = self._found(text, flags)
        except TimeoutError:
            return Reading(GradeStatus.GRADER_TIMEOUT)
        if not answer:
            return Reading(GradeStatus.NO_ANSWER)
        return Reading(GradeStatus.CORRECT if _spelt(answer) == _spelt(gold) else GradeStatus.INCORRECT, answer)

    def _found(self, text: str, flags: int) -> str | None:
        matches = list(regex.finditer(self.pattern, after_thinking(text), flags=flags, timeout=_DEADLINE_S))
        if not matches:
            return None
        last = matches[-1]
        found: str | None = last[1] if last.re.groups else last[0]
        return None if found is None else found.strip()


def _spelt(answer: str) -> str:
    number = parse_number(normalise(answer))
    return plain_words(answer) if number is None or number.is_percent else str(number.value)
