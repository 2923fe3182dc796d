"""Placeholders: ids, conditions, ranges, and documents with values in their place."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from designspace.errors import DeclarationError
from sweeps.placeholders import find_space, is_placeholder, placeholder_paths, substituted
from sweeps.problems import Problems
from sweeps.space import Range, Space, checked_values, complete, first_values, grid, probes
from sweeps.yaml_document import parse_document

# Two selectors with a weight each at the same place, and a range that exists whatever is chosen.
NESTED = {
    "name": "a",
    "scoring": {
        "kind": "h2o",
        "recent": {"tune": {"low": 0, "high": 8, "step": 4}},
        "selector": {
            "tune": {
                "choices": [
                    "top-k",
                    {"kind": "diversity", "weight": {"tune": {"choices": [0.5, 1.0]}}},
                    {
                        "kind": "mmr",
                        "weight": {"tune": {"low": 0.1, "high": 0.9}},
                        "floor": {"tune": {"choices": [True, False]}},
                    },
                ]
            }
        },
    },
}


def document_of(*mechanisms: Any, **sections: Any) -> Any:
    """Return a document with these mechanisms."""
    return parse_document(json.dumps({"schema": 1, "mechanisms": list(mechanisms), **sections}), "x.yaml")


def space_of(*mechanisms: Any, **sections: Any) -> Space:
    """Return its placeholders."""
    document = document_of(*mechanisms, **sections)
    problems = Problems(document)
    space = find_space(document.data, problems)
    problems.raise_any()
    return space


def arm(placeholder: Any) -> dict[str, Any]:
    """Return a mechanism with one placeholder."""
    return {"name": "a", "scoring": {"kind": "h2o", "recent": {"tune": placeholder}}}


def test_ids_are_dotted_places_with_the_mechanisms_name_in_front() -> None:
    """Whatever a placeholder stands in, list indices included."""
    entry = {
        "name": "a",
        "base": {"tune": {"choices": ["h2o", "tova"]}},
        "cadence": {"kind": "x", "at": [1, {"tune": {"choices": [2, 3]}}]},
    }
    space = space_of("full", entry)
    assert [parameter.id for parameter in space] == ["a.base", "a.cadence.at[1]"]
    assert space[1].path == ("mechanisms", 1, "cadence", "at", 1)


def test_placeholders_of_a_choice_are_conditional_on_it() -> None:
    """They come right after it, and two choices may have one at the same place."""
    space = space_of(NESTED)
    assert [(p.id, p.condition) for p in space] == [
        ("a.scoring.recent", ()),
        ("a.scoring.selector", ()),
        ("a.scoring.selector.weight", (("a.scoring.selector", "diversity"),)),
        ("a.scoring.selector.weight", (("a.scoring.selector", "mmr"),)),
        ("a.scoring.selector.floor", (("a.scoring.selector", "mmr"),)),
    ]
    assert space[1].choices == ("top-k", "diversity", "mmr")


def test_choices_of_one_kind_are_numbered() -> None:
    """Also where a plain choice has the kind's name, and where there is no kind."""
    space = space_of(
        arm(
            {
                "choices": [
                    {"kind": "x", "a": 1},
                    {"kind": "x"},
                    {"kind": "y"},
                    "z",
                    {"kind": "z"},
                    [1, 2],
                    4,
                    None,
                    True,
                ]
            }
        )
    )
    assert space[0].choices == ("x#1", "x#2", "y", "z", "z#5", "#6", 4, None, True)


def test_a_document_gets_the_values() -> None:
    """The chosen mapping stands in the placeholder's place, its own placeholders filled in."""
    document = document_of(NESTED)
    values = {
        "a.scoring.recent": 4,
        "a.scoring.selector": "mmr",
        "a.scoring.selector.weight": 0.3,
        "a.scoring.selector.floor": False,
    }
    space = find_space(document.data, Problems(document))
    (filled,) = substituted(document, space, values).data["mechanisms"]
    assert filled == {
        "name": "a",
        "scoring": {"kind": "h2o", "recent": 4, "selector": {"kind": "mmr", "weight": 0.3, "floor": False}},
    }
    assert not list(placeholder_paths(filled))


