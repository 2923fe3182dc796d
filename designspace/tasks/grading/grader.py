"""Grade model texts against golds: two readings of every text, one status each, nothing ever evaluated as code."""

import hashlib
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from types import TracebackType
from typing import Self

from designspace.tasks.grading.equality import compare
from designspace.tasks.grading.extraction import Extraction, boxes_only, extract_lenient, extract_strict
from designspace.tasks.grading.normalise import normalise
from designspace.tasks.grading.sandbox import DEADLINE_S, Sandbox

GRADER_NAME = "designspace-two-readings"
GRADER_VERSION = 1  # raise it with every change that may alter a verdict
N_GOLD_CHARS = 200  # a longer gold without a box is a solution text, to be read like one


class GradeStatus(StrEnum):
    """The outcome of one reading; how each is scored is the registered policy's affair."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    NO_ANSWER = "no_answer"
    UNFINISHED = "unfinished"
    GRADER_TIMEOUT = "grader_timeout"
    GRADER_ERROR = "grader_error"
    GOLD_ERROR = "gold_error"


@dataclass(frozen=True)
class Grade:
    """Both readings of one text. ``*_extracted`` is the answer as found, None where there is none."""

    strict_status: GradeStatus
    strict_extracted: str | None
    strict_correct: bool
    lenient_status: GradeStatus
    lenient_extracted: str | None
    lenient_correct: bool


def _grader_id() -> str:
    identity = {
        "name": GRADER_NAME,
        "version": GRADER_VERSION,
        "math-verify": version("math-verify"),
        "latex2sympy2-extended": version("latex2sympy2-extended"),
        "sympy": version("sympy"),
        "config": {"deadline_s": DEADLINE_S},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


GRADER_ID = _grader_id()
"""Content hash of everything that may alter a verdict: our version, the libraries' versions, the configuration."""


class Grader:
    r"""Grade texts. Starts its sandboxed child on first need (integers never need it); close it, or use ``with``.

    >>> with Grader() as grader:
    ...     str(grader.grade(r"It is \boxed{033}.", "33").strict_status)
    'correct'
    """

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self.sandbox = Sandbox(deadline_s)

    def grade(self, text: str, gold: str) -> Grade:
        """Grade a text against a gold: bare, delimited, boxed, or a solution text that holds the answer."""
        gold_answer = read_gold(gold)
        strict, lenient = extract_strict(text), extract_lenient(text)
        strict_status = self._status(strict, gold_answer)
        # The same answer gets the same verdict without a second comparison (or a second timeout).
        lenient_status = strict_status if lenient == strict else self._status(lenient, gold_answer)
        return Grade(
            strict_status,
            strict.answer,
            strict_status is GradeStatus.CORRECT,
            lenient_status,
            lenient.answer,
            lenient_status is GradeStatus.CORRECT,
        )

    def check_gold(self, gold: str) -> bool:
        """Tell whether a gold can be graded at all: it holds an answer that is equal to itself."""
        answer = read_gold(gold)
        return answer is not None and compare(answer, answer, self.sandbox).outcome == "equal"

    def close(self) -> None:
        """End the child process, if one was started."""
        self.sandbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _status(self, extraction: Extraction, gold_answer: str | None) -> GradeStatus:
        if gold_answer is None:
            return GradeStatus.GOLD_ERROR
        if extraction.status == "unfinished":
            return GradeStatus.UNFINISHED
        if not extraction.answer:
            return GradeStatus.NO_ANSWER
        outcome = compare(gold_answer, extraction.answer, self.sandbox).outcome
        return {
            "equal": GradeStatus.CORRECT,
            "unequal": GradeStatus.INCORRECT,
            "timeout": GradeStatus.GRADER_TIMEOUT,
            "error": GradeStatus.GRADER_ERROR,
        }[outcome]


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
