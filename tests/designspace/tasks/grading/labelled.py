"""Labelled examples of the shipped graders, for the conformance kit."""

from __future__ import annotations

from typing import Any, NamedTuple

from designspace.tasks.grading import (
    ChoiceGrader,
    CodeGrader,
    ContainsGrader,
    ExactGrader,
    Grader,
    IntegerGrader,
    MathGrader,
    RegexGrader,
)


class Labelled(NamedTuple):
    """A grader and its examples."""

    grader: Grader
    right: list[tuple[str, str]]
    wrong: list[tuple[str, str]]
    silent: list[str]
    bad_golds: list[str]

    def arguments(self) -> dict[str, Any]:
        """Return what `check_grader` takes by name."""
        return {"right": self.right, "wrong": self.wrong, "silent": self.silent, "bad_golds": self.bad_golds}


EXAMPLES = [
    Labelled(
        ContainsGrader(),
        right=[("They are 12 and then 345.", '["345","12"]'), ("DOG", "dog"), ("<think>no</think> 7", '["7"]')],
        wrong=[("They are 12.", '["345","12"]'), ("cat", "dog")],
        silent=["", " "],
        bad_golds=["", "[]", '["a",""]'],
    ),
    Labelled(
        ContainsGrader("any"),
        right=[("They are 12.", '["345","12"]'), ("12 and 345", '["345","12"]')],
        wrong=[("They are 13.", '["345","12"]')],
        silent=[""],
        bad_golds=[""],
    ),
    Labelled(
        MathGrader(),
        right=[(r"so \boxed{\frac{1}{2}}", "0.5"), (r"\boxed{033}", "33"), (r"\boxed{(1,2)}", "(1, 2)")],
        wrong=[(r"\boxed{34}", "33"), ("it may be 7", "8")],
        silent=["it is 33", "nothing to say"],
        bad_golds=["", r"\boxed{1", "{"],
    ),
    Labelled(
        IntegerGrader(),
        right=[(r"\boxed{033}", "33"), (r"\boxed{1,024.0}", "1024"), (r"\boxed{-5}", "-5"), (r"\boxed{\$18}", "18")],
        wrong=[(r"\boxed{33.5}", "33"), (r"\boxed{33\%}", "33"), ("34 is it", "33"), (r"\boxed{x}", "33")],
        silent=["it is 33", "nothing to say"],
        bad_golds=["", "1.5", "a dozen", "1/2"],
    ),
    Labelled(
        ChoiceGrader(),
        right=[
            ("The answer is (B).", "B"),
            (r"\boxed{\text{B}}", "(B) Paris"),
            (r"\boxed{paris}", "(B) Paris"),
            ("**Answer:** B", "B"),
            ("The correct answer is **(B) Paris**", "(B) Paris"),
            ("Answer: B) Paris, because it is.", "B"),
            ("The answer is Paris.", "B. Paris"),
            ("The correct option is b", "B"),
        ],
        wrong=[
            ("The answer is (C).", "B"),
            ("The answer is A good thing", "A"),
            ("The answer is Berlin.", "(B) Paris"),
            (r"\boxed{C}", "(B) C4"),
        ],
        silent=["I think it is (B)", "B", "nothing to say"],
        bad_golds=["", "Berlin", "12", "(B"],
    ),
    Labelled(
        ExactGrader(),
        right=[("Answer: New  York!", "new york"), (r"\boxed{\text{Oslo}}", "Oslo"), ("Oslo", "oslo")],
        wrong=[("Answer: Old York", "new york"), ("New\nYork", "new york")],
        silent=["first line\nsecond line"],
        bad_golds=["", " .,"],
    ),
    Labelled(
        ExactGrader(case=True),
        right=[("Answer: DNA", "DNA")],
        wrong=[("Answer: dna", "DNA")],
        silent=["one\ntwo"],
        bad_golds=[""],
    ),
    Labelled(
        RegexGrader(r"=> (\S+)"),
        right=[("x => 3 then => 07", "7"), ("=> Oslo", "oslo")],
        wrong=[("=> 8", "7"), ("7", "7")],
        silent=["7", ""],
        bad_golds=["", "  "],
    ),
    Labelled(CodeGrader(), right=[], wrong=[], silent=[], bad_golds=[]),
]
