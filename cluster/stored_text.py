"""Find one stored text by the names of its problem and its arm, and the cell that made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from cluster.study_record import with_rows_of
from designspace.errors import DeclarationError, StoreError, UnknownName
from designspace.protocol.showing import COLUMNS as SHOWN_BY
from designspace.protocol.showing import shown_rows
from designspace.report.declared import newest_document
from designspace.report.summary import NO_BUDGET
from designspace.store import ResultsStore
from sweeps.expand import Cell, expand
from sweeps.spec import load_sweep, parse_sweep

CHOICES = ("study", "model", "task", "split", "budget", "replicate")  # by which one of several texts is singled out
_NAMES = (*CHOICES, "mechanism", "problem_id", "cell_id", "shard_id")
_COLUMNS = (*_NAMES, "token_ids", "prompt_token_ids", "worker", "correct")

Row = dict[str, Any]


def named_text(store: ResultsStore, problem_id: str, mechanism: str, choice: Mapping[str, Any]) -> Row:
    """Return what names one text: its labels, its cell and its shard. Nothing that was written or graded is read.

    Args:
        store: the results.
        problem_id: which problem.
        mechanism: which arm, by its name.
        choice: values of `CHOICES` that single out one text of several. An arm without a budget has its texts at any.

    Raises:
        UnknownName: there is no such problem, arm or choice.
        DeclarationError: several texts answer to the names; the message says what tells them apart.
    """
    rows: list[Row] = store.samples(_NAMES).to_table().to_pylist()
    for name, wanted in {"problem_id": problem_id, "mechanism": mechanism, **choice}.items():
        known = {str(row[name]) for row in rows}
        fitting = {str(wanted), NO_BUDGET} if name == "budget" else {str(wanted)}
        if not fitting & known:
            raise UnknownName(name.removesuffix("_id"), str(wanted), sorted(known))
        rows = [row for row in rows if str(row[name]) in fitting]
    rows = _as_declared(store, rows)
    if len(rows) > 1:
        raise DeclarationError(
            f"{len(rows)} texts are of {mechanism!r} on problem {problem_id!r}, so say which: {_differing(rows)}"
        )
    return rows[0]


def stored_text(store: ResultsStore, named: Row) -> tuple[Row, tuple[str, ...]]:
    """Return the row of one text, and what was noted of the look at it where its problem is held out.

    named: of `named_text`. No other text of the folder is looked at.

    Raises:
        StoreError: the text may not be shown yet, or its tokens are not stored.
    """
    columns = list(dict.fromkeys([*_COLUMNS, *SHOWN_BY]))
    of_cell = store.samples(columns, cell_ids={named["cell_id"]}).to_table()
    wanted = pc.and_(
        pc.equal(of_cell["problem_id"], named["problem_id"]), pc.equal(of_cell["replicate"], named["replicate"])
    )
    shown = shown_rows(store.root, of_cell.filter(wanted), "trace")
    if not shown.table.num_rows:
        raise StoreError("this text is of a confirmation whose result is not sealed yet, so it is not shown")
    (row,) = shown.table.to_pylist()
    if row["token_ids"] is None or row["prompt_token_ids"] is None:
        raise StoreError(f"the tokens of this text are not stored, for an earlier version made it: {store.root}")
    return row, tuple(shown.notes)


def cell_of(store: ResultsStore, row: Row, sweep: str | Path | None) -> Cell:
    """Return the cell that made a row, from the sweep file, or from the sweep's text in the results where none is named.

    Relative paths in the stored text start at the working folder.

    Raises:
        StoreError: the results hold no such text, or the sweep has no such cell.
        DeclarationError: the sweep is not valid.
    """
    if sweep is not None:
        declared = load_sweep(sweep)
    else:
        documents = store.studies().get(row["study"], [])
        source = newest_document(store, documents).get("source") if documents else None
        if source is None:
            raise StoreError(f"{store.root} does not hold the text of the sweep, so name the file (--sweep)")
        declared = parse_sweep(source, f"<study {row['study']}>")
    for cell in expand(with_rows_of(declared, store)):
        if cell.cell_id == row["cell_id"]:
            return cell
    raise StoreError(
        f"the sweep has no cell {row['cell_id'][:16]}, which made the text of {row['mechanism']} at {row['budget']} on "
        f"{row['model']}: the sweep, the model, the data or the engine's version are others now (--sweep names the file "
        "that made it)"
    )


def _as_declared(store: ResultsStore, rows: list[Row]) -> list[Row]:
    """Return the rows of the cells that their studies have now; all, where that leaves none.

    A study that was extended has made a problem's text in several cells, which nothing but their ids tells apart.
    """
    studies = store.studies()
    documents = [newest_document(store, studies[name]) for name in {row["study"] for row in rows} if name in studies]
    declared = {cell["cell_id"] for document in documents for cell in document.get("cells", ())}
    return [row for row in rows if row["cell_id"] in declared] or rows


def _differing(rows: list[Row]) -> str:
    """Return the options that tell rows apart."""
    values = {name: sorted({str(row[name]) for row in rows}) for name in CHOICES}
    return "; ".join(f"--{name} {' or '.join(found)}" for name, found in values.items() if len(found) > 1)
