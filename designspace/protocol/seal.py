"""A seal: hashes of the texts, figures and grades of every cell, by which rows that change later are told, and where.

What a second run of the same cells changes (times, workers, attempts) is left out, and so is what is null, so that a column
which a later version adds breaks no seal.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError
from designspace.store.schema import GRADE_COLUMNS, ROW_KEY

VERSION = 1
_PASSING = ("study", "wall_s", "shard_wall_s", "attempt", "worker", "started_at", "look_sha256")
_TEXTS = ("prompt", "text")
_LABEL = ("model", "task", "split", "mechanism", "budget", "replicate")
_PARTS = ("texts", "figures", "grades")
_NAMED = 5  # cells that are named

Row = Mapping[str, Any]


def seal_of(table: pa.Table) -> dict[str, Any]:
    """Return the seal of rows of the results store joined with their grades, as plain JSON data."""
    cells = {cell: _sealed(rows) for cell, rows in _by_cell(table).items()}
    return {"version": VERSION, "rows": table.num_rows, "sha256": _sha256(cells), "cells": cells}


def missing_rows(seal: Mapping[str, Any], cell_ids: Sequence[str]) -> int:
    """Return how many sealed rows are gone; cell_ids: the cell of every row that is there."""
    counts: dict[str, int] = defaultdict(int)
    for cell in cell_ids:
        counts[cell] += 1
    return sum(max(sealed["rows"] - counts[cell], 0) for cell, sealed in seal["cells"].items())


def broken_seal(seal: Mapping[str, Any], table: pa.Table) -> list[str]:
    """Return where rows differ from those that were sealed, in words; empty if nowhere. Rows of other cells do not count."""
    found = _by_cell(table)
    broken = [
        line for cell, sealed in seal["cells"].items() for line in _differences(cell, sealed, found.get(cell, []))
    ]
    more = [f"and {len(broken) - _NAMED} cells more"] if len(broken) > _NAMED else []
    return [*broken[:_NAMED], *more]


def require_seal(seal: Mapping[str, Any], table: pa.Table, sealed_by: str) -> None:
    """Raise ProtocolError, naming what differs, unless the rows are those that were sealed; sealed_by: says where."""
    broken = broken_seal(seal, table)
    if broken:
        raise ProtocolError(
            "\n".join([f"the rows must be those that {sealed_by} sealed, but were changed since:", *broken])
        )


def _differences(cell: str, sealed: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[str]:
    label = f"{', '.join(str(rows[0][name]) for name in _LABEL)} (cell {cell[:16]})" if rows else f"cell {cell[:16]}"
    if len(rows) != sealed["rows"]:
        yield f"{label}: {sealed['rows']} rows were sealed, {len(rows)} are there"
        return
    now = _sealed(rows)
    changed = [what for what in _PARTS if now[what] != sealed[what]]
    if changed:
        yield f"{label}: the {' and the '.join(changed)} are not those that were sealed"


def _by_cell(table: pa.Table) -> dict[str, list[Row]]:
    plain = [name for name in table.column_names if name not in (*_PASSING, "cache_tokens_per_step")]
    rows = table.select(plain).to_pylist()
    cells: dict[str, list[Row]] = defaultdict(list)
    for row, course in zip(rows, _courses(table), strict=True):
        cells[row["cell_id"]].append({**row, "cache_tokens_per_step": course})
    return {
        cell: sorted(found, key=lambda row: [row[name] for name in ROW_KEY]) for cell, found in sorted(cells.items())
    }


def _courses(table: pa.Table) -> Iterator[str]:
    """Yield a hash of each row's cache size over the steps: as JSON, these numbers would be most of what is hashed."""
    for course in table["cache_tokens_per_step"]:
        numbers = np.asarray(course.values if course.is_valid else [], dtype="<f4")
        yield hashlib.sha256(numbers.tobytes()).hexdigest()


def _sealed(rows: Sequence[Row]) -> dict[str, Any]:
    return {"rows": len(rows), **{part: _sha256([_part(row, part) for row in rows]) for part in _PARTS}}


def _part(row: Row, part: str) -> dict[str, Any]:
    """Return the values of a row that belong to a part, and what names the row."""
    return {
        name: value for name, value in row.items() if value is not None and (name in ROW_KEY or _part_of(name) == part)
    }


def _part_of(column: str) -> str:
    return "grades" if column in GRADE_COLUMNS else ("texts" if column in _TEXTS else "figures")


def _sha256(data: Any) -> str:
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()
