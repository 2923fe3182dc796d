"""What the page's scripts read: tables and arms as JSON, once, in a form that no label can break out of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

from designspace.report import wording
from designspace.report.asked import Asked
from designspace.report.columns import FIDELITY_COLUMNS, Column, arm_columns
from designspace.report.evidence_html import evidence_contrasts
from designspace.report.page_contrasts import page_contrasts
from designspace.report.page_effects import page_effects
from designspace.report.study_report import StudyReport
from designspace.report.summary import ArmSummary

_Arm = TypeVar("_Arm")
# What a script element's text must not hold: `</script` would end it, `<!--` begins a comment that hides its end.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


Evidence = tuple[Mapping[str, Any], Mapping[str, Any]]  # the report of a confirmation, and the registration


def page_data(
    report: StudyReport,
    asked: Asked,
    *,
    title: str,
    against: Sequence[str] = (),
    evidence: Evidence | None = None,
    occupancy: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return plain JSON data: the tables in the order of the page, each with its arms; contrasts of arms, effects of axes.

    against: arms to hold the others against, first. evidence: of a confirmation, whose hypotheses are then the contrasts.
    occupancy: from `page_occupancy`.
    """
    tables = []
    for place, members in groupby(report.arms, key=lambda arm: arm.place):
        arms = list(members)
        table = _table(arms, arm_columns(asked.levels, arms), lambda arm: arm, asked.levels)
        tables.append({"kind": "arms", "place": place._asdict(), "heading": wording.place_heading(arms), **table})
    for place, fed in groupby(report.fidelity, key=lambda arm: arm.place):
        found = list(fed)
        table = _table(found, FIDELITY_COLUMNS, lambda arm: arm.cache, {})
        heading = wording.place_heading([arm.cache for arm in found])
        tables.append({"kind": "fidelity", "place": place._asdict(), "heading": heading, **table})
    return {
        "title": title,
        "tables": tables,
        "contrasts": page_contrasts(report, against) if evidence is None else evidence_contrasts(evidence[0]),
        "effects": page_effects(report, asked.levels),
        "occupancy": list(occupancy),
    }


def script_text(data: Mapping[str, Any]) -> str:
    """Return JSON for a script element: it holds no character that means something to HTML."""
    found = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character, escaped in _ESCAPES.items():
        found = found.replace(character, escaped)
    return found


def _table(
    arms: Sequence[_Arm],
    columns: Sequence[Column[_Arm]],
    cache: Callable[[_Arm], ArmSummary],
    levels: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    return {
        "columns": [{"key": c.key, "heading": c.heading, "first": c.at_first, "words": c.in_words} for c in columns],
        "arms": [
            {
                **_labels(cache(arm), levels),
                "shown": [column.show(arm) for column in columns],
                "values": [column.value(arm) for column in columns],
            }
            for arm in arms
        ],
    }


def _labels(arm: ArmSummary, levels: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    return {
        "name": wording.printable(arm.mechanism),
        "group": wording.budget_heading(arm),
        "budget": arm.budget,
        "budget_of": arm.budget_of,
        "comparison": arm.comparison,
        "high": None if arm.interval is None else arm.interval.high,
        "levels": {axis: of_arm[arm.mechanism] for axis, of_arm in levels.items() if arm.mechanism in of_arm},
    }
