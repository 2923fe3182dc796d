"""The grader of answers that a text must hold, all of them or any: RULER's `string_match_all` and `string_match_part`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from designspace.canonical import canonical_json
from designspace.errors import DeclarationError
from designspace.tasks.grading.extraction import after_thinking
from designspace.tasks.grading.grader import Grade, Grader, GradeStatus, Reading
from designspace.tasks.grading.stated_answer import plain_words

_N_VOTE_CHARS = 2000


@dataclass(frozen=True)
class ContainsGrader(Grader):
    """Look for answers anywhere in a text, whatever the case of letters [hsieh2024ruler].

    The gold answer is a text, or a JSON list of texts. Strict: after the model's thinking, where that is marked. Lenient: in
    the whole text. What is extracted is the JSON list of the answers that were found, which may be empty, so that `share_found`
    is RULER's score of a text.

    Attributes:
        need: `all`, or `any` of them, must be there.
    """

    kind: ClassVar[str] = "contains"
    takes_lists: ClassVar[bool] = True

    need: Literal["all", "any"] = "all"

    def __post_init__(self) -> None:
        """Check the parameter.

        Raises:
            DeclarationError: neither all nor any.
        """
        if self.need not in ("all", "any"):
            raise DeclarationError(f"need must be all or any, got {self.need!r}")

    def gold_error(self, gold: str) -> str | None:
        """Return why a gold names no answer."""
        answers = answers_of(gold)
        if answers and all(answer.strip() for answer in answers):
            return None
        return f"the gold answer must be a text or a JSON list of texts, none of them empty, got {gold!r:.80}"

    def grade(self, text: str, gold: str) -> Grade:
        """Return both readings of a text."""
        return Grade.of(self._read(after_thinking(text), gold), self._read(text, gold))

    def vote(self, text: str) -> str | None:
        """Return the words of the text: what it answers cannot be told without the gold."""
        return plain_words(after_thinking(text)[-_N_VOTE_CHARS:]) or None

    def _read(self, text: str, gold: str) -> Reading:
        if self.gold_error(gold) is not None:
            return Reading(GradeStatus.GOLD_ERROR)
        if not text.strip():
            return Reading(GradeStatus.NO_ANSWER)
        answers, said = answers_of(gold), text.casefold()
        found = [answer for answer in answers if answer.casefold() in said]
        right = len(found) == len(answers) if self.need == "all" else bool(found)
        return Reading(GradeStatus.CORRECT if right else GradeStatus.INCORRECT, gold_of(found))


def gold_of(answers: Sequence[str]) -> str:
    """Return several answers as one gold answer."""
    return canonical_json(list(answers))


def answers_of(gold: str) -> list[str]:
    """Return the answers that a gold names: a JSON list of texts, else the text itself."""
    try:
        found = json.loads(gold) if gold.lstrip().startswith("[") else None
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, list) and all(isinstance(answer, str) for answer in found):
        return found
    return [gold]


def share_found(gold: str, extracted: str | None) -> float:
    """Return the share of the answers that a text holds, from the columns `answer` and `extracted` of its row."""
    return 0.0 if extracted is None else len(answers_of(extracted)) / len(answers_of(gold))
