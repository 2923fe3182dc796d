"""Read the store as one table: every whole samples file, joined with the grades of the same shard.

Files are opened one by one: a single torn file makes pyarrow refuse a whole dataset scan. What cannot be read is
reported beside the result and never stops it. Files are visited in the order of their names, so the table does not
depend on who committed what when.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from designspace.errors import StoreError, did_you_mean
from designspace.store.layout import Layout, ShardKey, shard_of
from designspace.store.schema import (
    GRADE_COLUMNS,
    GRADES_SCHEMA,
    GRADES_VERSION,
    RESULTS_SCHEMA,
    ROW_KEY,
    SAMPLES_SCHEMA,
    SAMPLES_VERSION,
)
from designspace.store.shard_file import Contents, Damaged, check_shard, read_shard, same_rows


@dataclass(frozen=True)
class DamagedFile:
    """A file that was ignored, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        """Return `path: reason`."""
        return f"{self.path}: {self.reason}"


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


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder in the order of names, except dot files, which desktops and NFS leave behind."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                yield from files_below(path)
            else:
                yield path


def shard_files(top: Path) -> tuple[dict[ShardKey, Path], list[DamagedFile]]:
    """Return the shard files below `samples/` or below one grader's folder by their names, and the foreign files."""
    found: dict[ShardKey, Path] = {}
    foreign = []
    for path in files_below(top):
        key = shard_of(path, top)
        if key is None:
            foreign.append(DamagedFile(path, "foreign file: not <aa>/<cell_id>/<shard_id>.parquet"))
        else:
            found[key] = path
    return found, foreign


def grader_ids(layout: Layout) -> list[str]:
    """Return the graders that have a folder, sorted."""
    folder = layout.all_grades
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] not in "._") if folder.is_dir() else []


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
        except Damaged as error:
            damaged.append(DamagedFile(found[key], str(error)))
            continue
        grades = _first_readable(layout, key, graders, samples, damaged)
        tables.append(_joined(samples, grades, schema))
    return Scan(schema, tuple(tables), tuple(damaged))


def read_grades(path: Path, key: ShardKey, grader_id: str, samples: pa.Table) -> pa.Table:
    """Read a grades file and check that it grades these samples, row by row.

    Raises:
        Damaged: it does not open, or belongs to other rows.
    """
    grades = read_shard(path, grades_contents(key, grader_id), GRADES_SCHEMA)
    if not same_rows(grades, samples, ROW_KEY):
        raise Damaged(f"its {' and '.join(ROW_KEY)} differ from those of the samples")
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
    graded = {grader: [key for key in keys if layout.grades(grader, key).exists()] for grader in known}
    counts = [len(keys) for keys in graded.values()]
    # The dates matter, and cost reading every footer, only where two graders are equally complete.
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
            stamps.append(check_shard(layout.grades(grader, key), grades_contents(key, grader)).get("committed_at", ""))
        except Damaged:
            continue  # reported when the shard itself is read
    return max(stamps)


def _first_readable(
    layout: Layout, key: ShardKey, graders: Iterable[str], samples: pa.Table, damaged: list[DamagedFile]
) -> pa.Table | None:
    for grader in graders:
        path = layout.grades(grader, key)
        if not path.exists():
            continue
        try:
            return read_grades(path, key, grader, samples)
        except Damaged as error:
            damaged.append(DamagedFile(path, str(error)))
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
