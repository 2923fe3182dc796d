r"""Measuring the grader: the bars on the shared cases, the arithmetic of the report, and clear errors."""

import json
from pathlib import Path
from typing import Any

import pytest

from designspace.tasks.grading import CasesError, MathGrader, grade_cases


def _row(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "kind": "completion", "gold": "4", "prediction": r"\boxed{4}", "expected": True} | changes


def _write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_bars_hold_on_the_shared_cases(shared_data: Path) -> None:
    """Lenient agreement is at least 99 % on all undisputed rows, strict at least 98.5 % on those with a box."""
    report = grade_cases(shared_data / "grader_cases_dev.jsonl")

    assert (report.n_rows, report.n_undisputed, report.n_disputed) == (1699, 1644, 55)
    assert report.n_strict > 1000
    assert report.agreement is not None
    assert report.agreement >= 0.99
    assert report.agreement_strict is not None
    assert report.agreement_strict >= 0.985
    assert report.n_timeouts + report.n_grader_errors == 0


def test_the_report_counts_each_kind_of_row_apart(tmp_path: Path) -> None:
    """Undisputed, disputed and strict rows are separate, and a miss is either a false accept or a false reject."""
    path = _write(
        tmp_path / "cases.jsonl",
        _row(id="right"),
        _row(id="false accept", expected=False),
        _row(id="false reject", prediction="The answer is 5."),
        _row(id="lenient only", prediction="The answer is 4."),
        _row(id="bare", kind="expression", prediction="8/2"),
        _row(id="disputed", expected=False, disputed=True),
    )
    report = grade_cases(path)

    assert (report.n_rows, report.n_undisputed, report.n_disputed, report.n_strict) == (6, 5, 1, 2)
    assert (report.agreement, report.agreement_strict, report.agreement_disputed) == (0.6, 0.5, 0.0)
    assert (report.false_accepts, report.false_rejects) == (1, 1)
    expected = [
        ("false accept", "lenient", "correct"),
        ("false accept", "strict", "correct"),
        ("false reject", "lenient", "incorrect"),
        ("disputed", "lenient", "correct"),
    ]
    assert expected == [(miss.id, miss.reading, miss.got) for miss in report.disagreements]


def test_the_report_is_one_json_object(tmp_path: Path) -> None:
    """The JSON form holds every field, also for rows with odd characters."""
    odd = _row(prediction="\ud800 is it", expected=True)
    report = grade_cases(_write(tmp_path / "cases.jsonl", odd))
    loaded = json.loads(report.to_json())

    assert loaded["grader_id"] == MathGrader().grader_id
    assert None is loaded["agreement_strict"]
    assert len(loaded["disagreements"]) == 1
    report.to_json().encode("utf-8")


def test_hostile_rows_neither_hang_nor_crash(tmp_path: Path) -> None:
    """Towers, code, control characters and long strings are graded like anything else."""
    marker = tmp_path / "marker"
    predictions = [
        r"\boxed{9^{9^{9^{9}}}}",
        r"\boxed{(10^9)!}",
        "\\boxed{" + "(" * 100_000,
        "\\boxed{" + "9" * 100_000 + "}",
        "x" * 1_000_000,
        f"__import__('os').system('touch {marker}')",
        f"\\boxed{{__import__('os').system('touch {marker}')}}",
        "\x00\x07\u202e",
        r"\boxed{\input{/etc/passwd}}",
        r"\boxed{\begin{pmatrix}}",
    ]
    rows = [_row(id=str(idx), prediction=text, expected=False) for idx, text in enumerate(predictions)]
    report = grade_cases(_write(tmp_path / "cases.jsonl", *rows))

    assert report.agreement == 1.0
    assert not marker.exists()


BROKEN = [
    ("{", "not JSON"),
    ("[1]", "a case must be a JSON object, got list"),
    (json.dumps(_row(expected="yes")), "expected must be a bool, got 'yes'"),
    (json.dumps(_row(kind="essay")), "kind must be one of expression, completion, got 'essay'"),
    (json.dumps({"id": "a", "gold": "4"}), "prediction must be a str, got nothing"),
    (json.dumps(_row(disputed=1)), "disputed must be a bool, got 1"),
    ("[" * 100_000, "not JSON"),
]


@pytest.mark.parametrize(("line", "problem"), BROKEN, ids=[problem for _, problem in BROKEN[:-1]] + ["deep"])
def test_a_malformed_line_is_named(line: str, problem: str, tmp_path: Path) -> None:
    """The error starts with file and line and says what is wrong."""
    path = tmp_path / "cases.jsonl"
    path.write_text(json.dumps(_row()) + "\n" + line + "\n")

    with pytest.raises(CasesError) as caught:
        grade_cases(path)
    assert str(caught.value).startswith(f"{path}:2: {problem}")
    assert isinstance(caught.value, ValueError)


def test_a_missing_file_and_foreign_bytes_are_named(tmp_path: Path) -> None:
    """An unreadable file is one clear error as well."""
    path = tmp_path / "cases.jsonl"
    with pytest.raises(CasesError, match="cannot be read: No such file"):
        grade_cases(path)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(CasesError, match=r":1: not UTF-8"):
        grade_cases(path)
