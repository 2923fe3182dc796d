"""Paired contrasts as the page has them: every arm against each of some others, for a reader to choose from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from designspace.errors import UnknownName
from designspace.report import wording
from designspace.report.contrasts import Contrast, contrasts
from designspace.report.study_report import StudyReport

# On one page, which takes some ten seconds of one core: with one text per problem the test is a formula, with several of them
# it draws signs a hundred thousand times.
MOST_CONTRASTS, MOST_DRAWN_CONTRASTS = 1500, 120
MOST_PAIRS = 1_000_000  # of all contrasts together, one for each problem
COLUMNS = (
    "model", "task", "split", "budget", "arm", "against", "points", "low_points", "high_points", "p_value", "n_problems",
    "n_better", "n_worse", "n_comparisons", "void",
)  # fmt: skip


def page_contrasts(report: StudyReport, against: Sequence[str] = ()) -> dict[str, Any]:
    """Return plain JSON data: rows of contrasts, and how many arms none is held against.

    Args:
        report: of `study_report` or `table_report`.
        against: arms to hold the others against whatever there is room for; those that there is room for come after them.

    Raises:
        UnknownName: the report has no arm of that name.
    """
    names = _held_against(report)
    for name in against:
        if name not in names:
            raise UnknownName("arm", name, names)
    n_each = max(1, sum(arm.accuracy is not None for arm in report.arms))
    chosen = list(dict.fromkeys((*against, *names)))
    most = MOST_DRAWN_CONTRASTS if any(arm.n_graded > arm.n_problems for arm in report.arms) else MOST_CONTRASTS
    most = min(most, MOST_PAIRS // max((arm.n_problems for arm in report.arms), default=1))
    kept = chosen[: max(len(against), most // n_each, 1)]
    rows = [_row(found) for name in kept for found in contrasts(report, name)]
    return {"columns": COLUMNS, "rows": rows, "n_left_out": len(chosen) - len(kept)}


def _held_against(report: StudyReport) -> list[str]:
    """Return the graded arms: references first, then those that are in the most groups, each in the order of the report."""
    graded = [arm for arm in report.arms if arm.accuracy is not None]
    references = {arm.mechanism for arm in graded if arm.comparison == "reference"}
    n_groups = Counter(arm.mechanism for arm in graded)
    return sorted(n_groups, key=lambda name: (name not in references, -n_groups[name]))


def _row(found: Contrast) -> list[Any]:
    values = {**found.document(), "arm": wording.printable(found.arm), "against": wording.printable(found.against)}
    return [round(value, 6) if isinstance(value, float) else value for value in (values[name] for name in COLUMNS)]
