"""The page has the effects of axes that `designspace effects` has, and says where there are too many."""

from __future__ import annotations

import pytest

from designspace.report import table_report
from designspace.report.page_effects import page_effects

LEVELS = {
    "scoring": {"a-none": "a", "b-none": "b", "a-kept": "a", "b-kept": "b"},
    "protect": {"a-none": "none", "b-none": "none", "a-kept": "prompt", "b-kept": "prompt"},
}


@pytest.fixture
def report(make_table):
    """Two by two arms on eight problems: b is better by half of the problems, and a kept prompt by a quarter for a alone."""
    n_right = {"a-none": 2, "b-none": 6, "a-kept": 4, "b-kept": 6}
    rows = [
        {"mechanism": name, "problem_id": f"p{i}", "correct": i < n} for name, n in n_right.items() for i in range(8)
    ]
    full = {"mechanism": "full", "budget": "none", "budget_tokens": None, "budget_of": None, "n_events": 0}
    return table_report(make_table(*rows, *({**full, "problem_id": f"p{i}"} for i in range(8))))


def test_effects_are_averages_over_the_other_axes(report):
    """By hand; all of them are one family. The first declared arm's levels are the references."""
    found = page_effects(report, LEVELS)

    assert found["n_left_out"] == 0
    assert {effect["name"]: effect["points"] for effect in found["effects"]} == {
        "scoring: b over a": 37.5,
        "protect: prompt over none": 12.5,
        "scoring: b over a × protect: prompt over none": -25.0,
    }
    for effect in found["effects"]:
        assert (effect["model"], effect["budget"], effect["n_problems"], effect["n_comparisons"]) == (
            "pocket",
            "48",
            8,
            3,
        )
        assert effect["low_points"] <= effect["points"] <= effect["high_points"]
        assert effect["n_backgrounds"] == (1 if "×" in effect["name"] else 2)


def test_there_is_none_without_a_declaration_or_with_one_arm(report):
    """Nor where an axis lacks the level that it is compared with."""
    assert page_effects(report, {})["effects"] == []
    assert page_effects(report, {"scoring": {"a-none": "a"}})["effects"] == []
    absent = {axis: {"gone": "other", **of_arm} for axis, of_arm in LEVELS.items()}
    assert page_effects(report, absent)["effects"] == []


def test_arms_composed_alike_have_no_factorial(report):
    """Their difference is in nothing that an axis says."""
    alike = {"scoring": dict.fromkeys(LEVELS["scoring"], "a") | {"b-none": "b"}}
    assert page_effects(report, alike)["effects"] == []


def test_too_many_are_left_out_and_counted(report, monkeypatch):
    """A page is made in seconds."""
    monkeypatch.setattr("designspace.report.page_effects.MOST_EFFECTS", 2)
    assert page_effects(report, LEVELS) == {"effects": [], "n_left_out": 3}
