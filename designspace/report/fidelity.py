"""Arms that were fed a text instead of writing one: how far they are from the full cache, token by token.

Such an arm has no answers, so it has no accuracy, and it is never in one table or one comparison with arms that write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

import pyarrow as pa

from designspace.report.arm_rows import Arms, PlaceKey, Row, arm_rows
from designspace.report.summary import TOLERANCE, ArmSummary, summarise_arms, written
from designspace.statistics.intervals import Interval, cluster_bootstrap


@dataclass(frozen=True)
class ArmFidelity:
    """One teacher-forced arm in numbers; means are over problems, intervals cover 95 % and resample problems.

    Attributes:
        cache: the arm's labels and its cache, which are those of any arm; no text of it is graded.
        of: what it was fed, `full` or `solution`.
        loss_over_full: log-probability of the text under the full cache less that under the arm, in nats per token.
        agreement: share of tokens that are the arm's first choice.
        undisturbed: share of texts of which every token is.
        first_disagreement: median over texts of the index of the first token that is not the arm's first choice, counted from
            0; a text without one counts as long as it is.
    """

    cache: ArmSummary
    of: str
    loss_over_full: float
    loss_interval: Interval
    agreement: float
    agreement_interval: Interval
    undisturbed: float
    first_disagreement: float

    @property
    def place(self) -> PlaceKey:
        """Where this arm stands beside others."""
        return self.cache.place

    def document(self) -> dict[str, Any]:
        """Return plain JSON data, without what only arms that write have."""
        cache = {name: value for name, value in asdict(self.cache).items() if name not in _OF_ANSWERS}
        return {**cache, **{name: value for name, value in asdict(self).items() if name != "cache"}}


_OF_ANSWERS = (
    "n_graded", "accuracy", "interval", "lenient_accuracy", "extraction_rate", "accuracy_given_extraction", "kinds",
    "grader_ids", "identical_to", "truncation_rate",
)  # fmt: skip


def fed(arms: Arms) -> Arms:
    """Return the arms whose texts were fed; `written` returns all others."""
    others = written(arms)
    return {key: rows for key, rows in arms.items() if key not in others}


def fidelity(table: pa.Table, tolerance: float = TOLERANCE) -> list[ArmFidelity]:
    """Return the teacher-forced arms among the rows of a results store, each on whatever problems it has.

    Args:
        table: as for `summarise`, with the columns that begin with `forced_`.
        tolerance: relative difference of realised means up to which an arm counts as matched.

    Raises:
        StoreError: a column is missing.
    """
    return fidelity_of(fed(arm_rows(table)), tolerance)


def fidelity_of(arms: Arms, tolerance: float = TOLERANCE) -> list[ArmFidelity]:
    """Summarise teacher-forced arms: by place and budget, the smallest loss first."""
    names = {(key.group, key.name): rows for key, rows in arms.items()}
    found = [_fidelity(cache, names[cache.group, cache.mechanism]) for cache in summarise_arms(arms, tolerance)]
    return sorted(found, key=_order)


def by_problem(rows: Sequence[Row], column: str) -> dict[str, float]:
    """Return the mean of a column over each problem's texts."""
    values: dict[str, list[float]] = {}
    for row in rows:
        values.setdefault(row["problem_id"], []).append(row[column])
    return {problem: fmean(values[problem]) for problem in sorted(values)}


def _fidelity(cache: ArmSummary, rows: Sequence[Row]) -> ArmFidelity:
    loss, agreement = (list(by_problem(rows, f"forced_{name}").values()) for name in ("loss_over_full", "agreement"))
    firsts = [row["forced_first_disagreement"] for row in rows]
    return ArmFidelity(
        cache=cache,
        of=", ".join(sorted({row["forced_of"] for row in rows})),
        loss_over_full=fmean(loss),
        loss_interval=cluster_bootstrap(loss),
        agreement=fmean(agreement),
        agreement_interval=cluster_bootstrap(agreement),
        undisturbed=firsts.count(None) / len(firsts),
        first_disagreement=median(
            row["n_new_tokens"] if first is None else first for row, first in zip(rows, firsts, strict=True)
        ),
    )


def _order(found: ArmFidelity) -> tuple[Any, ...]:
    cache = found.cache
    return (*cache.place, cache.budget_tokens or 0, cache.budget, found.loss_over_full, cache.mechanism)