def test_a_message_about_a_value_points_at_it() -> None:
    """A path of the filled-in document has the position of the choice, or of the bound, that stands there."""
    text = """schema: 1
mechanisms:
  - name: a
    scoring:
      tune:
        choices:
          - {kind: h2o, recent: {tune: {low: 2, high: 9}}}
          - tova
"""
    document = parse_document(text, "x.yaml")
    space = find_space(document.data, Problems(document))
    low, high, middle, other = (
        substituted(document, space, {"a.scoring": label, "a.scoring.recent": recent})
        for label, recent in (("h2o", 2), ("h2o", 9), ("h2o", 5), ("tova", 2))
    )
    recent = ("mechanisms", 0, "scoring", "recent")
    columns = [found.position(recent).column for found in (low, high, middle)]
    assert columns == [text.splitlines()[6].index(mark) + 1 for mark in ("2, high", "9}", "{tune")]
    assert (low.position(recent[:3]).line, other.position(recent[:3]).line) == (7, 8)
    assert low.position(recent, of_key=True).column == text.splitlines()[6].index("recent") + 1


def test_only_a_mapping_with_tune_is_a_placeholder() -> None:
    """A named thing that happens to have a field of that name is not."""
    assert is_placeholder({"tune": 3}) and is_placeholder({"tune": {"choices": []}, "note": 1})
    assert not any(
        map(
            is_placeholder,
            ({"kind": "x", "tune": 3}, {"name": "x", "tune": 3}, {"grid": {}, "tune": 1}, ["tune"], "tune"),
        )
    )


@pytest.mark.parametrize(
    ("low", "high", "step", "expected"),
    [
        (1, 4, None, (1, 2, 3, 4)),
        (0, 8, 4, (0, 4, 8)),
        (0.0, 1.0, 0.25, (0.0, 0.25, 0.5, 0.75, 1.0)),
        (0.1, 0.7, 0.1, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)),
        (0.1, 0.7, None, None),
    ],
)
def test_points_of_a_range(low: float, high: float, step: float | None, expected: tuple[float, ...] | None) -> None:
    """As a file would hold them: 0.1 + 0.1 + 0.1 is 0.3."""
    points = Range(low, high, step=step).points()
    assert points == expected
    assert points is None or [type(point) for point in points] == [type(point) for point in expected or ()]


def test_a_log_range_has_no_points() -> None:
    """Not even where it is of whole numbers: what even steps on that scale are is not said."""
    assert Range(1, 1024, log=True).points() is None


@given(st.integers(-50, 50), st.integers(1, 20), st.integers(1, 5), st.integers(-80, 120))
def test_a_range_accepts_its_points_and_nothing_else(low: int, n_steps: int, step: int, value: int) -> None:
    """Whole numbers and tenths alike."""
    high = low + n_steps * step
    whole, tenths = Range(low, high, step=step), Range(low / 10, high / 10, step=step / 10)
    expected = value in range(low, high + 1, step)
    assert whole.accepts(value) == expected == tenths.accepts(value / 10)
    assert not whole.accepts(low + 0.5) and not whole.accepts(True) and not whole.accepts(str(low))


def test_whole_ranges_take_whole_floats() -> None:
    """JSON may have written 4 as 4.0; the value is an integer again."""
    (parameter,) = space_of(arm({"low": 0, "high": 8}))
    checked = parameter.checked(4.0)
    assert (checked, type(checked)) == (4, int)


