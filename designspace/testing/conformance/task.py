"""What every task must satisfy: the same problems every time, each gradable, and files that break a rule are refused."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from designspace.errors import DesignspaceError, UnknownName
from designspace.tasks import Problem, Task, TaskRequest
from designspace.tasks.parameters import filled
from designspace.tasks.prompts import PLACEHOLDER
from designspace.testing.conformance.verdict import expect

_SCRAMBLED = {
    "an empty file": b"",
    "half a line": b'{"id": "a", "problem": ',
    "a line that is no object": b"[1, 2]\n",
    "Latin-1": '{"id": "a", "problem": "é", "answer": "1"}\n'.encode("latin-1"),
    "an answer that is null": b'{"id": "a", "unique_id": "a", "problem": "p", "question": "p", "answer": null}\n',
    "nothing but an id": b'{"id": "a", "unique_id": "a"}\n',
}


@dataclass(frozen=True)
class Trial:
    """A task, and a request for each of its splits."""

    task: Task
    n_problems: int | None
    path: str | None

    def load(self, split: str, n_problems: int | None = None) -> list[Problem]:
        """Return the problems of a split."""
        wanted, values = n_problems or self.n_problems, filled(self.task.parameters, {})
        return self.task.load(TaskRequest(split, wanted, self.path, self.task.grader, {}, values))

    @property
    def who(self) -> str:
        """What messages call it."""
        return f"task {self.task.name!r}"


def check_task(
    task: Task, *, n_problems: int | None = None, path: str | Path | None = None, exempt: Collection[str] = ()
) -> None:
    """Check that a task keeps its contract, on every split.

    Args:
        task: the record that is registered.
        n_problems: how many problems to ask for; needed where the task generates them.
        path: a local file to read, for a task that takes one; its data may be small.
        exempt: checks that do not apply, by name (`TASK_CHECKS`).

    Raises:
        AssertionError: it breaks a rule; the message says which, and what was got.
        UnknownName: no check of that name.
    """
    for name in exempt:
        if name not in TASK_CHECKS:
            raise UnknownName("check of tasks", name, TASK_CHECKS)
    trial = Trial(task, n_problems, None if path is None else str(path))
    for name, check in TASK_CHECKS.items():
        if name not in exempt:
            _run(name, trial, check)
    task.grader.close()


def _run(name: str, trial: Trial, check: Callable[[Trial], None]) -> None:
    try:
        check(trial)
    except AssertionError as error:
        error.add_note(f"conformance check {name!r} of task {trial.task.name!r}")
        raise
    except Exception as error:
        raise AssertionError(
            f"{trial.who} stopped with {type(error).__name__} in conformance check {name!r}: {error}"
        ) from error


def check_record(t: Trial) -> None:
    """Check what the record says of itself."""
    expect(bool(t.task.name), "a task must have a name")
    expect(
        bool(t.task.splits) and len(set(t.task.splits)) == len(t.task.splits),
        f"{t.who}: splits must be names, each once, got {t.task.splits}",
    )
    expect(
        not t.task.template or t.task.template.count(PLACEHOLDER) == 1,
        f"{t.who}: the template must have {PLACEHOLDER} in it once, got {t.task.template!r}",
    )


def check_problems(t: Trial) -> None:
    """Check that problems are whole, with ids of their own, and that their golds can be read."""
    for split in t.task.splits:
        problems = t.load(split)
        expect(
            all(isinstance(p, Problem) for p in problems), f"{t.who}: {split} must hold problems, got {problems!r:.80}"
        )
        ids = [problem.problem_id for problem in problems]
        expect(len(set(ids)) == len(ids), f"{t.who}: ids in {split} must be unique, got one twice")
        for problem in problems:
            texts = (problem.problem_id, problem.prompt, problem.answer, problem.kind)
            expect(all(isinstance(text, str) for text in texts), f"{t.who}: a problem holds text, got {texts!r:.120}")
            expect(bool(problem.problem_id and problem.prompt.strip()), f"{t.who}: a problem must have id and text")
            reason = t.task.grader.gold_error(problem.answer) if t.task.grader.needs_gold else None
            expect(reason is None, f"{t.who}: problem {problem.problem_id!r}: {reason}")


def check_repeats(t: Trial) -> None:
    """Check that loading again gives the same problems in the same order."""
    for split in t.task.splits:
        expect(t.load(split) == t.load(split), f"{t.who}: {split} is another each time it is loaded")


def check_prefix(t: Trial) -> None:
    """Check that asking for more problems of a generated task leaves the first ones what they are."""
    if t.task.takes_path or t.n_problems is None:
        return
    for split in t.task.splits:
        more = t.load(split, t.n_problems + 3)
        expect(len(more) == t.n_problems + 3, f"{t.who}: asked for {t.n_problems + 3} problems, got {len(more)}")
        expect(more[: t.n_problems] == t.load(split), f"{t.who}: more problems of {split} change the first ones")


def check_splits(t: Trial) -> None:
    """Check that a problem to tune on is none to confirm on."""
    if not {"dev", "confirm"} <= set(t.task.splits):
        return
    dev, confirm = ({(p.prompt, p.answer) for p in t.load(split)} for split in ("dev", "confirm"))
    expect(not dev & confirm, f"{t.who}: dev and confirm share {len(dev & confirm)} problems")


def check_faults(t: Trial) -> None:
    """Check that a file that is missing or breaks a rule is refused in words, not with a traceback."""
    if not t.task.takes_path:
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.jsonl"
        _refused(t, file, "a missing file")
        for what, content in _SCRAMBLED.items():
            file.write_bytes(content)
            _refused(t, file, what)


def _refused(t: Trial, file: Path, what: str) -> None:
    request = TaskRequest(t.task.splits[0], None, str(file), t.task.grader, {}, filled(t.task.parameters, {}))
    try:
        found = t.task.load(request)
    except DesignspaceError as error:
        expect(file.name in str(error), f"{t.who}: the refusal of {what} must name the file, got {error}")
        return
    except Exception as error:
        raise AssertionError(f"{t.who}: {what} ends in {type(error).__name__}: {error}") from error
    expect(False, f"{t.who}: {what} must be refused, got {len(found)} problems")


TASK_CHECKS: Mapping[str, Callable[[Trial], Any]] = {
    "record": check_record,
    "problems": check_problems,
    "repeats": check_repeats,
    "prefix": check_prefix,
    "splits": check_splits,
    "faulty files": check_faults,
}
