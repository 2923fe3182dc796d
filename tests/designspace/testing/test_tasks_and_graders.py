"""The conformance kit of tasks and graders: over all that are registered, and broken ones that it must catch."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from designspace.errors import DataMissing, DeclarationError, UnknownName
from designspace.tasks import Problem, Task, TaskRequest, lookup
from designspace.tasks.file_task import file_task
from designspace.tasks.grading import ExactGrader, Grade, Grader, GradeStatus, IntegerGrader, Reading
from designspace.testing.conformance import check_grader, check_task
from tests.conftest import SHARED_DATA
from tests.designspace.tasks.grading.labelled import EXAMPLES, Labelled

RIGHT, WRONG = [("say yes", "yes")], [("say no", "yes")]


@pytest.mark.parametrize("labelled", EXAMPLES, ids=lambda labelled: repr(labelled.grader))
def test_shipped_graders(labelled: Labelled) -> None:
    """Every shipped grader keeps the contract on its examples."""
    check_grader(labelled.grader, **labelled.arguments())


def test_every_registered_grader_has_examples() -> None:
    """A new one needs a line in `labelled.py`."""
    assert lookup.grader_kinds() == sorted({labelled.grader.kind for labelled in EXAMPLES})


FILES = {
    "math500": "math500.jsonl",
    "gsm8k": "gsm8k_test.jsonl",
    "aime24": "aime24.jsonl",
    "aime25": "aime25.jsonl",
}
# Rows in the form of the hub's files, for tasks without shared data.
ROWS: dict[str, list[dict[str, Any]]] = {
    "amc23": [{"id": n, "question": f"What is {n} + 1?", "answer": n + 1.0, "url": "x"} for n in range(8)],
    "gpqa-diamond": [
        {
            "Record ID": f"rec{n}",
            "Question": f"What is {n}?",
            "Correct Answer": f"{n}",
            **{f"Incorrect Answer {k}": f"{n + k}" for k in (1, 2, 3)},
            "High-level domain": "Physics",
        }
        for n in range(8)
    ],
}


@pytest.mark.parametrize("name", lookup.task_names())
def test_shipped_tasks(name: str, tmp_path: Path) -> None:
    """Every shipped task keeps the contract; those that read files on the shared data, where it is there."""
    task = lookup.task(name)
    if not task.takes_path:
        check_task(task, n_problems=5)
        return
    if name in ROWS:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]))
        check_task(task, path=file)
        return
    file = SHARED_DATA / FILES[name]
    if not file.is_file():
        pytest.skip(f"no data at {file}")
    check_task(task, path=file)


def test_a_task_that_is_a_file(tmp_path: Path) -> None:
    """So does a task of one's own."""
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(f'{{"question": "how much is {n}?", "answer": "#### {n}"}}\n' for n in range(20)))

    check_task(file_task("mine", IntegerGrader()), path=file)


@dataclass(frozen=True)
class Yes(Grader):
    """Right if the text holds the gold as a word. The base of the broken graders, and itself a whole one."""

    kind: ClassVar[str] = "yes"

    def gold_error(self, gold: str) -> str | None:
        """Refuse an empty one."""
        return None if gold.strip() else "the gold must not be empty"

    def read(self, text: str, gold: str) -> Reading:
        """Return the reading."""
        words = text.split()
        if not words:
            return Reading(GradeStatus.NO_ANSWER)
        return Reading(GradeStatus.CORRECT if words[-1] == gold else GradeStatus.INCORRECT, words[-1])

    def grade(self, text: str, gold: str) -> Grade:
        """Read both ways alike."""
        return Grade.of(self.read(text, gold), self.read(text, gold))

    def vote(self, text: str) -> str | None:
        """Vote with the last word."""
        return self.read(text, "").extracted


def test_a_grader_of_ones_own_passes() -> None:
    """The whole one keeps the contract: what its broken kin fail at is what they break."""
    check_grader(Yes(), right=RIGHT, wrong=WRONG, silent=[""], bad_golds=[""])


class Lenient(Yes):
    """Grades everything correct."""

    def read(self, text: str, gold: str) -> Reading:
        return Reading(GradeStatus.CORRECT, "x")


class Forgetful(Yes):
    """Extracts the answer of the text before."""

    seen: ClassVar[list[str]] = [""]

    def read(self, text: str, gold: str) -> Reading:
        self.seen.append(text)
        found = super().read(text, gold)
        return found._replace(extracted=self.seen[-2][-3:] if found.extracted else None)


class Crashing(Yes):
    """Divides by what the text says."""

    def read(self, text: str, gold: str) -> Reading:
        if "\\frac" in text:
            raise ZeroDivisionError
        return super().read(text, gold)


class Evaluating(Yes):
    """Runs what stands in the text."""

    def read(self, text: str, gold: str) -> Reading:
        with suppress(Exception):
            eval(text)  # noqa: S307 - this is the fault that the kit must find
        return super().read(text, gold)


class Inconsistent(Yes):
    """Says correct in one place and incorrect in the other."""

    def grade(self, text: str, gold: str) -> Grade:
        return replace(super().grade(text, gold), strict_status=GradeStatus.INCORRECT)


class Stricter(Yes):
    """Finds less leniently than strictly."""

    def grade(self, text: str, gold: str) -> Grade:
        return Grade.of(self.read(text, gold), Reading(GradeStatus.NO_ANSWER))


class Voteless(Yes):
    """Never votes."""

    def vote(self, text: str) -> str | None:
        return None


class Restless(Yes):
    """Votes at random."""

    def vote(self, text: str) -> str | None:
        return str(random.random()) if text.split() else None


