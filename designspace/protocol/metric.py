"""What a study compares arms by: the score of a generation, and the figures that stand beside an effect.

The scores lie in [0, 1], so that every test, margin and power calculation of the protocol holds for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from designspace.report.arm_rows import FORCED
from designspace.report.fidelity import ArmFidelity, fidelity
from designspace.report.summary import ArmSummary, GroupKey, summarise

MetricName = Literal["accuracy", "forced_agreement"]
METRICS: tuple[MetricName, ...] = ("accuracy", "forced_agreement")

# The column of a generation's score: whether its answer is right, or the share of the tokens of a fed text that are the
# arm's first choice.
_SCORE = {"accuracy": "correct", "forced_agreement": "forced_agreement"}


@dataclass(frozen=True)
class ArmFigures:
    """One arm of a study.

    Attributes:
        memory: the arm's cache, by which it is matched.
        shown: what stands beside an effect, as plain JSON data.
    """

    memory: ArmSummary
    shown: dict[str, Any]


def score_column(metric: str) -> str:
    """Return the column of the results store that holds a generation's score; null where it has none yet."""
    return _SCORE[metric]


def metric_columns(metric: str) -> tuple[str, ...]:
    """Return the columns that a metric needs beside those of every summary."""
    return FORCED if metric == "forced_agreement" else ()


def figures_of(metric: str, table: pa.Table, tolerance: float) -> dict[tuple[GroupKey, str], ArmFigures]:
    """Return every arm among the rows that has such a metric, by its group and its name.

    Args:
        metric: one of `METRICS`.
        table: rows joined with their grades, at least one.
        tolerance: relative, of realised means.
    """
    found: Iterable[ArmFigures]
    if metric == "forced_agreement":
        found = (ArmFigures(arm.cache, _agreement(arm)) for arm in fidelity(table, tolerance))
    else:
        found = (ArmFigures(arm, _accuracy(arm)) for arm in summarise(table, tolerance))
    return {(arm.memory.group, arm.memory.mechanism): arm for arm in found}


def _accuracy(arm: ArmSummary) -> dict[str, Any]:
    return {
        "accuracy": arm.accuracy,
        "accuracy_low": None if arm.interval is None else arm.interval.low,
        "accuracy_high": None if arm.interval is None else arm.interval.high,
        "extraction_rate": arm.extraction_rate,
        "accuracy_given_extraction": arm.accuracy_given_extraction,
        "lenient_accuracy": arm.lenient_accuracy,
        "mean_new_tokens": arm.mean_new_tokens,
        "truncation_rate": arm.truncation_rate,
    }


def _agreement(arm: ArmFidelity) -> dict[str, Any]:
    return {
        "agreement": arm.agreement,
        "agreement_low": arm.agreement_interval.low,
        "agreement_high": arm.agreement_interval.high,
        "loss_over_full": arm.loss_over_full,
        "undisturbed": arm.undisturbed,
        "mean_new_tokens": arm.cache.mean_new_tokens,
    }
