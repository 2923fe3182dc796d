"""Measure the grader on labelled cases: JSONL rows with a gold, a prediction and the expected verdict."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from designspace.errors import DesignspaceError
from designspace.tasks.grading.grader import Grade, GradeStatus
from designspace.tasks.grading.math_grader import MathGrader

_REQUIRED: dict[str, type] = {"id": str, "gold": str, "prediction": str, "expected": bool}
_KINDS = ("expression", "completion")


class CasesError(DesignspaceError, ValueError):
    """A file of labelled cases cannot be read; the message starts with ``file:line``."""

    def __init__(self, path: Path, line: int | None, problem: str) -> None:
        self.path, self.line, self.problem = path, line, problem
        super().__init__(f"{path}:{line}: {problem}" if line is not None else f"{path}: {problem}")


@dataclass(frozen=True)
class Case:
    """One labelled row. ``expression``: the prediction is a bare answer; ``completion``: a text to extract from."""

    id: str
    kind: str
    gold: str
    prediction: str
    expected: bool
    disputed: bool


@dataclass(frozen=True)
class Disagreement:
    """One row on which a reading (``lenient`` or ``strict``) and the label differ; ``got`` is a grade status."""

    id: str
    reading: str
    disputed: bool
    expected: bool
    got: str
    extracted: str | None
    gold: str


@dataclass(frozen=True)
class CaseReport:
    """How far the grader agrees with the labels.

    ``agreement`` is the lenient reading on all undisputed rows, ``agreement_strict`` the strict reading on undisputed
    completions that contain a box, ``agreement_disputed`` the lenient reading on disputed rows; None where there is no
    such row. ``false_accepts`` and ``false_rejects`` count lenient errors on undisputed rows, ``n_timeouts`` the rows
    with a timed-out reading.
    """

    n_rows: int
    n_undisputed: int
    n_disputed: int
    n_strict: int
    agreement: float | None
    agreement_strict: float | None
    agreement_disputed: float | None
    false_accepts: int
    false_rejects: int
    n_timeouts: int
    n_grader_errors: int
    n_gold_errors: int
    disagreements: tuple[Disagreement, ...]
    wall_s: float
    grader_id: str

    def to_json(self) -> str:
        """Return the report as one indented JSON object."""
        return json.dumps(asdict(self), indent=2)


def grade_cases(path: Path | str) -> CaseReport:
    """Grade every row of a JSONL file and compare with its label.

    Raises:
        CasesError: a line is not a JSON object with the required fields; nothing is graded in that case.
    """
    cases = list(read_cases(Path(path)))
    started_s = time.monotonic()
    with MathGrader() as grader:
        graded = [(case, grader.grade(case.prediction, case.gold)) for case in cases]
    return _report(graded, time.monotonic() - started_s)


def read_cases(path: Path) -> Iterator[Case]:
    """Yield the cases of a JSONL file; blank lines are skipped."""
    try:
        with path.open("rb") as file:
            for line_number, raw in enumerate(file, start=1):
                if raw.strip():
                    yield _read_case(path, line_number, raw)
    except OSError as error:
        raise CasesError(path, None, f"cannot be read: {error.strerror}") from error


def _read_case(path: Path, line: int, raw: bytes) -> Case:
    try:
        row = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise CasesError(path, line, f"not UTF-8: {error.reason} at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise CasesError(path, line, f"not JSON: {error}") from error
    if not isinstance(row, dict):
        raise CasesError(path, line, f"a case must be a JSON object, got {type(row).__name__}")
    for name, kind in _REQUIRED.items():
        if not isinstance(row.get(name), kind):
            raise CasesError(path, line, f"{name} must be a {kind.__name__}, got {_shown(row, name)}")
    kind_of_row = row.get("kind", "completion")
    if kind_of_row not in _KINDS:
        raise CasesError(path, line, f"kind must be one of {', '.join(_KINDS)}, got {_shown(row, 'kind')}")
    if not isinstance(row.get("disputed", False), bool):
        raise CasesError(path, line, f"disputed must be a bool, got {_shown(row, 'disputed')}")
    fields = {name: row[name] for name in _REQUIRED}
    return Case(**fields, kind=kind_of_row, disputed=row.get("disputed", False))


def _shown(row: dict[str, Any], name: str) -> str:
    return repr(row[name])[:60] if name in row else "nothing"


def _report(graded: list[tuple[Case, Grade]], wall_s: float) -> CaseReport:
    undisputed = [(case, grade) for case, grade in graded if not case.disputed]
    disputed = [(case, grade) for case, grade in graded if case.disputed]
    strict = [(case, grade) for case, grade in undisputed if _counts_as_strict(case)]
    statuses = [(grade.strict_status, grade.lenient_status) for _, grade in graded]
    return CaseReport(
        n_rows=len(graded),
        n_undisputed=len(undisputed),
        n_disputed=len(disputed),
        n_strict=len(strict),
        agreement=_share([grade.lenient_correct == case.expected for case, grade in undisputed]),
        agreement_strict=_share([grade.strict_correct == case.expected for case, grade in strict]),
        agreement_disputed=_share([grade.lenient_correct == case.expected for case, grade in disputed]),
        false_accepts=sum(grade.lenient_correct and not case.expected for case, grade in undisputed),
        false_rejects=sum(case.expected and not grade.lenient_correct for case, grade in undisputed),
        n_timeouts=sum(GradeStatus.GRADER_TIMEOUT in pair for pair in statuses),
        n_grader_errors=sum(GradeStatus.GRADER_ERROR in pair for pair in statuses),
        n_gold_errors=sum(GradeStatus.GOLD_ERROR in pair for pair in statuses),
        disagreements=tuple(_disagreements(graded)),
        wall_s=round(wall_s, 3),
        grader_id=MathGrader().grader_id,
    )


def _disagreements(graded: list[tuple[Case, Grade]]) -> Iterator[Disagreement]:
    for case, grade in graded:
        if grade.lenient_correct != case.expected:
            got, extracted = grade.lenient_status, grade.lenient_extracted
            yield Disagreement(case.id, "lenient", case.disputed, case.expected, got, extracted, case.gold)
        if _counts_as_strict(case) and grade.strict_correct != case.expected:
            got, extracted = grade.strict_status, grade.strict_extracted
            yield Disagreement(case.id, "strict", case.disputed, case.expected, got, extracted, case.gold)


def _counts_as_strict(case: Case) -> bool:
    has_box = re.search(r"\\boxed\s*\{", case.prediction) is not None
    return has_box and case.kind == "completion" and not case.disputed


def _share(hits: list[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
