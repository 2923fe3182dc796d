"""Arms are compared on the problems that all of them have: an arm of 8 problems says nothing beside one of 16."""

from __future__ import annotations

from dataclasses import dataclass

from designspace.report.arm_rows import ArmKey, Arms, PlaceKey, Row


@dataclass(frozen=True)
class CommonProblems:
    """The problems of one place: those that all its arms have, and those that only some have."""

    place: PlaceKey
    n_arms: int
    n_common: int
    n_left_out: int


def on_common_problems(arms: Arms) -> tuple[Arms, list[CommonProblems]]:
    """Return the rows of the problems that all arms of a place have, and how many these are, place by place.

    An arm that is graded has the problems of which all its texts are graded. Where no problem is common, the rows stay
    as they are: nothing can be compared, and whoever shows them must say so.
    """
    places: dict[PlaceKey, list[ArmKey]] = {}
    for key in arms:
        places.setdefault(key.place, []).append(key)
    kept: Arms = {}
    found = []
    for place, keys in places.items():
        sets = [_problems(arms[key]) for key in keys]
        common, everything = set.intersection(*sets), set.union(*(_all_problems(arms[key]) for key in keys))
        found.append(CommonProblems(place, len(keys), len(common), len(everything - common)))
        for key in keys:
            kept[key] = [row for row in arms[key] if row["problem_id"] in common] if common else arms[key]
    return kept, found


def _problems(rows: list[Row]) -> set[str]:
    if all(row["correct"] is None for row in rows):
        return _all_problems(rows)
    return _all_problems(rows) - {row["problem_id"] for row in rows if row["correct"] is None}


def _all_problems(rows: list[Row]) -> set[str]:
    return {row["problem_id"] for row in rows}
