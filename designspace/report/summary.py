"""Boil rows down to one summary per arm, and say which arms may be compared.

Arms are compared within a group: the same model, task, split and budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any, Literal

import pyarrow as pa

from designspace.report.arm_rows import COLUMNS as COLUMNS
from designspace.report.arm_rows import NO_BUDGET as NO_BUDGET
from designspace.report.arm_rows import ArmKey, Arms, PlaceKey, arm_rows
from designspace.report.arm_rows import GroupKey as GroupKey
from designspace.statistics import Interval, accuracy_interval
from designspace.statistics.tolerance import agree

TOLERANCE = 0.02  # of realised means, within which arms count as matched

Comparison = Literal["matched", "unmatched", "reference"]


@dataclass(frozen=True)
class KindAccuracy:
    """Accuracy on one kind of problem."""

    kind: str
    n_problems: int
    accuracy: float


@dataclass(frozen=True)
class ArmSummary:
    """One arm in numbers. Rates are shares in [0, 1]; None means that there is nothing to compute it from.

    Attributes:
        accuracy: mean over problems of the share of correct generations, strict reading; graded generations only.
        extraction_rate: share of graded generations with an answer, strict reading.
        mean_cache_tokens: tokens attended per (layer, KV head), over all decode steps of all generations; so the bytes.
        steady_mean_cache_tokens: the same after the first event of each generation that had one.
        prompt_survival_union, prompt_survival_mean: mean over texts of the share of the prompt's tokens that the cache held at
            the end of the text, in at least one head of a layer and in one head; None where a row does not say.
        tokens_per_s: new tokens over the seconds in which workers were at the arm's shards, one worker's overlaps once.
        comparison: `reference` for an arm without a budget; otherwise whether its realised mean (`held`) agrees with
            `reference_held`, the median of the group, within the tolerance.
        is_off_target: whether the steady mean misses a budget that is declared as a mean by more than the tolerance.
        configuration: first digits of the arm's cell where the mechanism's name stands for several configurations; they
            are then part of `mechanism`. None: the name stands for one.
        code_ids: states of the code that made its texts, where the rows say so.
        identical_to: another arm of which every text is equal, where texts were compared; None: there is none.
    """

    model: str
    task: str
    split: str
    budget: str
    mechanism: str
    budget_tokens: int | None
    budget_of: str | None
    n_generations: int
    n_problems: int
    n_graded: int
    accuracy: float | None
    interval: Interval | None
    lenient_accuracy: float | None
    extraction_rate: float | None
    accuracy_given_extraction: float | None
    truncation_rate: float
    mean_cache_tokens: float
    steady_mean_cache_tokens: float | None
    peak_cache_tokens: float
    mean_cache_bytes: float
    mean_read_bytes: float
    mean_aux_bytes: float
    mean_n_events: float
    event_share: float
    mean_new_tokens: float
    prompt_survival_union: float | None
    prompt_survival_mean: float | None
    tokens_per_s: float | None
    comparison: Comparison
    reference_held: float | None
    is_off_target: bool
    kinds: tuple[KindAccuracy, ...]
    grader_ids: tuple[str, ...]
    configuration: str | None = None
    code_ids: tuple[str, ...] = ()
    identical_to: str | None = None

    @property
    def group(self) -> GroupKey:
        """What this arm shares with those it is compared with."""
        return GroupKey(self.model, self.task, self.split, self.budget)

    @property
    def place(self) -> PlaceKey:
        """Where this arm stands beside others."""
        return PlaceKey(self.model, self.task, self.split)

    @property
    def held(self) -> float:
        """What arms of this budget must agree in: the realised mean in tokens, or in bytes where the budget is in bytes."""
        return self.mean_cache_bytes if self.budget_of == "bytes" else self.mean_cache_tokens


def summarise(table: pa.Table, tolerance: float = TOLERANCE) -> list[ArmSummary]:
    """Summarise rows of the results store, one summary per arm, on whatever problems each has.

    Arms come by model, task and split, full cache first, then by budget, best accuracy first. Where one name stands for
    several configurations, each of them is an arm. Arms that were fed their texts are left out: they have no answers, and
    `designspace.report.fidelity.fidelity` summarises them.

    Args:
        table: rows joined with grades, as `ResultsStore.samples().to_table()` gives them; `COLUMNS` are enough.
        tolerance: relative difference of realised means up to which an arm counts as matched.

    Raises:
        StoreError: a column is missing.
    """
    return summarise_arms(written(arm_rows(table)), tolerance)


def written(arms: Arms) -> Arms:
    """Return the arms that wrote their texts: those of teacher forcing were fed them."""
    return {key: rows for key, rows in arms.items() if all(row.get("forced_of") is None for row in rows)}


def summarise_arms(arms: Arms, tolerance: float = TOLERANCE) -> list[ArmSummary]:
    """Summarise the rows of each arm; the same as `summarise` for rows that are sorted into arms already."""
    found = [_summarise_arm(key, rows, tolerance) for key, rows in arms.items()]
    return sorted(_with_comparison(found, tolerance), key=_order)


def to_json(summaries: Sequence[ArmSummary], notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return summaries and notes as plain JSON data."""
    return {"schema": 1, "arms": [asdict(arm) for arm in summaries], "notes": list(notes)}


