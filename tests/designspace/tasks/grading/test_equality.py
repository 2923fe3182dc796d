r"""Equivalence: a table of pairs that graders get wrong, decided with gold and answer in this order."""

from fractions import Fraction

import pytest

from designspace.tasks.grading import MathGrader
from designspace.tasks.grading.equality import Number, compare, parse_number
from designspace.tasks.grading.sandbox import Sandbox

EQUAL = [
    # numbers, exact
    ("33", "033"), ("1000000", "1,000,000"), ("1000000", "1 000 000"), ("12345678", r"12\,345\,678"),
    ("10000", "10{,}000"), ("10080", r"10,\!080"), ("-1000", "-1,000"), ("0.1", ".1"), ("5", "5."), ("5", "+5"),
    ("0.5", r"\frac{1}{2}"), ("-0.5", r"-\frac12"), ("3.5", r"3\frac{1}{2}"), ("1500", r"1.5 \times 10^{3}"),
    ("0.025", "2.5e-2"), (r"\frac{1}{3}", "0.333333"), ("326.5", "326.50000000000006"), ("-1/2", "−½"), ("16", "2⁴"),
    ("5.5", "5 1/2"), ("1/3", r"0.\overline{3}"), ("30", r"\approx 30"), ("7", r"\color{red}{7}"),
    # percent, currency, units, degrees
    (r"28\%", "28"), ("0.28", r"28\%"), (r"28\%", "28 percent"), ("10", r"\$10"), ("18", "$18.00"), ("72", "72 °"),
    (r"45^\circ", r"45 \text{ degrees}"), ("5", r"5\ \text{cm}^2"), ("5", "5 m²"), ("5", "5cm"), ("5", r"5\mathrm{~m}"),
    (r"10\text{ units}", "10"), (r"5\sqrt{2}", r"5\sqrt{2}\text{ cm}"),
    # spelling of expressions
    (r"\frac{3}{4}i", r"\frac34i"), ("x^2+2x+1", "(x+1)**2"), (r"\sqrt{3}-1", "-1 + sqrt(3)"), ("3", "√9"),
    (r"1+2\pi", "1 + 2π"), (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"), ("720", "6!"), ("1024", "2^{10}"),
    (r"\binom{5}{2}", "10"), (r"\ln 2", r"\ln(2)"), ("6-5i", "-5i+6"), ("2^{9999}", r"2 \cdot 2^{9998}"),
    (r"2024^{4046}", r"2024^{4046}"), ("|x|", "abs(x)"), ("(2+i)(2-i)", "5"), (r"\frac{1}{1+i}", r"\frac{1-i}{2}"),
    ("55", r"\sum_{n=1}^{10} n"),
    (r"3\sqrt{13}", r"3\sqrt 13"), (r"\frac{1}{2}", r"\\frac{1}{2}"),
    # names and equations
    ("2", "x=2"), ("x=2", "2"), ("2=x", "x=2"), ("5", r"\angle ABC = 5^\circ"), ("42", "$6 \\cdot 7 = 42$"),
    ("y = 2x+3", "2x+3"), ("y=mx+b", "mx+b=y"), ("f(x)=1", "1"), ("(p,q)=(3,2)", "(3,2)"), ("2x+3y=5", "4x+6y=10"),
    # sets, tuples, intervals, relations, matrices
    (r"\{1,2,3\}", "3, 1, 2"), ("1,-2", "x = 1 or x = -2"), ("1,2,3", "1, 2, and 3"), (r"\pm 3", "3, -3"),
    ("(1,2),(2,1)", "(2,1), (1,2)"), (r"(-\infty,3]", r"x \leq 3"), ("x>2", r"(2,\infty)"), ("x>2", "2<x"),
    (r"[2,5)\cup(7,9)", r"(7,9) \cup [2,5)"), (r"x\in[-2,7]", "[-2,7]"), ("3:4", "3:4"), (r"\emptyset", r"\varnothing"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}"),
    ("-2", r"\begin{vmatrix}1&2\\3&4\end{vmatrix}"), ("60", "60 km/h"), ("12", "12 in."), ("y <= 10", "y ≤ 10"),
    # words and options
    (r"\text{Evelyn}", "Evelyn"), (r"\text{east}", "East"), ("yes", "Yes."), (r"\text{(B)}", "B"), ("B", r"\text{B}"),
    ("C", r"\text{(C) } 12"), ("12", r"\textbf{(C)}\ 12"), (r"\text{4:30 p.m.}", r"4:30\text{ PM}"),
    ("4210_{5}", "4210_5"), ("4210_{5}", "4210"),
]  # fmt: skip

UNEQUAL = [
    ("33", "34"), ("12", "1.2"), ("12", "(1,2)"), ("12", "1 2"), ("12", "1,23"), ("100000000000", "99999999999"),
    (r"\frac{1}{3}", "0.33"), ("0.0000672", ".0000671"), ("10^{-7}", "0.0000002"), ("2", "2.0000001"), ("1", "1.0001"),
    ("28", r"27\%"), ("6", r"\sqrt{6}"), (r"5\sqrt{2}", "7.07"), ("3", "3!"), ("a-b", "b-a"), ("k", "2k"),
    ("i", "-i"), ("6-5i", "6+5i"),
    ("x", "y"),
    ("x=5", "y=5"), ("2x+z=1", "1"), ("[1,2]", "(1,2)"), ("(0,9)", "[0,9)"), ("(1,2)", "(2,1)"), (r"\{1,2,3\}", "1,2"),
    ("1,-2", "-2"), (r"\pm 3", "3"), ("3", r"\pm 3"), ("2", "2, 3"), (r"x\geq 5", r"x\leq 5"), ("3:4", "4:3"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"), (r"\text{Evelyn}", "Angela"),
    (r"\text{odd}", r"\text{even}"), (r"\text{(B)}", "(C)"), ("E", r"\mathrm{E}*2"), ("d", r"\text{E}"), ("0", "None"),
    ("1", "True"), ("4210_{5}", "4211_5"), ("42_8", "42_9"), ("12:00", "1:00"), (r"\text{4:30 p.m.}", "4:30 a.m."),
    ("5", "1/0"), (r"\infty", r"\frac{1}{0}"), ("5", ""), ("5", "$"), ("5", r"\text{}"), ("5", "{"), ("5", r"\frac{5"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_the_same_answer_in_another_spelling_is_equal(gold: str, answer: str, grader: MathGrader) -> None:
    """Units, percent signs, layout, order of sets and algebraic form do not change an answer."""
    assert compare(gold, answer, grader.sandbox).outcome == "equal"


@pytest.mark.parametrize(("gold", "answer"), UNEQUAL)
def test_a_near_miss_is_unequal(gold: str, answer: str, grader: MathGrader) -> None:
    """Answers built from the same symbols, rounded or reordered, stay apart."""
    assert compare(gold, answer, grader.sandbox).outcome == "unequal"


HOSTILE = [
    "9^{9^{9^{9}}}", "9^9^9^9", "9^{9^9}", "2^{99999999999}", "(10^9)!", "100000000!", "(((1000!)!)!)!",
    r"\binom{1000000000}{500000000}", r"\sum_{i=1}^{100000000} i", "9" * 900, "1" * 1_000_000,
    "(" * 400 + "1" + ")" * 400,
    r"\frac{1}{" * 100 + "2" + "}" * 100, "x" * 2000, "+".join(["x"] * 3000),
]  # fmt: skip


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda answer: answer[:24])
def test_an_astronomical_answer_is_refused_without_a_child(answer: str) -> None:
    """Towers, factorials and endless strings are turned down before anything is started."""
    with Sandbox() as sandbox:
        assert compare("5", answer, sandbox).outcome == "unequal"
        assert sandbox.n_spawned == 0


@pytest.mark.parametrize(
    ("gold", "answer"), [("33", "033"), ("1/2", "0.5"), ("7", "8"), ("B", "(B)"), ("x^2", "x^{2}")]
)
def test_numbers_and_equal_strings_need_no_child(gold: str, answer: str) -> None:
    """Most gradings never start the sandbox."""
    with Sandbox() as sandbox:
        compare(gold, answer, sandbox)

        assert sandbox.n_spawned == 0


def test_numbers_are_read_exactly() -> None:
    """A number is a Fraction with its percent sign and the decimals it shows."""
    assert Number(Fraction(1, 10), False, 1) == parse_number("0.1")
    assert Number(Fraction(-7, 2), False, None) == parse_number(r"-\frac{7}{2}")
    assert Number(Fraction(28), True, 0) == parse_number(r"28\%")


@pytest.mark.parametrize(
    "text", ["", "x", "1/0", "1e", "--5", "1.2.3", r"\frac{1}{0}", "0x10", "1_000", "٣", "9" * 5000]
)
def test_what_is_no_plain_number_is_left_to_others(text: str) -> None:
    """Malformed, huge and foreign numerals are not numbers here."""
    assert parse_number(text) is None
