"""Any frozen dataclass works as a strategy's schema, also one from another package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest

from designspace.axes import Strategy, WindowShare
from designspace.errors import DeclarationError
from families.scoring.h2o import H2O
from families.scoring.vatp import VATP
from sweeps.problems import Problems
from sweeps.strategies import build_strategy
from sweeps.yaml_document import Document


@dataclass(frozen=True)
class Odd(Strategy):
    """Parameters with every sort of type, and names that pydantic keeps for itself."""

    axis: ClassVar[str] = "cadence"
    kind: ClassVar[str] = "odd"

    schema: int
    copy: float = 0.5
    offsets: tuple[int, ...] = (1, 2)
    limit: int | None = None
    mode: Literal["a", "b"] | int = "a"
    names: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        """Refuse two things at once."""
        if self.schema < 0:
            raise DeclarationError(["schema must be at least 0", "and not odd"])


@pytest.fixture
def problems(monkeypatch: pytest.MonkeyPatch) -> Problems:
    """An empty list of problems, with `odd` registered."""
    monkeypatch.setattr("sweeps.strategies.strategy", lambda axis, kind: Odd)
    return Problems(Document("x.yaml", "", {}, {}, {}))


def found(problems: Problems) -> list[str]:
    """Return what was noted, without positions."""
    with pytest.raises(DeclarationError) as caught:
        problems.raise_any()
    return [problem.removeprefix("x.yaml:1:1: ") for problem in caught.value.problems]


def test_lists_become_tuples_and_integers_floats(problems: Problems) -> None:
    """A frozen dataclass must hash."""
    data = {"kind": "odd", "schema": 3, "copy": 1, "offsets": [4, 5], "names": ["x"], "mode": 7}
    built: Any = build_strategy("cadence", data, ("c",), problems)
    assert built == Odd(3, 1.0, (4, 5), None, 7, names=("x",))
    assert (isinstance(built.copy, float), hash(built)) == (True, hash(built))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"schema": "x"}, ["c.schema: must be an integer, got 'x'"]),
        ({}, ["c.schema: required field is missing"]),
        ({"schema": 1, "offsets": [1, "x"]}, ["c.offsets[1]: must be an integer, got 'x'"]),
        ({"schema": 1, "offsets": 3}, ["c.offsets: must be a list, got 3"]),
        ({"schema": 1, "mode": "c"}, ["c.mode: must be 'a' or 'b' or an integer, got 'c'"]),
        ({"schema": 1, "copy": True}, ["c.copy: must be a number, got true"]),
        ({"schema": 1, "limit": 1.0}, ["c.limit: must be an integer, got 1.0"]),
        ({"schema": -1}, ["c: schema must be at least 0", "c: and not odd"]),
        ({"schema": 1, "shema": 1}, ["c.shema: unknown field (did you mean 'schema'?)"]),
        (
            {"copi": 2, "schema": ""},
            ["c.copi: unknown field (did you mean 'copy'?)", "c.schema: must be an integer, got ''"],
        ),
    ],
)
def test_problems_name_the_parameter(problems: Problems, data: dict[str, Any], expected: list[str]) -> None:
    """Strict types, unknown names, and the strategy's own rules."""
    assert build_strategy("cadence", {"kind": "odd", **data}, ("c",), problems) is None
    assert sorted(expected) == sorted(found(problems))


@pytest.mark.parametrize(("recent", "expected"), [({"share": 0.5}, H2O(recent=WindowShare(0.5))), (8, H2O(recent=8))])
def test_a_window_is_a_number_or_a_mapping(recent: Any, expected: H2O) -> None:
    """`recent: {share: 0.5}`."""
    problems = Problems(Document("x.yaml", "", {}, {}, {}))
    assert build_strategy("scoring", {"kind": "h2o", "recent": recent}, ("s",), problems) == expected
    nested = {"kind": "vatp", "sinks": 4, "scoring": {"kind": "h2o", "recent": recent}}
    assert build_strategy("scoring", nested, ("s",), problems) == VATP(sinks=4, scoring=expected)
    assert not problems


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"recent": {"share": 2}}, ["s.recent: share must lie in (0, 1), got share=2.0"]),
        (
            {"recent": {"shre": 0.5}},
            ["s.recent.share: required field is missing", "s.recent.shre: unknown field (did you mean 'share'?)"],
        ),
        (
            {"recent": {"share": "half"}, "sinks": "x"},
            ["s.recent.share: must be a number, got 'half'", "s.sinks: must be an integer, got 'x'"],
        ),
        ({"recent": "half"}, ["s.recent: must be an integer or a mapping, got 'half'"]),
        ({"kind": "snapkv", "recent": {"share": 0.5}}, ["s.recent: must be an integer, got a mapping"]),
    ],
)
def test_problems_of_a_window_have_its_place(data: dict[str, Any], expected: list[str]) -> None:
    """All of them, those of other parameters too."""
    problems = Problems(Document("x.yaml", "", {}, {}, {}))
    assert build_strategy("scoring", {"kind": "h2o", **data}, ("s",), problems) is None
    assert sorted(expected) == sorted(found(problems))
