"""Paired contrasts: every arm of a group less one chosen arm, on the problems that both solved or failed.

The arms ran on the same problems, and a paired test uses that, where the overlap of two intervals does not. A contrast whose
arms held different amounts of memory is void, by the rule that also holds for a registered study: it has no number at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from designspace.errors import DeclarationError, UnknownName
from designspace.report.arm_rows import NO_BUDGET, ArmKey, GroupKey, Row
from designspace.report.matched_memory import budget_faults, memory_record
from designspace.report.study_report import StudyReport
from designspace.report.summary import ArmSummary, summarise_arms
from designspace.statistics import PairedScores, UnpairedScores, bonferroni, pair, paired_test
from designspace.statistics.permutation import chance_of_one_sign

ALPHA = 0.05  # of all contrasts of a group together
FULL_CACHE = "full"
ReportRows = Mapping[tuple[GroupKey, str], Sequence[Row]]  # by group and name of the arm


@dataclass(frozen=True)
class Contrast:
    """One arm less the arm it is held against. Differences are in points: percentage points of accuracy.

    Attributes:
        model, task, split, budget: of the arm.
        arm: name of its mechanism.
        against: name of the other arm.
        against_budget: of the other arm: the same budget, or `none` for a reference.
        memory: `matched`: both held the same mean cache within the tolerance. `reference`: the other arm has no budget and was
            never cut, so the difference is what the budget costs. None: void.
        n_problems: that both have, and that the numbers below rest upon.
        n_better, n_worse: problems in which the arm has a larger or smaller share of right texts.
        points: mean difference over problems; this and all below are None where the contrast is void.
        low_points, high_points: ends of its interval. All intervals of a group hold together with 95 % confidence.
        p_value: two-sided, corrected for the contrasts of the group just as the interval is.
        p_alone: the same before the correction.
        test, interval: registered name of the test, and method of the interval.
        n_comparisons: contrasts of the group that have a p value: what is corrected for.
        correction: how, in words.
        void: why there is no number; None where there is one.
    """

    model: str
    task: str
    split: str
    budget: str
    arm: str
    against: str
    against_budget: str
    memory: Literal["matched", "reference"] | None = None
    n_problems: int = 0
    n_better: int | None = None
    n_worse: int | None = None
    points: float | None = None
    low_points: float | None = None
    high_points: float | None = None
    p_value: float | None = None
    p_alone: float | None = None
    test: str | None = None
    interval: str | None = None
    n_comparisons: int = 0
    correction: str | None = None
    void: str | None = None

    @property
    def group(self) -> GroupKey:
        """What the arm shares with the others of its family."""
        return GroupKey(self.model, self.task, self.split, self.budget)

    @property
    def is_significant(self) -> bool:
        """Whether the corrected p value is at most 5 %."""
        return self.p_value is not None and self.p_value <= ALPHA

    def document(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)


def contrasts(report: StudyReport, against: str | None = None, *, arms: Iterable[str] | None = None) -> list[Contrast]:
    """Return the contrasts of a report against one arm, group by group, in the order of its arms.

    The contrasts of a group (one model, task, split and budget) are one family: intervals and p values are corrected
    (Bonferroni) for as many of them as have a p value. They rest on the rows of the report, so a difference is that of
    the accuracies in its table.

    Args:
        report: of `study_report` or `table_report`.
        against: name of the arm to subtract. It is looked for in each group, then among the arms without a budget. None
            takes `default_against`: the full cache, where there is one.
        arms: names of the arms to contrast; None takes all others. Fewer contrasts are corrected for less.

    Raises:
        UnknownName: the report has no arm of that name.
        DeclarationError: none is named, and there is no full cache.
    """
    names = list(dict.fromkeys(arm.mechanism for arm in report.arms))
    name = default_against(report) if against is None else against
    if name is None:
        raise DeclarationError(f"contrasts need an arm to hold the others against; name one of {', '.join(names)}")
    wanted = names if arms is None else list(arms)
    for asked in (name, *wanted):
        if asked not in names:
            raise UnknownName("arm", asked, names)
    groups: dict[GroupKey, list[ArmSummary]] = {}
    for arm in report.arms:
        groups.setdefault(arm.group, []).append(arm)
    rows = {(key.group, key.name): of_arm for key, of_arm in report.rows.items()}
    found: list[Contrast] = []
    for group, members in groups.items():
        other = _other(report, group, name)
        if other is None and group.budget == NO_BUDGET:
            continue  # beside an arm with a budget: those have no group of their own to be contrasted in
        of_group = [arm for arm in members if arm.mechanism in wanted and arm is not other]
        found += _family([_paired(rows, report.tolerance, arm, other, name) for arm in of_group])
    return found


def default_against(report: StudyReport) -> str | None:
    """Return the arm that shows what is reached if nothing is evicted; None where there is none, or several may be meant."""
    names = sorted({arm.mechanism for arm in report.arms if arm.comparison == "reference"})
    return names[0] if len(names) == 1 else FULL_CACHE if FULL_CACHE in names else None


def _other(report: StudyReport, group: GroupKey, name: str) -> ArmSummary | None:
    """Return the arm of a name in a group, or else without a budget in the same place."""
    at_hand = {arm.group: arm for arm in report.arms if arm.mechanism == name}
    return at_hand.get(group) or at_hand.get(group._replace(budget=NO_BUDGET))


def _paired(
    report_rows: ReportRows, tolerance: float, arm: ArmSummary, other: ArmSummary | None, name: str
) -> tuple[Contrast, PairedScores | None]:
    """Return the contrast of two arms before it is tested, and their scores; None where it is void."""
    found = Contrast(*arm.group, arm.mechanism, name, arm.budget if other is None else other.budget)
    if other is None:
        return replace(found, void=f"there is no {name} at budget {arm.budget}"), None
    rows = [_graded(report_rows[side.group, side.mechanism]) for side in (arm, other)]
    shared = {row["problem_id"] for row in rows[0]} & {row["problem_id"] for row in rows[1]}
    found = replace(found, n_problems=len(shared))
    if (void := _too_few(shared, rows)) is not None:
        return replace(found, void=void), None
    sides = [_on(side, of_side, shared, tolerance) for side, of_side in zip((arm, other), rows, strict=True)]
    if (void := _unmatched(sides[0], sides[1], tolerance)) is not None:
        return replace(found, void=void), None
    try:
        scores = pair(*(_by_problem(of_side, shared) for of_side in rows))
    except UnpairedScores as error:
        return replace(found, void=str(error)), None
    differences = scores.differences
    tried = replace(
        found,
        memory="matched" if other.budget_tokens is not None else "reference",
        n_better=int((differences > 0).sum()),
        n_worse=int((differences < 0).sum()),
    )
    return tried, scores


def _family(pairs: Sequence[tuple[Contrast, PairedScores | None]]) -> list[Contrast]:
    """Return the contrasts of one group, with intervals and p values corrected for as many as are tested."""
    m = sum(scores is not None for _, scores in pairs)
    return [contrast if scores is None else _tested(contrast, scores, m) for contrast, scores in pairs]


def _tested(contrast: Contrast, scores: PairedScores, m: int) -> Contrast:
    tested = paired_test(scores, level=1 - ALPHA / m)
    return replace(
        contrast,
        points=_points(tested.effect),
        low_points=_points(tested.low),
        high_points=_points(tested.high),
        p_value=bonferroni([tested.p_value], m, ALPHA).adjusted[0],
        p_alone=tested.p_value,
        test=tested.test,
        interval=tested.interval,
        n_comparisons=m,
        correction=f"Bonferroni over {m} contrasts" if m > 1 else "none: one contrast",
    )


def _points(share: float) -> float:
    """Return a difference of shares in percentage points; 0.55 less 0.825 is -27.5, whatever binary fractions make of it."""
    return round(100 * share, 10)


def _graded(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of the problems of which every text is graded."""
    rows = list(rows)
    open_ = {row["problem_id"] for row in rows if row["correct"] is None}
    return [row for row in rows if row["problem_id"] not in open_]


