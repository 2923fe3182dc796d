r"""MathGrader: statuses of both readings, golds in all their forms, and a stable identity."""

import subprocess
import sys
from pathlib import Path

import pytest

from designspace.tasks.grading import Grade, GradeStatus, MathGrader

STATUSES = [
    (r"It is \boxed{033}.", "33", "correct", "correct"),
    (r"It is \boxed{34}.", "33", "incorrect", "incorrect"),
    ("The answer is 33.", "33", "no_answer", "correct"),
    (r"The answer is 33. \boxed{3", "33", "unfinished", "unfinished"),
    (r"<think>\boxed{33}</think> It is \boxed{32}.", "33", "incorrect", "incorrect"),
    (r"<think>\boxed{33}</think>", "33", "no_answer", "no_answer"),
    (r"\boxed{}", "33", "no_answer", "no_answer"),
    ("", "33", "no_answer", "no_answer"),
    (r"\boxed{33}", "", "gold_error", "gold_error"),
    (r"\boxed{33}", r"\boxed{33", "gold_error", "gold_error"),
    (r"\boxed{33}", r"\frac{33}{1", "gold_error", "gold_error"),
    ("\ud800\x00 \\boxed{33}", "33", "correct", "correct"),
    ("\\boxed{\ud800x}", "33", "incorrect", "incorrect"),
]


@pytest.mark.parametrize(("text", "gold", "strict", "lenient"), STATUSES)
def test_every_text_gets_one_status_per_reading(
    text: str, gold: str, strict: str, lenient: str, grader: MathGrader
) -> None:
    """No answer, a truncated box and a broken gold are statuses of their own; only ``correct`` is correct."""
    grade = grader.grade(text, gold)

    assert (strict, lenient) == (grade.strict_status, grade.lenient_status)
    assert (strict == "correct", lenient == "correct") == (grade.strict_correct, grade.lenient_correct)


GOLDS = [
    "1/2",
    "$\\frac{1}{2}$",
    r"\boxed{\frac12}",
    r"Halving one gives the answer. $x=\boxed{\frac{1}{2}}.$",
    r"\[0.5\]",
]


@pytest.mark.parametrize("gold", GOLDS)
def test_a_gold_may_be_bare_delimited_boxed_or_a_solution(gold: str, grader: MathGrader) -> None:
    """All forms of a gold hold the same answer."""
    assert grader.grade(r"\boxed{0.5}", gold).strict_correct
    assert not grader.grade(r"\boxed{0.6}", gold).strict_correct


def test_a_gold_of_several_boxes_means_all_of_them(grader: MathGrader) -> None:
    """Only a prediction is read by its last box."""
    gold = r"\(\boxed{1}\) and \(\boxed{-2}\)."

    assert grader.grade(r"\boxed{-2, 1}", gold).strict_correct
    assert not grader.grade(r"\boxed{-2}", gold).strict_correct


@pytest.mark.parametrize(("gold", "expected"), [("42", True), (r"\frac{1}{2}", True), ("odd $n$", True), ("", False),
                                                (r"\boxed{4", False), ("{", False), (r"\text{}", False)])  # fmt: skip
def test_a_gold_is_checked_against_itself(gold: str, expected: bool, grader: MathGrader) -> None:
    """A gold without a readable answer is found before any model runs."""
    assert expected == (grader.gold_error(gold) is None)


def test_the_parts_of_a_grade_are_what_was_read(grader: MathGrader) -> None:
    """A grade carries the extracted answers as written."""
    expected = Grade(GradeStatus.NO_ANSWER, None, False, GradeStatus.CORRECT, "1,000", True)

    assert expected == grader.grade("so we get\n#### 1,000", "1000")


def test_a_timeout_is_a_status_and_not_a_wrong_answer() -> None:
    """What the sandbox could not decide in time is told apart."""
    with MathGrader(deadline_s=0.5) as grader:
        grade = grader.grade(r"\boxed{(x+y+z+w)^{300}}", "x^{300}")

        assert (grade.strict_status, grade.strict_correct) == (GradeStatus.GRADER_TIMEOUT, False)
        assert grader.grade(r"\boxed{y+x}", "x+y").strict_correct


def test_the_identity_is_the_same_in_another_process() -> None:
    """The grader id is a short content hash, free of process state."""
    code = "from designspace.tasks.grading import MathGrader; print(MathGrader().grader_id)"
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)

    assert done.stdout.strip() == MathGrader().grader_id
    assert len(MathGrader().grader_id) == 12


def test_importing_the_grader_does_not_import_sympy() -> None:
    """Heavy imports stay in the child."""
    code = "import sys, designspace.tasks.grading; print('sympy' in sys.modules, 'math_verify' in sys.modules)"
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)

    assert done.stdout.strip() == "False False"


def test_published_solutions_match_their_answers(grader: MathGrader, shared_data: Path) -> None:
    """The boxed answer at the end of every tenth MATH-500 solution is the answer of the row."""
    import json

    rows = [json.loads(line) for line in (shared_data / "math500.jsonl").read_text().splitlines()[::10]]
    wrong = [row["id"] for row in rows if not grader.grade(row["solution"], row["answer"]).strict_correct]

    assert wrong == []
    assert len(rows) == 50
