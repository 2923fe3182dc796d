"""What every grader must satisfy: its grades follow from text and gold alone, and no text can upset it."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import FrozenInstanceError, dataclass, fields
from pathlib import Path
from typing import Any

from designspace.errors import UnknownName
from designspace.tasks.grading import Grade, Grader, GradeStatus
from designspace.testing.conformance.verdict import expect

Labelled = Sequence[tuple[str, str]]

_HOSTILE = (
    "",
    " \n\t",
    "\x00\x07\ufeff\u2028",
    "{" * 500,
    "\\boxed{" * 200,
    "\\boxed{1" + "}" * 50,
    "(" * 2000 + "1" + ")" * 2000,
    "9" * 5000,
    "a" * 20_000,
    "answer is " * 500,
    "<think>the answer is 7",
    "\ud800",
    "\\frac{1}{0}",
    "```python\nraise SystemExit\n",
)
_N_ID_DIGITS = 12


@dataclass(frozen=True)
class Cases:
    """Labelled examples of one grader: (text, gold) pairs that are right or wrong, texts without an answer, bad golds."""

    right: Labelled
    wrong: Labelled
    silent: Sequence[str]
    bad_golds: Sequence[str]


@dataclass(frozen=True)
class Trial:
    """A grader and what it is tried on."""

    grader: Grader
    cases: Cases

    @property
    def who(self) -> str:
        """What messages call it."""
        return f"grader {self.grader.kind!r}"

    @property
    def golds(self) -> list[str]:
        """Golds that it must be able to read."""
        return [gold for _, gold in (*self.cases.right, *self.cases.wrong)]


def check_grader(
    grader: Grader,
    *,
    right: Labelled,
    wrong: Labelled,
    silent: Sequence[str] = (),
    bad_golds: Sequence[str] = (),
    exempt: Collection[str] = (),
) -> None:
    """Check that a grader keeps its contract.

    Args:
        grader: what is checked; a grader whose `grades` is False is checked as far as it goes.
        right: (text, gold) pairs that the strict reading must grade correct; at least one.
        wrong: pairs that neither reading may grade correct; at least one.
        silent: texts in which the strict reading must find no answer, whatever the gold.
        bad_golds: golds that `gold_error` must refuse.
        exempt: checks that do not apply, by name (`GRADER_CHECKS`).

    Raises:
        AssertionError: it breaks a rule; the message says which, and what was got.
        UnknownName: no check of that name.
    """
    for name in exempt:
        if name not in GRADER_CHECKS:
            raise UnknownName("check of graders", name, GRADER_CHECKS)
    expect(not grader.grades or bool(right and wrong), "a grader needs examples of right and of wrong texts")
    trial = Trial(grader, Cases(right, wrong, silent, bad_golds))
    for name, check in GRADER_CHECKS.items():
        if name not in exempt and (grader.grades or name in _WITHOUT_GRADES):
            _run(name, trial, check)
    grader.close()


def _run(name: str, trial: Trial, check: Callable[[Trial], None]) -> None:
    try:
        check(trial)
    except AssertionError as error:
        error.add_note(f"conformance check {name!r} of {trial.grader!r}")
        raise
    except Exception as error:
        raise AssertionError(
            f"{trial.who} stopped with {type(error).__name__} in conformance check {name!r}: {error}"
        ) from error


def check_declared(t: Trial) -> None:
    """Check that kind and version are there, and that parameters cannot be changed."""
    expect(isinstance(t.grader.kind, str) and bool(t.grader.kind), f"{t.who}: kind must be text")
    expect(isinstance(t.grader.version, int), f"{t.who}: version must be a whole number, got {t.grader.version!r}")
    for field in fields(t.grader):
        try:
            setattr(t.grader, field.name, getattr(t.grader, field.name))
        except FrozenInstanceError:
            continue
        expect(False, f"{t.who}: must be a frozen dataclass, {field.name} could be set")


def check_identity(t: Trial) -> None:
    """Check that the identity is plain JSON with every parameter in it, and makes the id."""
    found = json.loads(json.dumps(t.grader.identity(), allow_nan=False))
    missing = [name for name in ("kind", "version", *(f.name for f in fields(t.grader))) if name not in found]
    expect(not missing, f"{t.who}: identity must hold kind, version and every parameter, lacks {', '.join(missing)}")
    identifier = t.grader.grader_id
    expect(
        len(identifier) == _N_ID_DIGITS and all(digit in "0123456789abcdef" for digit in identifier),
        f"{t.who}: grader_id must have {_N_ID_DIGITS} hex digits, got {identifier!r}",
    )


def check_pickles(t: Trial) -> None:
    """Check that a copy in another process is the same grader and grades alike."""
    copy: Grader = pickle.loads(pickle.dumps(t.grader))
    expect(copy == t.grader, f"{t.who}: a pickled copy must be equal, got {copy!r}")
    expect(copy.grader_id == t.grader.grader_id, f"{t.who}: a pickled copy must have the same id")
    if t.grader.grades:
        text, gold = t.cases.right[0]
        expect(copy.grade(text, gold) == t.grader.grade(text, gold), f"{t.who}: a pickled copy grades otherwise")
    copy.close()


def check_golds(t: Trial) -> None:
    """Check that golds of the examples can be read, and bad ones are refused in words."""
    for gold in t.golds:
        reason = t.grader.gold_error(gold)
        expect(reason is None, f"{t.who}: must read the gold {gold!r}, says {reason!r}")
    for gold in t.cases.bad_golds:
        reason = t.grader.gold_error(gold)
        expect(isinstance(reason, str) and bool(reason), f"{t.who}: must refuse the gold {gold!r}, got {reason!r}")


def check_examples(t: Trial) -> None:
    """Check right, wrong and silent examples."""
    for text, gold in t.cases.right:
        grade = t.grader.grade(text, gold)
        expect(grade.strict_correct, f"{t.who}: {text!r} answers {gold!r}, got {grade.strict_status}")
    for text, gold in t.cases.wrong:
        grade = t.grader.grade(text, gold)
        expect(
            not (grade.strict_correct or grade.lenient_correct),
            f"{t.who}: {text!r} does not answer {gold!r}, got {grade.strict_status}, {grade.lenient_status}",
        )
    for text in t.cases.silent:
        grade = t.grader.grade(text, t.golds[0])
        expect(not grade.strict_correct, f"{t.who}: {text!r} states no answer, got {grade.strict_status}")
        expect(grade.strict_extracted is None, f"{t.who}: {text!r} states no answer, got {grade.strict_extracted!r}")


def check_readings(t: Trial) -> None:
    """Check that flags follow from statuses, and that what is right in the strict reading is right in the lenient one."""
    for text, gold in (*t.cases.right, *t.cases.wrong, *((text, t.golds[0]) for text in t.cases.silent)):
        _consistent(t, t.grader.grade(text, gold), text)


def check_history(t: Trial) -> None:
    """Check that a grade does not depend on what was graded before."""
    pairs = (*t.cases.right, *t.cases.wrong)
    forwards = [t.grader.grade(text, gold) for text, gold in pairs]
    backwards = [t.grader.grade(text, gold) for text, gold in reversed(pairs)]
    for (text, _), one, other in zip(pairs, forwards, reversed(backwards), strict=True):
        expect(one == other, f"{t.who}: the grade of {text!r} depends on what was graded before it")


def check_votes(t: Trial) -> None:
    """Check that a text votes if, and only if, the strict reading finds an answer in it."""
    for text, gold in (*t.cases.right, *t.cases.wrong):
        vote, extracted = t.grader.vote(text), t.grader.grade(text, gold).strict_extracted
        expect(
            isinstance(vote, str) and bool(vote) if extracted else vote is None,
            f"{t.who}: {text!r} has the strict answer {extracted!r}, so its vote must not be {vote!r}",
        )
        expect(vote == t.grader.vote(text), f"{t.who}: {text!r} votes otherwise when asked again")
    for text in t.cases.silent:
        expect(t.grader.vote(text) is None, f"{t.who}: {text!r} states no answer, so it has no vote")


def check_hostile(t: Trial) -> None:
    """Check that no text and no gold makes it raise, and that nothing in a text is run."""
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "ran"
        code = f"__import__('pathlib').Path({str(canary)!r}).touch()"
        for text in (*_HOSTILE, code, f"\\boxed{{{code}}}", f"the answer is {code}"):
            for gold in t.golds[:1]:
                _consistent(t, t.grader.grade(text, gold), text)
            t.grader.vote(text)
            t.grader.gold_error(text)
        expect(not canary.exists(), f"{t.who}: ran what stands in a text")


def _consistent(t: Trial, grade: Grade, text: str) -> None:
    expect(isinstance(grade, Grade), f"{t.who}: grade must return a Grade, got {grade!r:.80}")
    for reading in ("strict", "lenient"):
        status, correct = getattr(grade, f"{reading}_status"), getattr(grade, f"{reading}_correct")
        expect(isinstance(status, GradeStatus), f"{t.who}: {reading}_status must be a GradeStatus, got {status!r}")
        expect(
            correct is (status is GradeStatus.CORRECT),
            f"{t.who}: {reading}_correct must say what its status says, got {correct} and {status} for {text!r:.60}",
        )
    expect(
        grade.lenient_correct or not grade.strict_correct,
        f"{t.who}: what the strict reading grades correct must be correct leniently too, got {text!r:.60}",
    )


GRADER_CHECKS: Mapping[str, Callable[[Trial], Any]] = {
    "declaration": check_declared,
    "identity": check_identity,
    "pickling": check_pickles,
    "golds": check_golds,
    "examples": check_examples,
    "readings": check_readings,
    "history": check_history,
    "votes": check_votes,
    "hostile texts": check_hostile,
}
_WITHOUT_GRADES = ("declaration", "identity", "pickling", "golds")
