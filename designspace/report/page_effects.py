"""Effects of the axes as the page has them: what `designspace effects` says of the arms of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from designspace.report.arm_rows import GroupKey, Row
from designspace.report.study_report import StudyReport
from designspace.statistics import AxisEffect, FactorialScores, family_size, interactions, main_effects

# On one page: each effect draws signs a hundred thousand times, one for each problem.
MOST_EFFECTS, MOST_SIGNS = 120, 24_000
Levels = Mapping[str, Mapping[str, str]]


def page_effects(report: StudyReport, levels: Levels) -> dict[str, Any]:
    """Return plain JSON data: the effects of each group of arms, and how many there are no room for.

    All effects of one model, task and budget are one family, corrected together. The references are the levels of the arm that
    is declared first.

    levels: axis -> mechanism -> level, in the order of the declaration.
    """
    groups = {group: scores for group, arms in _groups(report, levels).items() if (scores := _scores(arms, levels))}
    references = {axis: next(iter(of_arm.values())) for axis, of_arm in levels.items()}
    sizes = {group: _family(scores, references) for group, scores in groups.items()}
    total = sum(sizes.values())
    n_signs = sum(size * len(groups[group].problem_ids) for group, size in sizes.items())
    if total > MOST_EFFECTS or n_signs > MOST_SIGNS:
        return {"effects": [], "n_left_out": total}
    found = [
        {**group._asdict(), **_document(effect, sizes[group], len(scores.problem_ids))}
        for group, scores in groups.items()
        if sizes[group]
        for effect in _effects(scores, references, sizes[group])
    ]
    return {"effects": found, "n_left_out": 0}


def _groups(report: StudyReport, levels: Levels) -> dict[GroupKey, dict[str, list[Row]]]:
    """Return the rows of the graded arms with a budget of which every level is known, group by group."""
    rows = {(key.group, key.name): of_arm for key, of_arm in report.rows.items()}
    groups: dict[GroupKey, dict[str, list[Row]]] = {}
    for arm in report.arms:
        is_known = bool(levels) and all(arm.mechanism in of_arm for of_arm in levels.values())
        if is_known and arm.accuracy is not None and arm.budget_tokens is not None:
            graded = [row for row in rows[arm.group, arm.mechanism] if row["correct"] is not None]
            groups.setdefault(arm.group, {})[arm.mechanism] = graded
    return groups


def _scores(arms: Mapping[str, Sequence[Row]], levels: Levels) -> FactorialScores | None:
    """Return the accuracies of arms by problem; None where they are not on the same problems, or two are composed alike."""
    cells = [tuple(of_arm[name] for of_arm in levels.values()) for name in arms]
    means = [_means(rows) for rows in arms.values()]
    problems = sorted(means[0])
    if len(arms) < 2 or len(set(cells)) < len(cells) or any(sorted(mean) != problems for mean in means):
        return None
    accuracy = np.array([[mean[problem] for problem in problems] for mean in means])
    return FactorialScores(tuple(levels), tuple(cells), tuple(problems), accuracy)


def _means(rows: Sequence[Row]) -> dict[str, float]:
    found: dict[str, list[bool]] = {}
    for row in rows:
        found.setdefault(row["problem_id"], []).append(row["correct"])
    return {problem: sum(outcomes) / len(outcomes) for problem, outcomes in found.items()}


def _family(scores: FactorialScores, references: Mapping[str, str]) -> int:
    """Return how many effects can be estimated; none where an axis lacks its reference here."""
    if any(references[axis] not in scores.levels(axis) for axis in scores.axes):
        return 0
    return family_size(scores, references)


def _effects(scores: FactorialScores, references: Mapping[str, str], size: int) -> tuple[AxisEffect, ...]:
    main = main_effects(scores, references, n_comparisons=size)
    return (*main.effects, *interactions(scores, references, n_comparisons=size).effects)


def _document(effect: AxisEffect, n_comparisons: int, n_problems: int) -> dict[str, Any]:
    pairs = zip(effect.axes, effect.levels, effect.references, strict=True)
    return {
        "name": " × ".join(f"{axis.replace('_', ' ')}: {level} over {reference}" for axis, level, reference in pairs),
        "points": 100 * effect.effect,
        "low_points": 100 * effect.family_low,
        "high_points": 100 * effect.family_high,
        "p_value": effect.p_bonferroni,
        "n_backgrounds": effect.n_backgrounds,
        "n_differing": effect.n_differing,
        "n_problems": n_problems,
        "n_comparisons": n_comparisons,
    }
