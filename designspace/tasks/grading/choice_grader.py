"""The grader of multiple-choice answers: a letter, or the words of the option."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from designspace.tasks.grading.grader import Grade, Grader, GradeStatus, Reading
from designspace.tasks.grading.stated_answer import Stated, last_line, plain_words, stated_answer

_GOLD = re.compile(r"\s*(?:\(([A-Za-z])\)|([A-Za-z])(?=[.:)]|\s*\Z)[.:)]?)\s*(.*)", re.DOTALL)
# A letter alone, in brackets, or before a mark; "A good idea" states no letter.
_LETTER = re.compile(
    r"(?:option|choice)?\s*[*_$]*(?:[(\[]\s*([A-Za-z])\s*[)\]]|([A-Z])(?=[*_$]*(?:[.:,;)]|\s*\Z|\s+-)))", re.I
)
_BRACKETED = re.compile(r"\(([A-Z])\)")
_LETTER_LINE = re.compile(r"[*_\s]*\(?([A-Z])\)?[.:*_\s]*")


class _Gold(NamedTuple):
    letter: str
    words: str


@dataclass(frozen=True)
class ChoiceGrader(Grader):
    r"""Compare the letter of an option; where the gold gives its words too, as in `(B) Paris`, the words count as well.

    Strict: the last balanced ``\boxed{...}``, else what follows the last "the answer is", "Answer:" or "correct option is".
    Lenient: that, else the last letter in brackets, else a last line that is one letter or the words of the option.
    """

    kind: ClassVar[str] = "choice"
    prompt: ClassVar[str] = "answer-colon"

    def gold_error(self, gold: str) -> str | None:
        """Return why a gold names no option."""
        if _gold(gold) is not None:
            return None
        return f"the gold answer must be the letter of an option, such as B or '(B) Paris', got {gold!r}"

    def grade(self, text: str, gold: str) -> Grade:
        """Return both readings of a text."""
        wanted, stated = _gold(gold), stated_answer(text)
        strict = _read(stated, wanted)
        if strict.status is not GradeStatus.NO_ANSWER:
            return Grade.of(strict, strict)
        return Grade.of(strict, _read(Stated(_hinted(text)), wanted))

    def vote(self, text: str) -> str | None:
        """Return the strict reading's letter, or its words where it names none."""
        answer = stated_answer(text).answer
        return None if answer is None else _letter(answer) or plain_words(answer) or None


def _gold(gold: str) -> _Gold | None:
    match = _GOLD.fullmatch(gold)
    return None if match is None else _Gold((match[1] or match[2]).upper(), plain_words(match[3]))


def _read(stated: Stated, gold: _Gold | None) -> Reading:
    if gold is None:
        return Reading(GradeStatus.GOLD_ERROR, stated.answer)
    if stated.unfinished:
        return Reading(GradeStatus.UNFINISHED)
    if not stated.answer:
        return Reading(GradeStatus.NO_ANSWER)
    # The words come first: an option may itself be a letter, or begin with one.
    by_words = bool(gold.words) and plain_words(stated.answer) == gold.words
    right = by_words or _letter(stated.answer) == gold.letter
    return Reading(GradeStatus.CORRECT if right else GradeStatus.INCORRECT, stated.answer)


def _letter(answer: str) -> str | None:
    match = _LETTER.match(answer.strip())
    return None if match is None else (match[1] or match[2]).upper()


def _hinted(text: str) -> str | None:
    line = last_line(text)
    if line is None:
        return None
    if match := _LETTER_LINE.fullmatch(line):
        return match[1]
    bracketed = _BRACKETED.findall(line)
    return f"({bracketed[-1]})" if bracketed else line