def test_values_are_spelt_as_in_the_file() -> None:
    """1 is the choice 1.0, but not the choice true."""
    (parameter,) = space_of(arm({"choices": [1.0, True, "1", None]}))
    found = [parameter.checked(value) for value in (1, True, "1", None)]
    assert [(value, type(value)) for value in found] == [(1.0, float), (True, bool), ("1", str), (None, type(None))]
    with pytest.raises(
        DeclarationError, match=r"a\.scoring\.recent must be one of 1\.0, true, '1', nothing, got false"
    ):
        parameter.checked(False)


def test_all_wrong_values_are_named() -> None:
    """Missing, out of range, unknown, and of a choice that was not made."""
    values = {
        "a.scoring.recent": 5,
        "a.scoring.selector": "diversity",
        "a.scoring.selector.floor": True,
        "a.scoring.selektor": 1,
    }
    with pytest.raises(DeclarationError) as caught:
        checked_values(space_of(NESTED), values)
    assert list(caught.value.problems) == [
        "a.scoring.recent must be a whole number from 0 to 8 in steps of 4, got 5",
        "a value for a.scoring.selector.weight is missing",
        "nothing to tune is called 'a.scoring.selector.floor' (did you mean 'a.scoring.selector'?)",
        "nothing to tune is called 'a.scoring.selektor' (did you mean 'a.scoring.selector'?)",
    ]


def test_a_grid_has_every_combination_once() -> None:
    """Against the product written out by hand, choice by choice."""
    nested = json.loads(json.dumps(NESTED).replace('"high": 0.9', '"high": 0.9, "step": 0.4'))
    recent, selector = "a.scoring.recent", "a.scoring.selector"
    expected = []
    for size in (0, 4, 8):
        expected.append({recent: size, selector: "top-k"})
        expected += [{recent: size, selector: "diversity", f"{selector}.weight": w} for w in (0.5, 1.0)]
        expected += [
            {recent: size, selector: "mmr", f"{selector}.weight": w, f"{selector}.floor": floor}
            for w, floor in product((0.1, 0.5, 0.9), (True, False))
        ]
    assert list(grid(space_of(nested))) == expected


def test_a_grid_needs_points() -> None:
    """A range without steps has none."""
    with pytest.raises(DeclarationError, match=r"a\.scoring\.recent must have choices or steps"):
        list(grid(space_of(arm({"low": 0.0, "high": 1.0}))))


def test_every_choice_and_both_ends_are_tried() -> None:
    """Each with what it is conditional on, the rest at first values."""
    space = space_of(NESTED)
    tried = [(parameter.id, values[parameter.id]) for parameter, values in probes(space)]
    weight = "a.scoring.selector.weight"
    assert tried[:5] == [("a.scoring.recent", 0), ("a.scoring.recent", 8)] + [
        ("a.scoring.selector", label) for label in ("top-k", "diversity", "mmr")
    ]
    assert tried[5:] == [(weight, 0.5), (weight, 1.0), (weight, 0.1), (weight, 0.9)] + [
        ("a.scoring.selector.floor", floor) for floor in (True, False)
    ]
    assert all(checked_values(space, values) == values for _, values in probes(space))


def test_first_values_leave_out_what_does_not_exist() -> None:
    """The first selector has no weight."""
    space = space_of(NESTED)
    assert first_values(space) == {"a.scoring.recent": 0, "a.scoring.selector": "top-k"}
    assert complete(space, {"a.scoring.selector": "mmr"})["a.scoring.selector.weight"] == 0.1


def test_a_parameter_as_plain_data() -> None:
    """What a registration says of it: contents beside labels, conditions."""
    space = space_of(NESTED)
    assert space[0].document() == {
        "id": "a.scoring.recent",
        "low": 0,
        "high": 8,
        "log": False,
        "step": 4,
        "condition": [],
    }
    assert space[1].document()["contents"][1] == {"kind": "diversity", "weight": {"tune": {"choices": [0.5, 1.0]}}}
    assert space[4].document()["condition"] == [["a.scoring.selector", "mmr"]]
    assert json.loads(json.dumps([parameter.document() for parameter in space]))