def _too_few(shared: set[str], rows: Sequence[Sequence[Row]]) -> str | None:
    if not all(rows):
        return "not every text is graded, so there is no accuracy to compare"
    least = chance_of_one_sign(len(shared)) if shared else 1.0
    if least <= ALPHA:
        return None
    n = "no problem" if not shared else "1 problem" if len(shared) == 1 else f"{len(shared)} problems"
    return f"the arms share {n}: no outcome on so few has a p value below {min(1.0, least):.2g}"


def _on(side: ArmSummary, rows: Sequence[Row], shared: set[str], tolerance: float) -> ArmSummary:
    """Return an arm's summary on the shared problems, which in most reports is the one that it has."""
    if side.n_problems == len(shared):
        return side
    key = ArmKey(*side.group, side.mechanism)
    (found,) = summarise_arms({key: [row for row in rows if row["problem_id"] in shared]}, tolerance)
    return found


def _unmatched(arm: ArmSummary, other: ArmSummary, tolerance: float) -> str | None:
    """Return why two arms must not be compared, None if they may."""
    if other.budget_tokens is not None:
        budget = {"tokens": arm.budget_tokens, "of": arm.budget_of}
        return "; ".join(memory_record(arm, other, budget, tolerance)["faults"]) or None
    if other.event_share > 0:
        return f"{other.mechanism} evicts without a budget, so its cache follows from the text"
    if arm.budget_tokens is None:
        return None
    target = arm.budget_tokens if arm.budget_of == "mean" else None
    return "; ".join(budget_faults(arm, target, tolerance)) or None


def _by_problem(rows: Iterable[Row], shared: set[str]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["problem_id"] in shared:
            found.setdefault(row["problem_id"], []).append(float(row["correct"]))
    return found
