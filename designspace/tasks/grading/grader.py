"""The contract of a grader: how an answer is read from a text, and when it is right."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from enum import StrEnum
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Self

from designspace.canonical import canonical_json


class GradeStatus(StrEnum):
    """The outcome of one reading; how each is scored is the registered policy's affair."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    NO_ANSWER = "no_answer"
    UNFINISHED = "unfinished"
    GRADER_TIMEOUT = "grader_timeout"
    GRADER_ERROR = "grader_error"
    GOLD_ERROR = "gold_error"


class Reading(NamedTuple):
    """What one way of reading a text comes to: its status, and the answer as found (None: there is none)."""

    status: GradeStatus
    extracted: str | None = None


@dataclass(frozen=True)
class Grade:
    """Both readings of one text. ``*_extracted`` is the answer as found, None where there is none."""

    strict_status: GradeStatus
    strict_extracted: str | None
    strict_correct: bool
    lenient_status: GradeStatus
    lenient_extracted: str | None
    lenient_correct: bool

    @staticmethod
    def of(strict: Reading, lenient: Reading) -> Grade:
        """Return the grade that two readings make."""
        return Grade(
            strict.status,
            strict.extracted,
            strict.status is GradeStatus.CORRECT,
            lenient.status,
            lenient.extracted,
            lenient.status is GradeStatus.CORRECT,
        )


@dataclass(frozen=True)
class Grader(ABC):
    """How the answers of a task are extracted and compared. A frozen dataclass: its fields are its parameters.

    Life cycle: `gold_error` is asked for every problem when a task's data is read, before anything runs; `grade` for every
    text when its shard is committed; `vote` for every sample where a decoding compares several. `close` ends what grading
    has started (a child process, say); a later call may start it anew. An instance must pickle: workers get a copy.

    A grade depends on text and gold alone, never on what was graded before. Text is a model's: it must never be evaluated,
    and nothing in it may make `grade` raise or hang.

    Class attributes: `kind` names it in YAML; `version` is raised with every change that may alter a grade, so that stored
    texts are graded anew; `grades` is False where texts are exported to be judged elsewhere; `needs_gold` says whether
    problems must have a gold answer, `takes_lists` whether that may be a JSON list of texts; `prompt` is the format of prompts
    (`designspace.tasks.prompts`) that makes a model state its answer where this grader looks for it, for tasks that name none.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    grades: ClassVar[bool] = True
    needs_gold: ClassVar[bool] = True
    takes_lists: ClassVar[bool] = False
    prompt: ClassVar[str] = "none"

    @abstractmethod
    def gold_error(self, gold: str) -> str | None:
        """Return why a text cannot be graded against this gold answer, or None if it can."""

    @abstractmethod
    def grade(self, text: str, gold: str) -> Grade:
        """Return the strict and the lenient reading of a text; the strict one is what accuracy counts."""

    @abstractmethod
    def vote(self, text: str) -> str | None:
        """Return a text's answer in the one spelling by which self-consistency compares votes; None: it has none."""

    def identity(self) -> dict[str, Any]:
        """Return everything that may alter a grade, as JSON-able data."""
        return {"kind": self.kind, "version": self.version, **{f.name: getattr(self, f.name) for f in fields(self)}}

    @property
    def grader_id(self) -> str:
        """The first 12 hex digits of the SHA-256 of `identity`: grades are stored under it."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()[:12]

    def close(self) -> None:  # noqa: B027 - most graders start nothing
        """End what grading has started."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
