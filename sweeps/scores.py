"""Per-problem scores of cells, from the store: what tuning and axis effects compare arms by."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from designspace.axes import Mechanism
from designspace.errors import DeclarationError
from designspace.protocol.metric import MetricName, score_column
from designspace.store import ResultsStore
from sweeps.expand import Cell


def has_metric(mechanism: Mechanism, metric: MetricName) -> bool:
    """Return whether a mechanism has such a score: accuracy those that write their texts, agreement those that are fed them."""
    is_fed = mechanism.decoding is not None and mechanism.decoding.reference is not None
    return is_fed == (metric == "forced_agreement")


def problem_means(
    store: ResultsStore, cells: Iterable[Cell], n_replicates: int, metric: MetricName = "accuracy"
) -> dict[str, float]:
    """Return the mean score of every problem's generations, over the cells of one arm at one budget.

    metric: accuracy, the share of correct generations; or forced_agreement, the share of tokens that are the arm's first
    choice.

    Raises:
        DeclarationError: a generation is missing or not graded: neither may pass for a wrong answer. Or the arm has no such
            score: a text that was fed is no answer.
    """
    cells = list(cells)
    if not all(has_metric(cell.mechanism, metric) for cell in cells):
        rule = (
            "teacher-forced arms have no accuracy"
            if metric == "accuracy"
            else f"only teacher-forced arms have {metric}"
        )
        raise DeclarationError(f"{rule}, got {cells[0].mechanism.name!r}")
    return means_of(store, {cell.cell_id for cell in cells}, n_replicates, metric, label=cells[0].label())


def means_of(
    store: ResultsStore, cell_ids: Collection[str], n_replicates: int, metric: MetricName = "accuracy", *, label: str
) -> dict[str, float]:
    """Return the same of cells that are known by their ids; label: what they are called in a message.

    Raises:
        DeclarationError: a generation is missing or not graded.
    """
    column = score_column(metric)
    table = store.samples(["problem_id", column], cell_ids=cell_ids).to_table()
    outcomes: dict[str, list[float]] = {}
    for row in table.to_pylist():
        if row[column] is None:
            raise DeclarationError(f"not graded yet, run it again: {label}")
        outcomes.setdefault(row["problem_id"], []).append(float(row[column]))
    if not outcomes or any(len(found) != n_replicates for found in outcomes.values()):
        raise DeclarationError(f"not finished, run it first: {label}")
    return {problem: sum(found) / len(found) for problem, found in outcomes.items()}
