"""Per-problem accuracies of cells, from the store: what tuning and axis effects compare arms by."""

from __future__ import annotations

from collections.abc import Iterable

from designspace.errors import DeclarationError
from designspace.store import ResultsStore
from sweeps.expand import Cell


def problem_means(store: ResultsStore, cells: Iterable[Cell], n_replicates: int) -> dict[str, float]:
    """Return the share of correct generations of every problem, over the cells of one arm at one budget.

    Raises:
        DeclarationError: a generation is missing or not graded: neither may pass for a wrong answer.
    """
    cells = list(cells)
    table = store.samples(["problem_id", "correct"], cell_ids={cell.cell_id for cell in cells}).to_table()
    outcomes: dict[str, list[bool]] = {}
    for row in table.to_pylist():
        if row["correct"] is None:
            raise DeclarationError(f"not graded yet, run it again: {cells[0].label()}")
        outcomes.setdefault(row["problem_id"], []).append(bool(row["correct"]))
    if not outcomes or any(len(found) != n_replicates for found in outcomes.values()):
        raise DeclarationError(f"not finished, run it first: {cells[0].label()}")
    return {problem: sum(found) / len(found) for problem, found in outcomes.items()}