class Talkative(Yes):
    """Votes where there is no answer."""

    def vote(self, text: str) -> str | None:
        return text or "nothing"


class Credulous(Yes):
    """Accepts every gold."""

    def gold_error(self, gold: str) -> str | None:
        return None


class Choosy(Yes):
    """Refuses every gold."""

    def gold_error(self, gold: str) -> str | None:
        return "no"


class Nameless(Yes):
    """Leaves its kind out of its identity."""

    def identity(self) -> dict[str, object]:
        return {"version": 1}


class Unwritable(Yes):
    """Has an identity that is no JSON."""

    def identity(self) -> dict[str, object]:
        return {**super().identity(), "where": Path()}


class Unpicklable(Yes):
    """Cannot be sent to a worker."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        raise TypeError("no")


@dataclass
class Loose:
    """No frozen dataclass."""


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Lenient(), "does not answer"), (Forgetful(), "grades otherwise|depends on what"),
        (Crashing(), "stopped with ZeroDivisionError"), (Evaluating(), "ran what stands in a text"),
        (Inconsistent(), "must say what its status says"), (Stricter(), "must be correct leniently too"),
        (Voteless(), "must not be None"), (Restless(), "votes otherwise when asked again"),
        (Talkative(), "so it has no vote"), (Credulous(), "must refuse the gold"), (Choosy(), "must read the gold"),
        (Nameless(), "lacks kind"), (Unwritable(), "not JSON serializable"), (Unpicklable(), "stopped with TypeError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Grader) else "",
)  # fmt: skip
def test_broken_graders_are_caught(broken: Grader, check: str) -> None:
    """Each breaks one rule, and the message says which."""
    many_right, many_wrong = RIGHT * 4, WRONG * 4
    with pytest.raises(AssertionError, match=check):
        check_grader(broken, right=many_right, wrong=many_wrong, silent=[""], bad_golds=[""])


def test_unknown_checks_are_named() -> None:
    """A slip in `exempt` is no silent exemption."""
    with pytest.raises(UnknownName, match="did you mean 'golds'"):
        check_grader(Yes(), right=RIGHT, wrong=WRONG, exempt=["gold"])
    with pytest.raises(UnknownName, match="did you mean 'prefix'"):
        check_task(made(counted), exempt=["prefixes"])


def counted(request: TaskRequest) -> list[Problem]:
    """Return generated problems, others in each split."""
    first = {"dev": 0, "confirm": 1000}[request.split]
    return [Problem(f"{n}", f"how much is {n}?", f"{n}") for n in range(first, first + (request.n_problems or 0))]


def made(load: Callable[[TaskRequest], list[Problem]], **changes: object) -> Task:
    """Return a task around a function."""
    return replace(Task("made", ("dev", "confirm"), load, ExactGrader()), **changes)  # type: ignore[arg-type]


def shuffled(request: TaskRequest) -> list[Problem]:
    """Return the problems in another order each time."""
    return random.SystemRandom().sample(counted(replace(request, n_problems=50)), request.n_problems or 0)


def tail(request: TaskRequest) -> list[Problem]:
    """Return the last problems: more of them are others."""
    return counted(replace(request, n_problems=50))[-(request.n_problems or 0) :]


def overlapping(request: TaskRequest) -> list[Problem]:
    """Return the same problems whatever the split."""
    return counted(replace(request, split="dev"))


def twins(request: TaskRequest) -> list[Problem]:
    """Return one id twice."""
    return [replace(problem, problem_id="same") for problem in counted(request)]


def numbers(request: TaskRequest) -> list[Problem]:
    """Return answers that are no text."""
    return [replace(problem, answer=1) for problem in counted(request)]  # type: ignore[arg-type]


def answerless(request: TaskRequest) -> list[Problem]:
    """Return golds that nobody can read."""
    return [replace(problem, answer="") for problem in counted(request)]


def silent_file(request: TaskRequest) -> list[Problem]:
    """Return what can be read of a file, and nothing of one that cannot."""
    return counted(replace(request, n_problems=3))


def crashing_file(request: TaskRequest) -> list[Problem]:
    """Raise whatever reading raises."""
    if request.path is not None and os.path.basename(request.path) == "data.jsonl":
        open(request.path).close()
        raise DataMissing(f"{request.path}: data.jsonl is not mine") if os.path.getsize(request.path) else OSError()
    return counted(replace(request, n_problems=3))


def unnamed_file(request: TaskRequest) -> list[Problem]:
    """Refuse without saying what."""
    if request.path is not None and request.path.endswith("data.jsonl"):
        raise DeclarationError("no")
    return counted(replace(request, n_problems=3))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (made(shuffled), "another each time"), (made(tail), "change the first ones"),
        (made(overlapping), "dev and confirm share"), (made(twins), "ids in dev must be unique"),
        (made(numbers), "a problem holds text"), (made(answerless), "the gold answer must not be empty"),
        (made(counted, splits=("dev", "dev")), "each once"), (made(counted, template="no place"), "in it once"),
        (made(silent_file, takes_path=True), "a missing file must be refused"),
        (made(crashing_file, takes_path=True), "a missing file ends in FileNotFoundError"),
        (made(unnamed_file, takes_path=True), "must name the file"),
    ],
    ids=lambda value: getattr(getattr(value, "load", None), "__name__", ""),
)  # fmt: skip
def test_broken_tasks_are_caught(task: Task, message: str) -> None:
    """Each breaks one rule, and the message says which."""
    with pytest.raises(AssertionError, match=message):
        check_task(task, n_problems=4)


def test_a_task_of_ones_own_passes() -> None:
    """The whole one keeps the contract."""
    check_task(made(counted), n_problems=4)
