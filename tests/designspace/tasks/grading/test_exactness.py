"""What must not be lost between a text and a verdict: small differences, names in equations, words around an answer."""

from __future__ import annotations

import json

import pytest

from designspace.tasks.grading import GradeStatus, MathGrader
from tests.conftest import SHARED_DATA

RIGHT, WRONG = True, False


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        # Numbers without decimals are compared exactly, however small they are, also inside sets, points and equations.
        (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}", WRONG), ("10^{-20}", "10^{-21}", WRONG),
        ("10^{-20}", r"\frac{1}{10^{20}}", RIGHT), (r"\left(\frac16\right)^{30}", r"\left(\frac16\right)^{31}", WRONG),
        (r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}", r"\frac{1}{3 \cdot 2^{2006}}", WRONG),
        (r"\{10^{-20}\}", r"\{10^{-21}\}", WRONG), ("(10^{-20},1)", "(10^{-21},1)", WRONG), ("x=10^{-20}", "x=10^{-21}", WRONG),
        (r"\sqrt{2}+\sqrt{3}", r"\sqrt{5+2\sqrt{6}}", RIGHT), (r"\frac13", "0.33333", RIGHT), (r"\frac13", "0.3334", WRONG),
        # An equation with a name on one side is an equation.
        ("2x+4y-3=0", r"y = -\frac{1}{2}x + \frac{3}{4}", RIGHT), ("y=2x+1", "2x-y+1=0", RIGHT),
        ("2x+3y=6", r"y=-\frac{2}{3}x+2", RIGHT), ("2x+3y=6", r"y=-\frac{2}{3}x+3", WRONG), ("y=2x+1", "y=2x+2", WRONG),
        ("x=2", "y=2", WRONG), ("x=5", "x=6", WRONG), ("x=2", "2", RIGHT),
        # Inequalities joined by "or" are a union.
        (r"(-\infty,1)\cup(2,\infty)", r"x<1 \text{ or } x>2", RIGHT), ("x<1 or x>2", r"(-\infty,1)\cup(2,\infty)", RIGHT),
        (r"(-\infty,1)\cup(2,\infty)", r"x\le 1 \text{ or } x>2", WRONG),
        (r"(-\infty,1]\cup(2,3)", "x \\leq 1 or 2<x<3", RIGHT),
        (r"(-\infty,-2)\cup(3,\infty)", "-2>x or 3<x", RIGHT), (r"(-\infty,1)\cup(2,\infty)", "x<1 or y>2", WRONG),
        # Words around an answer are not the answer; the natural logarithm has two spellings.
        ("8", r"\text{The answer is } 8", RIGHT), ("8", r"\text{Total: } 8", RIGHT), ("8", r"\text{The answer is } 9", WRONG),
        (r"\ln 2", r"\log_e 2", RIGHT), (r"\ln 2", r"\log_{e} 2", RIGHT), (r"\ln 2", r"\log_2 e", WRONG),
    ],
)  # fmt: skip
def test_answers(grader: MathGrader, gold: str, answer: str, expected: bool) -> None:
    """Right or wrong, in both readings."""
    grade = grader.grade(f"so \\boxed{{{answer}}}", gold)

    assert (grade.strict_correct, grade.lenient_correct) == (expected, expected)


@pytest.mark.parametrize(
    "text", [r"<think>maybe \boxed{8} but let me check", "<think>a</think> no <think> the answer is 8"]
)
def test_thoughts_that_do_not_end_answer_nothing(grader: MathGrader, text: str) -> None:
    """A text that is cut off inside its thoughts is unfinished, whatever it says there."""
    grade = grader.grade(text, "8")

    assert (grade.strict_status, grade.lenient_status) == (GradeStatus.UNFINISHED, GradeStatus.UNFINISHED)
    assert grader.grade(text + r"</think> \boxed{8}", "8").strict_correct


TRIALS = sorted((SHARED_DATA.parent / "trials").glob("grader-*/cases.jsonl"))


@pytest.mark.skipif(not TRIALS, reason=f"no trials beside {SHARED_DATA}")
def test_labelled_trials(grader: MathGrader) -> None:
    """Every reported case is graded as its label says."""
    cases = [json.loads(line) for file in TRIALS for line in file.read_text().splitlines() if line.strip()]
    wrong = [
        case["id"]
        for case in cases
        if grader.grade(case["prediction"], case["gold"]).lenient_correct != case["expected"]
    ]

    assert cases and not wrong
