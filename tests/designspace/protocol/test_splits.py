"""Development and held-out problems are told apart by id and by text."""

from __future__ import annotations

import hashlib

import pytest

from designspace.protocol.splits import bucket, check_disjoint, normalised, paper_split
from designspace.tasks.chain_arithmetic import chain_arithmetic
from designspace.tasks.problem import Problem
from tests.designspace.protocol.documents import DEV, HELDOUT

TEMPLATE = "Solve this and put the answer in a box.\n\n{}\n\nThink first."


def problems(side, *texts):
    """Return problems of one side with these texts."""
    return [Problem(f"{side}-{i}", text, "") for i, text in enumerate(texts)]


def test_bucket_is_md5_modulo_five():
    """Recomputed here; the last two digits of the hash are enough, since 256 is 1 modulo 5."""
    for name in ("test/precalculus/807.json", "a", ""):
        assert bucket(name) == sum(hashlib.md5(name.encode()).digest()) % 5
    assert paper_split("test/precalculus/807.json") == "dev"
    assert bucket("a", 7) == int(hashlib.md5(b"a").hexdigest(), 16) % 7


def test_normalised_text_drops_layout_alone():
    """Case, spacing, LaTeX layout and digit grouping do not make a problem; operators and numbers do."""
    assert normalised("Find  $\\dfrac{1}{2}\\,x$.") == normalised("find $\\frac{1}{2} x$")
    assert normalised("1,000 apples") == normalised("1000 Apples") == normalised("1{,}000 apples")
    assert normalised("\\left( a+b \\right)") == normalised("(a + b)")
    assert normalised("a+b") != normalised("a-b")
    assert normalised("x^2") != normalised("x^3")
    assert normalised("(a+b)c") != normalised("a+bc")


def test_disjoint_problems_pass():
    """Generated problems of two splits use the same words and are no duplicates."""
    assert check_disjoint(DEV, HELDOUT) == []
    assert check_disjoint(chain_arithmetic("dev", 64), chain_arithmetic("confirm", 64)) == []


def test_same_id_is_found():
    """Whatever the text."""
    assert check_disjoint([Problem("a", "one thing", "")], [Problem("a", "something else", "")]) == [
        "dev 'a' and held-out 'a' have the same id"
    ]


def test_same_text_is_found_under_another_id():
    """Spelling apart."""
    found = check_disjoint(problems("d", "What is  2 + 2?"), problems("h", "what is 2+2 ?"))
    assert found == ["dev 'd-0' and held-out 'h-0' have the same text"]


@pytest.mark.parametrize(
    "text",
    [
        "Find the remainder when the product of 17 and 23 is divided by 19, please.",
        "Consider this: find the remainder when the product of 17 and 23 is divided by 19.",
        "Find the remainder when the product of 17 and 23 is divided by the number 19.",
    ],
)
def test_nearly_the_same_text_is_found(text):
    """The numbers and nearly all words agree."""
    found = check_disjoint(
        problems(
            "d", "How many primes are below 100?", "Find the remainder when the product of 17 and 23 is divided by 19."
        ),
        problems("h", text, "Compute the sum of 4 cubes."),
    )
    assert len(found) == 1
    assert "dev 'd-1' and held-out 'h-0' are nearly the same" in found[0]


@pytest.mark.parametrize(
    "text",
    [
        "Find the remainder when the product of 17 and 23 is divided by 29.",
        "Find the remainder when the product of 23 and 17 is divided by 19.",
        "A train of 17 cars passes 23 houses in 19 minutes; how long is the street?",
    ],
)
def test_other_numbers_or_words_make_another_problem(text):
    """What differs is named in the docstring of the check."""
    assert check_disjoint(
        problems("d", "Find the remainder when the product of 17 and 23 is divided by 19.", "x"), problems("h", text, "y")
    ) == []  # fmt: skip


def test_template_neither_hides_nor_makes_a_duplicate():
    """Words that all prompts of a side share count on neither."""
    one, two, three = "How many primes are below 100?", "Sum of 4 cubes of x", "Area of a disk of radius 9 in metres"
    dressed = problems("d", TEMPLATE.format(one), TEMPLATE.format(two))
    assert check_disjoint(dressed, problems("h", three, one))[0].startswith("dev 'd-0' and held-out 'h-1' are nearly")
    same = problems("h", TEMPLATE.format("Name a colour"), TEMPLATE.format("Name a prime"))
    assert check_disjoint(problems("d", TEMPLATE.format("What rhymes"), TEMPLATE.format("Who asks")), same) == []
