"""The planted passcode: where it stands, where it is asked for, and that no prompt gives it away."""

from __future__ import annotations

import re
from typing import Any

import pytest

from designspace.errors import DeclarationError
from designspace.tasks import Problem, TaskSpec


def loaded(split: str = "dev", n: int = 20, **parameters: Any) -> list[Problem]:
    """Return the first problems."""
    return TaskSpec("planted-passcode", split, n, parameters=tuple(parameters.items())).load()


@pytest.mark.parametrize("parameters", [{}, {"lines": 7, "before": 6}, {"lines": 100, "before": 1, "digits": 9}])
def test_the_passcode_stands_early_and_is_asked_for_at_the_end(parameters: dict[str, Any]) -> None:
    """Twice in the trace, once as its last word, and nowhere else; every sum is right."""
    lines, before = parameters.get("lines", 40), parameters.get("before", 2)
    for problem in loaded(**parameters):
        trace = problem.solution.split("\n")
        assert problem.answer not in problem.prompt
        assert len(problem.answer) == parameters.get("digits", 6)
        assert [i for i, line in enumerate(trace) if problem.answer in line] == [before, lines + 1]
        assert problem.solution.endswith(f"the passcode is {problem.answer}")
        sums = re.findall(r"Line (\d+): (\d+) \+ (\d+) = (\d+)\.", problem.solution)
        assert [int(n) for n, *_ in sums] == list(range(1, lines + 1))
        assert all(int(a) + int(b) == int(c) for _, a, b, c in sums)


def test_splits_share_no_passcode() -> None:
    """And problems of one split differ."""
    dev, confirm = ({p.answer for p in loaded(split)} for split in ("dev", "confirm"))
    assert len(dev) == len(confirm) == 20
    assert not dev & confirm


def test_the_passcode_stands_before_the_last_line() -> None:
    """Else nothing lies between the two."""
    with pytest.raises(DeclarationError, match="the passcode stands before the last line: before=9, lines=9"):
        loaded(lines=9, before=9)
