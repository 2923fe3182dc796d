"""The report's numbers as tables: one row per arm, and one per contrast. Whatever shows a number of an arm takes it here.

Every value is an attribute of `ArmSummary` or `Contrast`, unrounded; every column says what it is, and in which unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from designspace.report.contrasts import Contrast
from designspace.report.summary import ArmSummary
from designspace.store.column_texts import ColumnText, described

_TOKENS = "tokens per layer and KV head"
_SHARE = "share, 0 to 1"
_POINTS = "percentage points"


class _Of(NamedTuple):
    """A column: how it is read off its object, and what it says."""

    name: str
    kind: pa.DataType
    unit: str
    description: str
    value: Callable[[Any], Any] | None = None  # None: the attribute of the column's name


_LABELS = (
    _Of("model", pa.string(), "", "Name of the model in the sweep."),
    _Of("task", pa.string(), "", "Name of the task."),
    _Of("split", pa.string(), "", "Part of the task's problems."),
    _Of("budget", pa.string(), "", "The budget as written in a report; 'none' for an arm without one."),
)
_F, _I, _S = pa.float64(), pa.int64(), pa.string()

_ARM = (
    *_LABELS,
    _Of("mechanism", _S, "", "Name of the arm's mechanism; with digits of its cell where the name stands for several arms."),
    _Of("accuracy", _F, _SHARE, "Right texts by the strict reading, mean over problems; null where nothing is graded."),
    _Of("accuracy_low", _F, _SHARE, "Lower end of the 95 % interval of the accuracy.", lambda a: _end(a, "low")),
    _Of("accuracy_high", _F, _SHARE, "Upper end.", lambda a: _end(a, "high")),
    _Of("lenient_accuracy", _F, _SHARE, "Right texts by the lenient reading, mean over problems."),
    _Of("extraction_rate", _F, _SHARE, "Texts in which the strict reading finds an answer."),
    _Of("accuracy_given_extraction", _F, _SHARE, "Right texts among those; it favours arms that often give no answer."),
    _Of("truncation_rate", _F, _SHARE, "Texts that were cut off at the limit of new tokens."),
    _Of("comparison", _S, "", "matched, or unmatched: its mean cache is off the median of its group. reference: no budget."),
    _Of("is_off_target", pa.bool_(), "", "Whether the steady mean misses a budget that is a mean by more than the tolerance."),
    _Of("identical_to", _S, "", "Another arm of which every text is equal; null where there is none."),
    _Of("budget_tokens", _I, _TOKENS, "The budget as a number; null without a budget."),
    _Of("budget_of", _S, "", "What the budget bounds: mean, nominal, peak or bytes."),
    _Of("mean_cache_tokens", _F, _TOKENS, "Tokens attended to, mean over all decode steps of all texts."),
    _Of("steady_mean_cache_tokens", _F, _TOKENS, "The same after the first event of each text that had one."),
    _Of("peak_cache_tokens", _F, _TOKENS, "The largest number of tokens attended to at a decode step."),
    _Of("mean_cache_bytes", _F, "bytes", "Held in a text's whole cache, mean over all decode steps."),
    _Of("mean_read_bytes", _F, "bytes per decode step", "Read from the cache by attention."),
    _Of("mean_aux_bytes", _F, "bytes", "Kept by the mechanism beside the cache."),
    _Of("reference_held", _F, "tokens or bytes", "Median mean cache of the group, in bytes for a budget in bytes."),
    _Of("event_share", _F, _SHARE, "Texts whose cache was cut."),
    _Of("mean_n_events", _F, "events per text", "How often the cache of a text was cut."),
    _Of("mean_new_tokens", _F, "tokens", "Length of a text."),
    _Of("prompt_survival_mean", _F, _SHARE, "Tokens of the prompt that a head held at the end of a text."),
    _Of("prompt_survival_union", _F, _SHARE, "Tokens of the prompt that at least one head of a layer held at the end."),
    _Of("tokens_per_s", _F, "tokens per second", "Speed of this run, other work on the machine included. Not a cost."),
    _Of("n_problems", _I, "problems", "Problems that all arms of the model and task have, and that the numbers rest upon."),
    _Of("n_generations", _I, "texts", "Texts of the arm on these."),
    _Of("n_graded", _I, "texts", "Of them graded."),
)  # fmt: skip

_CONTRAST = (
    *_LABELS,
    _Of("arm", _S, "", "The arm."),
    _Of("against", _S, "", "The arm that is subtracted from it."),
    _Of("points", _F, _POINTS, "Accuracy of the arm less that of the other, paired by problem; null where void."),
    _Of("low_points", _F, _POINTS, "Lower end of its interval; all intervals of a budget hold together with 95 % confidence."),
    _Of("high_points", _F, _POINTS, "Upper end."),
    _Of("p_value", _F, "", "Two-sided, corrected for all contrasts of the budget, as the interval is."),
    _Of("p_alone", _F, "", "The same without the correction."),
    _Of("correction", _S, "", "Of interval and p value: how, and over how many contrasts."),
    _Of("void", _S, "", "Why there is no number: memory that is not matched, or too few problems. Null where there is one."),
    _Of("memory", _S, "", "matched, or reference: the other arm has no budget, so the difference is what the budget costs."),
    _Of("n_problems", _I, "problems", "That both arms have."),
    _Of("n_better", _I, "problems", "Of them with more right texts under the arm."),
    _Of("n_worse", _I, "problems", "Of them with fewer."),
    _Of("n_comparisons", _I, "contrasts", "Contrasts of the budget that have a p value."),
    _Of("against_budget", _S, "", "Budget of the other arm: the same, or none."),
    _Of("test", _S, "", "Test of the p value."),
    _Of("interval", _S, "", "Method of the interval."),
)  # fmt: skip


def _schema(columns: Iterable[_Of]) -> pa.Schema:
    plain = pa.schema([pa.field(column.name, column.kind) for column in columns])
    return described(plain, {column.name: ColumnText(column.unit, column.description) for column in columns})


ARMS_SCHEMA = _schema(_ARM)
CONTRASTS_SCHEMA = _schema(_CONTRAST)


def arms_table(arms: Sequence[ArmSummary]) -> pa.Table:
    """Return one row per arm, in the order of the report."""
    return _table(arms, _ARM, ARMS_SCHEMA)


def contrasts_table(found: Sequence[Contrast]) -> pa.Table:
    """Return one row per contrast, in their order."""
    return _table(found, _CONTRAST, CONTRASTS_SCHEMA)


def _table(objects: Sequence[object], columns: Sequence[_Of], schema: pa.Schema) -> pa.Table:
    found = {
        column.name: [getattr(one, column.name) if column.value is None else column.value(one) for one in objects]
        for column in columns
    }
    return pa.Table.from_pydict(found, schema=schema)


def _end(arm: ArmSummary, which: str) -> float | None:
    return None if arm.interval is None else getattr(arm.interval, which)
