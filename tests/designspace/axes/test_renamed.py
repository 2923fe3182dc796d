"""A method that was renamed is not ignored in silence."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from designspace.axes import Cadence, Decoding, Representation, Schedule, Scoring, Strategy, Tracker
from designspace.axes.renamed import SCHEDULE_METHODS, STRATEGY_METHODS, TRACKER_METHODS
from families.cadence.every_k import EveryKSchedule
from families.decoding.wrapped_decoding import Wrapping

BASES: dict[str, list[type]] = {
    "refusal": [Strategy, Scoring, Cadence], "objection": [Strategy, Representation], "fold": [Representation],
    "cue": [Decoding, Wrapping], "completed": [Decoding, Wrapping], "settle": [Tracker],
    "pacer": [Schedule, EveryKSchedule],
}  # fmt: skip


def method(self: object, *args: object) -> None:
    """Do nothing."""


@pytest.mark.parametrize(
    ("former", "present"), [*STRATEGY_METHODS.items(), *TRACKER_METHODS.items(), *SCHEDULE_METHODS.items()]
)
def test_a_former_name_is_refused_with_the_present_one(former: str, present: str) -> None:
    """When the class is made, on every axis that has the method."""
    for base in BASES[former]:
        with pytest.raises(TypeError, match=rf"Mine defines {former}\(\), which is called {present}\(\) now"):
            type("Mine", (base,), {former: method})
        assert type("Mine", (base,), {present: method}).__mro__[1] is base


def test_a_mixin_and_a_base_are_looked_into() -> None:
    """A former name from elsewhere, and one above which the present name is defined already."""
    mixin = type("Mixin", (), {"cue": method})
    present = type("Present", (Decoding,), {"format_prompt": method})
    for bases, own in (((mixin, Decoding), {}), ((present,), {"cue": method})):
        with pytest.raises(TypeError, match="rename it"):
            type("Mine", bases, own)


def test_names_that_mean_nothing_there_are_free() -> None:
    """Methods of other axes, both names in one class, and what is no method."""
    made: list[Any] = [
        type("Mine", (Scoring,), {"fold": method, "cue": method, "settle": method}),
        type("Mine", (Representation,), {"fold": method, "merge_evicted": method}),
        type("Mine", (Representation,), {"fold": 3, "__annotations__": {"fold": int, "kind": ClassVar[str]}}),
        type("Mine", (type("Both", (Decoding,), {"cue": method, "format_prompt": method}),), {"format_prompt": method}),
    ]

    assert all(issubclass(kind, Strategy) for kind in made)
