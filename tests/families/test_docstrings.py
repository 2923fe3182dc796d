"""What `designspace list` and `show` print of our own strategies can be read by itself."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields

import pytest

from designspace.registry import REGISTRY_AXES, catalog, kinds, strategy

ALL = [(axis, kind) for axis in REGISTRY_AXES for kind in kinds(axis)]
OURS = [(axis, kind) for axis, kind in ALL if strategy(axis, kind).__module__.startswith("families.")]
LONGEST = 120


def docstring(axis: str, kind: str) -> str:
    """Return the docstring of a kind's class."""
    return inspect.getdoc(strategy(axis, kind)) or ""


@pytest.mark.parametrize(("axis", "kind"), OURS)
def test_the_first_line_is_one_sentence(axis: str, kind: str) -> None:
    """`list` prints this line alone, among the lines of other kinds."""
    first, *others = docstring(axis, kind).split("\n")

    assert re.fullmatch(r"[A-Z].*\.", first)
    assert len(first) <= LONGEST
    assert not others or others[0] == ""
    assert not re.match(r"(The same|Likewise|Also|As above)\b", first)


@pytest.mark.parametrize(("axis", "kind"), OURS)
def test_every_parameter_is_described(axis: str, kind: str) -> None:
    """Under `Attributes`, those of the base class too: nobody should have to look for another class."""
    entries = re.findall(r"^    ((?:\w+, )*\w+): ", docstring(axis, kind).partition("Attributes:\n")[2], re.MULTILINE)
    described = [name for entry in entries for name in entry.split(", ")]

    assert sorted(described) == sorted(parameter.name for parameter in fields(strategy(axis, kind)))


@pytest.mark.parametrize(("axis", "kind"), OURS)
def test_the_source_is_cited(axis: str, kind: str) -> None:
    """In the text, by the key that the bibliography has."""
    citation = strategy(axis, kind).citation

    assert citation is None or f"[{citation}]" in docstring(axis, kind)


@pytest.mark.parametrize("name", catalog())
def test_summaries_and_choices_are_single_lines(name: str) -> None:
    """They stand in lists: no full stop, no line break."""
    system = catalog()[name]

    for text in (system.summary, *system.choices):
        assert re.fullmatch(r"[^\n]*[^\n.]", text)
        assert len(text) <= LONGEST
