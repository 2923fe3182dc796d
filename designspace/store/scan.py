"""Read the store as one table: every whole samples file, joined with the grades of the same shard.

Files are opened one by one: a single torn file makes pyarrow refuse a whole dataset scan. What cannot be read is
reported beside the result and never stops it. Files are visited in the order of their names, so the table does not
depend on who committed what when.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from designspace.errors import StoreError, did_you_mean
from designspace.store.layout import Layout, ShardKey
from designspace.store.listing import DamagedFile, grader_ids, shard_files
from designspace.store.schema import (
    GRADE_COLUMNS,
    GRADES_SCHEMA,
    GRADES_VERSION,
    RESULTS_SCHEMA,
    ROW_KEY,
    SAMPLES_SCHEMA,
    SAMPLES_VERSION,
)
from designspace.store.shard_file import Contents, ShardRows, check_graded, check_shard, read_shard, same_rows
from designspace.store.stored_file import Absent, Damaged


@dataclass(frozen=True)
class Scan:
    """What a scan found: one table per readable shard, and the files it had to ignore."""

    schema: pa.Schema
    tables: tuple[pa.Table, ...]
    damaged: tuple[DamagedFile, ...]


def samples_contents(key: ShardKey) -> Contents:
    """Return what the samples file of a shard must say about itself."""
    return Contents("samples", SAMPLES_VERSION, key)


def grades_contents(key: ShardKey, grader_id: str) -> Contents:
    """Return what a grades file of a shard must say about itself."""
    return Contents("grades", GRADES_VERSION, key, grader_id)


def scan(
    layout: Layout,
    columns: Sequence[str] | None = None,
    grader_id: str | None = None,
    cell_ids: Collection[str] | None = None,
) -> Scan:
    """Read samples joined with grades.

    Args:
        layout: the store.
        columns: columns to read, all by default; what is not named is not read from disk.
        grader_id: whose grades to join. By default each shard takes the grades of the grader that has graded most
            shards (of several such, the latest), and falls back to the next where that one has not graded it yet.
        cell_ids: read these cells only.

    Raises:
        StoreError: an unknown column or grader.
    """
    schema = _projection(columns)
    found, damaged = shard_files(layout.all_samples)
    keys = sorted(key for key in found if cell_ids is None or key.cell_id in cell_ids)
    wants_grades = any(name in GRADE_COLUMNS for name in schema.names)
    graders = _ranked_graders(layout, keys, grader_id) if wants_grades else []
    tables = []
    for key in keys:
        try:
            samples = read_shard(found[key], samples_contents(key), _samples_part(schema))
        except Absent:
            continue  # set aside by another process at this moment
        except Damaged as error:
            damaged.append(DamagedFile.of(found[key], error))
            continue
        grades = _first_grades(layout, key, graders, samples, damaged)
        tables.append(_joined(samples.table, grades, schema))
    return Scan(schema, tuple(tables), tuple(damaged))


def read_grades(path: Path, key: ShardKey, grader_id: str, samples: ShardRows) -> ShardRows:
    """Read a grades file and check that it grades these samples: this very file, row by row.

    Raises:
        Damaged: it is not whole, or belongs to other rows.
    """
    grades = read_shard(path, grades_contents(key, grader_id), GRADES_SCHEMA)
    if not same_rows(grades.table, samples.table, ROW_KEY):
        raise Damaged(f"its {' and '.join(ROW_KEY)} differ from those of the samples")
    check_graded(grades.facts, samples.facts)
    return grades


def _projection(columns: Sequence[str] | None) -> pa.Schema:
    if columns is None:
        return RESULTS_SCHEMA
    for name in columns:
        if name not in RESULTS_SCHEMA.names:
            raise StoreError(f"unknown column {name!r}{did_you_mean(name, RESULTS_SCHEMA.names)}")
    return pa.schema([RESULTS_SCHEMA.field(name) for name in columns])


def _samples_part(schema: pa.Schema) -> pa.Schema:
    names = {*schema.names, *ROW_KEY}
    return pa.schema([field for field in SAMPLES_SCHEMA if field.name in names])


def _ranked_graders(layout: Layout, keys: Iterable[ShardKey], only: str | None) -> list[str]:
    known = grader_ids(layout)
    if only is not None:
        if only not in known:
            raise StoreError(
                f"no grades by grader {only!r}{did_you_mean(only, known) if known else ': nothing is graded yet'}"
            )
        return [only]
    graded = {grader: [key for key in keys if _has_graded(layout, grader, key)] for grader in known}
    counts = [len(keys) for keys in graded.values()]
    # The dates matter, and cost reading every file, only where two graders are equally complete.
    latest = (
        dict.fromkeys(known, "")
        if len(set(counts)) == len(counts)
        else {g: _latest(layout, g, graded[g]) for g in known}
    )
    newest_first = sorted(sorted(known), key=lambda grader: latest[grader], reverse=True)
    return sorted(newest_first, key=lambda grader: -len(graded[grader]))


def _latest(layout: Layout, grader: str, keys: Iterable[ShardKey]) -> str:
    stamps = [""]
    for key in keys:
        try:
            stamps.append(check_shard(layout.grades(grader, key), grades_contents(key, grader)).committed_at)
        except Damaged:
            continue  # reported when the shard itself is read
    return max(stamps)


def _has_graded(layout: Layout, grader: str, key: ShardKey) -> bool:
    """Return whether a grader has graded a shard, though it may have been set aside: one bad file ranks no other grader."""
    path = layout.grades(grader, key)
    return path.exists() or layout.aside(path).exists()


def _first_grades(
    layout: Layout, key: ShardKey, graders: Iterable[str], samples: ShardRows, damaged: list[DamagedFile]
) -> pa.Table | None:
    for grader in graders:
        path = layout.grades(grader, key)
        try:
            return read_grades(path, key, grader, samples).table
        except Absent:
            if _has_graded(layout, grader, key):
                return None
        except Damaged as error:
            damaged.append(DamagedFile.of(path, error))
            return None
    return None


def _joined(samples: pa.Table, grades: pa.Table | None, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        if field.name in samples.column_names:
            columns.append(samples[field.name])
        elif grades is None:
            columns.append(pa.nulls(samples.num_rows, field.type))
        else:
            columns.append(grades[field.name])
    return pa.table(columns, schema=schema)