def _summarise_arm(key: ArmKey, rows: list[dict[str, Any]], tolerance: float) -> ArmSummary:
    first, graded = rows[0], [row for row in rows if row["correct"] is not None]
    outcomes = _by_problem(graded, "correct")
    answered = [row for row in graded if row["extracted"] is not None]
    steady = _step_mean(
        [row for row in rows if row["steady_mean_cache_tokens"] is not None], "steady_mean_cache_tokens"
    )
    wall_s = _busy_s(rows)
    return ArmSummary(
        **key.group._asdict(),
        mechanism=key.name,
        budget_tokens=first["budget_tokens"],
        budget_of=first["budget_of"],
        n_generations=len(rows),
        n_problems=len({row["problem_id"] for row in rows}),
        n_graded=len(graded),
        accuracy=_problem_mean(outcomes),
        interval=accuracy_interval(outcomes) if outcomes else None,
        lenient_accuracy=_problem_mean(_by_problem(graded, "lenient_correct")),
        extraction_rate=len(answered) / len(graded) if graded else None,
        accuracy_given_extraction=sum(row["correct"] for row in answered) / len(answered) if answered else None,
        truncation_rate=sum(row["finish_reason"] == "length" for row in rows) / len(rows),
        mean_cache_tokens=_step_mean(rows, "mean_cache_tokens") or 0.0,
        steady_mean_cache_tokens=steady,
        peak_cache_tokens=max(row["peak_cache_tokens"] for row in rows),
        mean_cache_bytes=_step_mean(rows, "mean_cache_bytes") or 0.0,
        mean_read_bytes=_step_mean(rows, "mean_read_bytes") or 0.0,
        mean_aux_bytes=_step_mean(rows, "mean_aux_bytes") or 0.0,
        mean_n_events=sum(row["n_events"] for row in rows) / len(rows),
        event_share=sum(row["n_events"] > 0 for row in rows) / len(rows),
        mean_new_tokens=sum(row["n_new_tokens"] for row in rows) / len(rows),
        prompt_survival_union=_mean_of(rows, "prompt_survival_union"),
        prompt_survival_mean=_mean_of(rows, "prompt_survival_mean"),
        tokens_per_s=sum(row["n_new_tokens"] for row in rows) / wall_s if wall_s > 0 else None,
        comparison="reference",
        reference_held=None,
        is_off_target=_is_off_target(first["budget_tokens"], first["budget_of"], steady, tolerance),
        kinds=_kinds(graded),
        grader_ids=tuple(sorted({row["grader_id"] for row in graded})),
        configuration=key.configuration,
        code_ids=tuple(sorted({row["code_id"] for row in rows if "code_id" in row})),
    )


def _with_comparison(arms: list[ArmSummary], tolerance: float) -> list[ArmSummary]:
    means: dict[GroupKey, list[float]] = {}
    for arm in arms:
        if arm.budget_tokens is not None:
            means.setdefault(arm.group, []).append(arm.held)
    judged = []
    for arm in arms:
        if (
            arm.budget_tokens is None
        ):  # evicting without a budget: the cache follows from the text, whatever others hold
            judged.append(arm if arm.event_share == 0 else replace(arm, comparison="unmatched"))
            continue
        reference = median(means[arm.group])
        comparison: Comparison = "matched" if agree(arm.held, reference, tolerance) else "unmatched"
        judged.append(replace(arm, comparison=comparison, reference_held=reference))
    return judged


def _order(arm: ArmSummary) -> tuple[Any, ...]:
    accuracy = -1.0 if arm.accuracy is None else arm.accuracy
    return (*arm.group[:3], arm.budget_tokens or 0, arm.budget, -accuracy, arm.mechanism)


def _by_problem(rows: Iterable[dict[str, Any]], column: str) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {}
    for row in rows:
        found.setdefault(row["problem_id"], []).append(bool(row[column]))
    return found


def _problem_mean(outcomes: dict[str, list[bool]]) -> float | None:
    return sum(sum(values) / len(values) for values in outcomes.values()) / len(outcomes) if outcomes else None


def _mean_of(rows: Sequence[dict[str, Any]], column: str) -> float | None:
    """Return the mean of a column that rows of an earlier version lack, None where one does."""
    values = [row.get(column) for row in rows]
    return None if None in values else sum(value or 0.0 for value in values) / len(values)


def _step_mean(rows: Sequence[dict[str, Any]], column: str) -> float | None:
    n_steps = sum(row["n_steps"] for row in rows)
    if n_steps == 0:  # generations that ended with their first token have no decode step
        return sum(row[column] for row in rows) / len(rows) if rows else None
    return sum(row["n_steps"] * row[column] for row in rows) / n_steps


def _is_off_target(budget_tokens: int | None, budget_of: str | None, steady: float | None, tolerance: float) -> bool:
    if budget_tokens is None or budget_of != "mean" or steady is None:
        return False
    return not agree(steady, budget_tokens, tolerance)


def _kinds(graded: Sequence[dict[str, Any]]) -> tuple[KindAccuracy, ...]:
    found = []
    for kind in sorted({row["kind"] for row in graded}):
        outcomes = _by_problem((row for row in graded if row["kind"] == kind), "correct")
        found.append(KindAccuracy(kind, len(outcomes), _problem_mean(outcomes) or 0.0))
    return tuple(found)


def _busy_s(rows: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds that workers spent on the rows' shards: several may run through one engine at a time."""
    spans = {(row["worker"], row["started_at"].timestamp(), row["shard_wall_s"]) for row in rows}
    busy_s, until = 0.0, {worker: -math.inf for worker, _, _ in spans}
    for worker, start_s, wall_s in sorted(spans):
        busy_s += max(start_s + wall_s - max(start_s, until[worker]), 0.0)
        until[worker] = max(until[worker], start_s + wall_s)
    return busy_s
