r"""Extraction: which part of a text is the answer, and when there is none."""

import time

import pytest

from designspace.tasks.grading import Extraction, extract_lenient, extract_strict

STRICT = [
    (r"It is \boxed{5}.", ("boxed", "5")),
    (r"\boxed{\frac{1}{2}}", ("boxed", r"\frac{1}{2}")),
    (r"First \boxed{5}, no: \boxed{6}.", ("boxed", "6")),
    (r"\boxed{033}", ("boxed", "033")),
    (r"\boxed{\text{(A)}}", ("boxed", r"\text{(A)}")),
    (r"\boxed {8}", ("boxed", "8")),
    (r"\boxed{\{1,2\}}", ("boxed", r"\{1,2\}")),
    (r"\boxed{\left\{1,2\right.}", ("boxed", r"\left\{1,2\right.")),
    (r"\boxed{x = \boxed{7}}", ("boxed", r"x = \boxed{7}")),
    (r"\\boxed{\\frac{1}{2}}", ("boxed", r"\frac{1}{2}")),
    ("\\boxed{1 +\n2}", ("boxed", "1 +\n2")),
    (r"}}}{{{ \boxed{9}", ("boxed", "9")),
    (r"\boxed{}", ("boxed", "")),
    (r"<think>\boxed{3}</think> so \boxed{4}", ("boxed", "4")),
    (r"<think>a</think>\boxed{3}</think> so 4", ("none", None)),
    (r"<think>still thinking, maybe \boxed{3}", ("unfinished", None)),
    (r"First \boxed{5}, then \boxed{\frac{1", ("unfinished", None)),
    (r"So the answer is \boxed", ("unfinished", None)),
    (r"\boxed{5\}", ("unfinished", None)),
    (r"I shall put it into \boxed later: 5", ("none", None)),
    (r"\boxed 5", ("none", None)),
    (r"\fbox{5}", ("none", None)),
    ("The answer is 5.", ("none", None)),
    ("", ("none", None)),
]


@pytest.mark.parametrize(("text", "expected"), STRICT)
def test_strict_reads_the_last_balanced_box_and_nothing_else(text: str, expected: tuple[str, str | None]) -> None:
    """The strict reading is the last balanced box after the thinking, or no answer."""
    assert Extraction(*expected) == extract_strict(text)  # type: ignore[arg-type]


LENIENT = [
    (r"The answer is 4, so \boxed{5}. The answer is 6.", ("boxed", "5")),
    ("The answer is 5 or so. No: the answer is 6.", ("marker", "6")),
    ("Final Answer: The final answer is $3\\sqrt{2}$. I hope it is correct.", ("marker", "$3\\sqrt{2}$")),
    ("**Answer:** 12", ("marker", "12")),
    ("**Final Answer**\n\n$12$", ("number", "$12$")),
    ("The answer is therefore 12.", ("marker", "12")),
    ("The answer is 1.2.", ("marker", "1.2")),
    ("The answer is 12 because of the 3 rules given above.", ("marker", "12")),
    ("The answer is $1$ and $2$.", ("marker", "$1$ and $2$")),
    ("Final Answer: The largest $n$ is 34.", ("marker", "34")),
    ("Thus, the correct option is B.", ("marker", "B")),
    ("so 5 + 5 = 10\nA: 85", ("marker", "85")),
    ("so 5 + 5 = 10\n#### 1,234", ("marker", "1,234")),
    ("She sells 9 eggs, so she makes $18 every day.", ("number", "$18")),
    ("One gets (1/2) / (3/4), and the chance is 2/3. <|im_start|>user", ("number", "2/3")),
    ("5 - 8 comes to -3.", ("number", "-3")),
    ("Hence we conclude that $x > 5$ is the solution.", ("number", "$x > 5$")),
    ("The roots are $1$ and $2$.", ("number", "$1$ and $2$")),
    ("This increases by 100%.", ("number", "100%")),
    (r"\frac{1}{2}", ("number", r"\frac{1}{2}")),
    ("odd $n$", ("number", "odd $n$")),
    ("It is -3.", ("number", "-3")),
    ("June 20", ("number", "June 20")),
    ("There is nothing to be found in here.", ("none", None)),
    ("<think>It is 7</think>", ("none", None)),
    (r"First \boxed{5}, then \boxed{\frac{1", ("unfinished", None)),
    (r"\boxed{12 and now it is broken. The final answer is 13.", ("marker", "13")),
    ("It equals $3 + 4 = 7$, and further $5^{2} + 6", ("none", None)),
    ("\\begin{align*} x &= 3 + 4 \\\\ &= 7", ("none", None)),
]


@pytest.mark.parametrize(("text", "expected"), LENIENT)
def test_lenient_falls_back_to_markers_then_to_the_last_number(text: str, expected: tuple[str, str | None]) -> None:
    """Box, then marker, then last number; and nothing from a text cut off inside a formula."""
    assert Extraction(*expected) == extract_lenient(text)  # type: ignore[arg-type]


HUGE = {
    "digits": "1" * 1_000_000,
    "spaces": " " * 1_000_000,
    "braces": "{" * 1_000_000,
    "dollars": "$" * 1_000_000,
    "lines": "a\n" * 500_000,
    "commas": "1," * 500_000,
    "boxes": r"\boxed{" * 140_000,
    "closed boxes": r"\boxed{1}" * 110_000,
    "nested boxes": r"\boxed{" * 70_000 + "}" * 70_000,
    "markers": "the answer is " * 70_000,
    "backslashes": "\\" * 1_000_000,
    "brackets": r"\[" * 500_000,
    "stars": "answer" + "*" * 1_000_000,
    "minus": "- " * 500_000,
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_text_is_read_in_no_time(name: str) -> None:
    """A million characters of anything cost a few seconds at most."""
    started_s = time.monotonic()
    extract_strict(HUGE[name])
    extract_lenient(HUGE[name])

    assert time.monotonic() - started_s < 5
