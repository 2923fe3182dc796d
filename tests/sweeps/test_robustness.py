"""Whatever stands in the file, the answer is a sweep or a list of problems, never a traceback."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.errors import DeclarationError
from sweeps.spec import parse_sweep
from tests.sweeps.conftest import declaration

WORDS = [
    *(
        "name",
        "kind",
        "base",
        "grid",
        "illegal",
        "skip",
        "scoring",
        "head_routing",
        "cadence",
        "representation",
        "decoding",
    ),
    *(
        "selector",
        "snapkv",
        "full",
        "never",
        "every-k",
        "k",
        "auto",
        "kivi",
        "bits",
        "pyramid",
        "ada-kv",
        "floor",
        "hysteresis",
    ),
    *(
        "triattention",
        "diversity",
        "weight",
        "tokens",
        "of",
        "mean",
        "nominal",
        "model",
        "task",
        "budget",
        "mechanism",
        "split",
    ),
    *(
        "dev",
        "problems",
        "path",
        "hub",
        "revision",
        "temperature",
        "rows",
        "count",
        "root",
        "chain-arithmetic",
        "math500",
        "",
    ),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 200)
    | st.sampled_from([10**30, 10**400, -(10**400)])
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=4)
)
DATA = st.recursive(
    SCALARS,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(WORDS), children, max_size=4),
    max_leaves=10,
)
ENTRY = st.sampled_from(["models", "tasks", "budgets", "mechanisms", "exclude"])


def check(data: Any) -> None:
    """Parse, and insist on the form of every problem."""
    # YAML writes what JSON calls NaN and Infinity as .nan and .inf.
    text = re.sub(
        r"(?<![\w\"])(-?)(?:Infinity|NaN)", lambda m: ".nan" if "N" in m[0] else f"{m[1]}.inf", json.dumps(data)
    )
    problems: tuple[str, ...] = ()
    try:
        parse_sweep(text, "x.yaml")
    except DeclarationError as error:
        problems = error.problems or ("no problem given",)
    assert [problem for problem in problems if not re.match(r"x\.yaml:\d+:\d+: .", problem)] == []


@settings(max_examples=300, deadline=None)
@given(ENTRY, st.lists(DATA, min_size=1, max_size=3))
def test_any_entries(section: str, entries: list[Any]) -> None:
    """One section of a sound sweep is replaced."""
    check(declaration(**{section: entries}))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*declaration(), "exclude"]), DATA))
def test_any_sections(changes: dict[str, Any]) -> None:
    """Whole sections are replaced."""
    check({**declaration(), **changes})


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"%#@`,? \n\t1.~<=\\\x00\u2028\ufeff"), max_size=40))
def test_any_text(text: str) -> None:
    """Syntax errors of every sort."""
    with pytest.raises(DeclarationError) as caught:
        parse_sweep(text, "x.yaml")
    for problem in caught.value.problems:
        assert re.match(r"x\.yaml:\d+:\d+: .", problem), problem
