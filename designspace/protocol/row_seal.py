"""A seal: hashes of the texts, figures and grades of every shard, by which rows that change later are told, and where.

What a second run of the same cells changes (times, workers, attempts) is left out, and so is what is null, so that a column
which a later version adds breaks no seal.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError
from designspace.store.distinct_rows import distinct_rows
from designspace.store.schema import GRADE_COLUMNS, ROW_KEY

VERSION = 1
_PARTS = ("texts", "figures", "grades")
_TEXTS = ("prompt", "text")
_PASSING = ("study", "wall_s", "shard_wall_s", "attempt", "worker", "started_at", "look_sha256")
_COURSE = "cache_tokens_per_step"
_LABEL = ("model", "task", "split", "mechanism", "budget", "replicate")
_DIGITS = 24  # of the hash of a part of a shard
_NAMED = 5  # shards that are named

Row = Mapping[str, Any]
Shard = tuple[str, str]  # cell and shard id


def seal_of(table: pa.Table) -> dict[str, Any]:
    """Return the seal of rows of the results store joined with their grades, as plain JSON data."""
    cells: dict[str, dict[str, Any]] = defaultdict(dict)
    for (cell, shard), rows in by_shard(table).items():
        cells[cell][shard] = _sealed(rows)
    return {"version": VERSION, "rows": table.num_rows, "sha256": _sha256(cells), "cells": dict(cells)}


def sealed_shards(seal: Mapping[str, Any]) -> set[Shard]:
    """Return cell and shard ids of what is sealed."""
    return {(cell, shard) for cell, shards in seal["cells"].items() for shard in shards}


def graders_of(seal: Mapping[str, Any]) -> set[str]:
    """Return the ids of the graders whose grades are sealed."""
    return {grader for shards in seal["cells"].values() for sealed in shards.values() for grader in sealed["graders"]}


def regraded(seal: Mapping[str, Any], rows: Mapping[Shard, Sequence[Row]]) -> set[Shard]:
    """Return the shards that have grades by others than the graders whose grades are sealed."""
    return {
        (cell, shard)
        for cell, shard in sealed_shards(seal).intersection(rows)
        if _graders(rows[cell, shard]) != seal["cells"][cell][shard]["graders"]
    }


def require_seal(
    seal: Mapping[str, Any],
    rows: Mapping[Shard, Sequence[Row]],
    sealed_by: str,
    shards: Collection[Shard] | None = None,
    ungraded: Collection[Shard] = (),
) -> None:
    """Check that rows are those that were sealed; rows of other cells do not matter.

    Args:
        seal: what `seal_of` returned.
        rows: what `by_shard` returned of the rows as they are now.
        sealed_by: what sealed them, for the message.
        shards: those to check, None for all that are sealed.
        ungraded: those whose grades are passed over.

    Raises:
        ProtocolError: some differ, or are gone; the message names the shards, and what of them differs.
    """
    wanted = sorted(sealed_shards(seal) if shards is None else sealed_shards(seal).intersection(shards))
    broken = [
        line
        for cell, shard in wanted
        for line in _differences(
            (cell, shard),
            seal["cells"][cell][shard],
            rows.get((cell, shard), []),
            [part for part in _PARTS if part != "grades" or (cell, shard) not in ungraded],
        )
    ]
    if broken:
        more = [f"and {len(broken) - _NAMED} shards more"] if len(broken) > _NAMED else []
        raise ProtocolError(
            "\n".join(
                [f"the rows must be those that {sealed_by} sealed, but were changed since:", *broken[:_NAMED], *more]
            )
        )


def shards_of(table: pa.Table) -> dict[Shard, set[str]]:
    """Return the shards that rows are of, each with the looks that they were made under."""
    found: dict[Shard, set[str]] = {}
    for cell, shard, look in distinct_rows(table, ("cell_id", "shard_id", "look_sha256"))[0]:
        found.setdefault((cell, shard), set()).update({look} - {None})
    return found


def _differences(key: Shard, sealed: Mapping[str, Any], rows: Sequence[Row], parts: Sequence[str]) -> Iterator[str]:
    place = f"cell {key[0][:16]}, shard {key[1][:16]}"
    if rows:
        problems = f"{rows[0]['problem_id']} to {rows[-1]['problem_id']}"
        place = f"{', '.join(str(rows[0][name]) for name in _LABEL)}, {problems} ({place})"
    if len(rows) != sealed["rows"]:
        yield f"{place}: {sealed['rows']} rows were sealed, {len(rows)} are there"
        return
    now = _sealed(rows)
    changed = [part for part in parts if now[part] != sealed[part]]
    if changed:
        yield f"{place}: the {' and the '.join(changed)} are not those that were sealed"


def by_shard(table: pa.Table) -> dict[Shard, list[Row]]:
    """Return what is sealed of rows of the results store, shard by shard, in one order whatever order they came in."""
    plain = [name for name in table.column_names if name not in (*_PASSING, _COURSE)]
    shards: dict[Shard, list[Row]] = defaultdict(list)
    for row, course in zip(table.select(plain).to_pylist(), _courses(table), strict=True):
        shards[row["cell_id"], row["shard_id"]].append({**row, _COURSE: course})
    return {key: sorted(rows, key=lambda row: [row[name] for name in ROW_KEY]) for key, rows in sorted(shards.items())}


def _courses(table: pa.Table) -> Iterator[str]:
    """Yield a hash of each row's cache size over the steps: as JSON, these numbers would be most of what is hashed."""
    for course in table[_COURSE]:
        numbers = np.asarray(course.values if course.is_valid else [], dtype="<f4")
        yield hashlib.sha256(numbers.tobytes()).hexdigest()


def _sealed(rows: Sequence[Row]) -> dict[str, Any]:
    hashes = {part: _sha256([_part(row, part) for row in rows])[:_DIGITS] for part in _PARTS}
    return {"rows": len(rows), "graders": _graders(rows), **hashes}


def _graders(rows: Sequence[Row]) -> list[str]:
    return sorted({str(row["grader_id"]) for row in rows if row["grader_id"] is not None})


def _part(row: Row, part: str) -> dict[str, Any]:
    """Return the values of a row that belong to a part, and what names the row."""
    return {
        name: value for name, value in row.items() if value is not None and (name in ROW_KEY or _part_of(name) == part)
    }


def _part_of(column: str) -> str:
    return "grades" if column in GRADE_COLUMNS else ("texts" if column in _TEXTS else "figures")


def _sha256(data: Any) -> str:
    return hashlib.sha256(canonical_json(data).encode()).hexdigest()
