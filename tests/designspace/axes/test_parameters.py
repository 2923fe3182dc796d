"""The parameters of a strategy are checked against the annotations of its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt, MaxLen, MinLen, MultipleOf

from designspace.axes import Decoding, Scoring, Selector, Strategy
from designspace.errors import DeclarationError
from designspace.registry import REGISTRY_AXES, kinds, strategy
from families.decoding.greedy import Greedy
from families.scoring.h2o import H2O
from families.scoring.selectors.top_k import TopK
from families.scoring.snapkv import SnapKV

if TYPE_CHECKING:
    from decimal import Decimal

Width = Literal[2, 4, 8]


class Listener(Protocol):
    """A type that no instance can be checked against."""

    def hear(self) -> None:
        """Hear."""


@dataclass(frozen=True)
class Every(Strategy):
    """One parameter of every sort."""

    axis: ClassVar[str] = "cadence"
    kind: ClassVar[str] = "every"

    count: Annotated[int, Ge(1)] = 1
    above: Annotated[float, Gt(0)] = 1.0
    most: Annotated[int, Le(9)] = 1
    below: Annotated[float, Lt(9)] = 1.0
    share: Annotated[float, Ge(0), Le(1)] = 0.5
    open: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    right: Annotated[float, Le(1), Gt(0)] = 0.5
    multiple: Annotated[int, Ge(8), MultipleOf(8)] = 8
    interval: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    part: Annotated[float, Gt(0), Lt(1)] | Literal["auto", "none"] = "auto"
    limit: Annotated[int | None, Ge(0)] = None
    mode: Literal["a", "b"] = "a"
    bits: Literal[1, 2] | None = None
    text: Annotated[str, MinLen(1)] = "x"
    long: Annotated[tuple[int, ...], MinLen(2)] = (1, 2)
    on: bool = True
    pairs: tuple[tuple[Width, Width], ...] = ()
    chooser: Decoding | None = None
    names: Mapping[str, int] = field(default_factory=dict)
    listener: Listener | None = None
    anything: Any = None
    derived: int = field(default="not set by the caller", init=False)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("count", 0, "be at least 1"),
        ("count", 2.5, "be an integer"),
        ("count", 2.0, "be an integer"),
        ("count", True, "be an integer"),
        ("count", None, "be an integer"),
        ("above", 0.0, "be above 0"),
        ("above", "x", "be a number"),
        ("above", True, "be a number"),
        ("above", float("nan"), "be a finite number"),
        ("above", float("inf"), "be a finite number"),
        ("most", 10, "be at most 9"),
        ("below", 9, "be below 9"),
        ("share", 1.5, "lie in [0, 1]"),
        ("open", 0, "lie in (0, 1)"),
        ("open", 1, "lie in (0, 1)"),
        ("right", 0.0, "be at most 1 and above 0"),
        ("multiple", 12, "be at least 8 and a multiple of 8"),
        ("interval", 0, "be at least 1 or 'auto'"),
        ("interval", "often", "be an integer or 'auto'"),
        ("part", 1.0, "lie in (0, 1), be 'auto' or 'none'"),
        ("part", float("inf"), "be a finite number, 'auto' or 'none'"),
        ("limit", -1, "be at least 0 or None"),
        ("limit", 0.5, "be an integer or None"),
        ("mode", "c", "be 'a' or 'b'"),
        ("bits", 3, "be 1, 2 or None"),
        ("bits", True, "be 1, 2 or None"),
        ("bits", 2.0, "be 1, 2 or None"),
        ("text", "", "not be empty"),
        ("text", 3, "be text"),
        ("long", (1,), "have at least 2 entries"),
        ("on", 1, "be True or False"),
        ("pairs", [(2, 2)], "be a tuple"),
        ("chooser", "greedy", "be a Decoding or None"),
        ("names", [], "be a Mapping"),
    ],
)
def test_each_rule(name: str, value: object, rule: str) -> None:
    """The rule, then what was got."""
    with pytest.raises(DeclarationError) as caught:
        Every(**{name: value})  # type: ignore[arg-type]

    assert (f"{name} must {rule}, got {name}={value!r}",) == caught.value.problems


@pytest.mark.parametrize(
    ("pairs", "problems"),
    [
        (((2, 4), (8,)), ["pairs[1] must be a tuple of 2 entries, got pairs[1]=(8,)"]),
        (((2, 3), (4, True)), ["pairs[0][1] must be 2, 4 or 8, got pairs[0][1]=3",
                               "pairs[1][1] must be 2, 4 or 8, got pairs[1][1]=True"]),
    ],
)  # fmt: skip
def test_entries_of_tuples(pairs: Any, problems: list[str]) -> None:
    """Each wrong entry is named by its place."""
    with pytest.raises(DeclarationError) as caught:
        Every(pairs=pairs)

    assert problems == list(caught.value.problems)


def test_all_violations_come_at_once() -> None:
    """In the order of the fields."""
    with pytest.raises(DeclarationError) as caught:
        Every(mode="c", count=0, share=2.0)  # type: ignore[arg-type]

    assert [problem.split()[0] for problem in caught.value.problems] == ["count", "share", "mode"]


def test_values_on_the_bounds_and_of_every_type_are_accepted() -> None:
    """Integers where a float is declared, None and choices where they are named, and what cannot be checked."""
    made = Every(
        count=1, above=1, most=9, below=8, share=1, open=0.999, right=1, multiple=16, interval=1, part=0.5, limit=0,
        mode="b", bits=2, text="\n", long=(1, 2), on=False, pairs=((2, 4),), chooser=Greedy(), names={"a": 1},
        listener="no matter what", anything=print,  # type: ignore[arg-type]
    )  # fmt: skip

    assert made.part == 0.5


@dataclass(frozen=True)
class Windowed(Scoring):
    """Declares a parameter of its base anew, without bounds."""

    kind: ClassVar[str] = "windowed"

    selector: Selector = field(default=TopK())
    recent: int = field(default=8, kw_only=True)

    def score(self, view: Any) -> Any:
        """Return nothing."""


def test_bounds_of_a_base_hold_in_its_subclasses() -> None:
    """A new default does not lift them, and a narrower annotation comes first."""
    share = r"at least 0 or \{share: …\}"
    for made, rule in ((Windowed, share), (H2O, share), (SnapKV, "at least 1")):
        with pytest.raises(DeclarationError, match=rf"^recent must be {rule}, got recent=-1$"):
            made(recent=-1)
    assert Windowed(recent=0).recent == 0


@dataclass(frozen=True)
class Hidden(Strategy):
    """Its annotation names a type that is imported for type checkers only."""

    axis: ClassVar[str] = "cadence"
    kind: ClassVar[str] = "hidden"

    share: Decimal | None = None


@dataclass(frozen=True)
class Unsupported(Strategy):
    """Its annotation has a constraint that is not checked."""

    axis: ClassVar[str] = "cadence"
    kind: ClassVar[str] = "unsupported"

    name: Annotated[str, MaxLen(3)] = "x"


def test_what_cannot_be_checked_is_not_passed_over() -> None:
    """An annotation that says nothing, or something that would have no effect, is the author's mistake."""
    with pytest.raises(
        TypeError, match=r"annotations of Hidden must be resolvable.*'Decimal' is not defined.*TYPE_CHECK"
    ):
        Hidden()
    with pytest.raises(TypeError, match=r"MaxLen.* is not supported.*check it in __post_init__"):
        Unsupported()


@pytest.mark.parametrize("axis", REGISTRY_AXES)
def test_every_registered_strategy_checks_its_types(axis: str) -> None:
    """No parameter of any takes an object of a foreign type."""
    for name in kinds(axis):
        made = strategy(axis, name)
        for parameter in fields(made):
            with pytest.raises(DeclarationError, match=rf"^{parameter.name} must .*, got {parameter.name}=<object"):
                made(**{parameter.name: object()})
