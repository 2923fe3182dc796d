"""The results store: commit shards, resume, read everything back.

One immutable Parquet file per shard, named by its content id. *Exists and opens = done*: a retry, a second worker or a
second run of the same command can neither lose a row nor store one twice.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from designspace.errors import StoreError
from designspace.store.commit import atomic_bytes, document_bytes
from designspace.store.fsck import documents, find_damaged, read_document, set_aside
from designspace.store.layout import Layout, ShardKey
from designspace.store.opening import begin_store, check_format
from designspace.store.scan import DamagedFile, grades_contents, samples_contents, scan, shard_files
from designspace.store.schema import GRADES_SCHEMA, ROW_KEY, SAMPLES_SCHEMA, table_from_rows
from designspace.store.scratch import sweep_scratch
from designspace.store.shard_file import Contents, Damaged, check_shard, read_shard, same_rows, write_shard

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset as ds


class DamagedFilesWarning(UserWarning):
    """A scan had to ignore files; `ResultsStore.damaged` lists them with reasons."""


@dataclass(frozen=True)
class Failure:
    """One failed attempt at a shard. The shard may have been committed by a later attempt."""

    cell_id: str
    shard_id: str
    attempt: int
    reason: dict[str, Any]


class ResultsStore:
    """A folder of results. Make one with `ResultsStore.open`.

    Any number of processes may write to one store at the same time, and read it meanwhile.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    @classmethod
    def open(cls, root: str | Path, create: bool = True) -> ResultsStore:
        """Open the store at `root`, and make it first if there is none and `create` is true.

        Scratch files that killed processes left more than a day ago are removed.

        Raises:
            StoreError: there is no store, the folder is something else, or its format is newer than this version reads.
        """
        layout = Layout(Path(root).resolve())
        if not layout.format_file.exists():
            begin_store(layout, create)
        check_format(layout)
        sweep_scratch(layout.scratch)
        return cls(layout)

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self._layout.root

    def is_committed(self, cell_id: str, shard_id: str) -> bool:
        """Return whether the shard's samples are stored: the file exists, opens, and is what its name says."""
        key = ShardKey(cell_id, shard_id)
        return _is_whole(self._layout.samples(key), samples_contents(key))

    def commit(
        self, cell_id: str, shard_id: str, identity: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
    ) -> Path:
        """Store a shard's rows, all or none of them, and return the file.

        A shard that is stored already stays as it is: the first commit wins, whoever comes second. `cell_id` and
        `shard_id` need not be repeated in the rows.

        Raises:
            StoreError: the rows break the schema, the cell is known under another identity, or writing failed.
        """
        key = ShardKey(cell_id, shard_id)
        table = table_from_rows(_with_ids(rows, cell_id=cell_id, shard_id=shard_id), SAMPLES_SCHEMA, "samples")
        self._write_cell(cell_id, identity)
        path = self._layout.samples(key)
        if not self.is_committed(cell_id, shard_id):
            write_shard(path, table, samples_contents(key), identity, self._layout.scratch)
        return path

    def grades_committed(self, grader_id: str, cell_id: str, shard_id: str) -> bool:
        """Return whether this grader's grades of the shard are stored."""
        key = ShardKey(cell_id, shard_id)
        return _is_whole(self._layout.grades(grader_id, key), grades_contents(key, grader_id))

    def commit_grades(self, grader_id: str, cell_id: str, shard_id: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Store one grader's grades of a shard, in the row order of its samples, and return the file.

        Raises:
            StoreError: the rows break the schema, do not belong to the samples stored, or writing failed.
        """
        key = ShardKey(cell_id, shard_id)
        rows = _with_ids(rows, cell_id=cell_id, shard_id=shard_id, grader_id=grader_id)
        table = table_from_rows(rows, GRADES_SCHEMA, "grades")
        if self.is_committed(cell_id, shard_id) and not same_rows(table, self.sample_rows(cell_id, shard_id), ROW_KEY):
            raise StoreError(f"grades of shard {shard_id}: {' and '.join(ROW_KEY)} must be those of its samples")
        path = self._layout.grades(grader_id, key)
        if not self.grades_committed(grader_id, cell_id, shard_id):
            write_shard(path, table, grades_contents(key, grader_id), None, self._layout.scratch)
        return path

    def sample_rows(self, cell_id: str, shard_id: str) -> pa.Table:
        """Return the stored rows of one shard, without grades: what a grader must read.

        Raises:
            StoreError: the shard is not stored, or its file is damaged.
        """
        key = ShardKey(cell_id, shard_id)
        try:
            return read_shard(self._layout.samples(key), samples_contents(key), SAMPLES_SCHEMA)
        except Damaged as error:
            raise StoreError(f"{self._layout.samples(key)}: {error}") from error

    def shards(self) -> list[ShardKey]:
        """Return the shards that are stored, sorted."""
        found, _ = shard_files(self._layout.all_samples)
        return [key for key, path in sorted(found.items()) if _is_whole(path, samples_contents(key))]

    def write_study(self, study: str, document: Mapping[str, Any]) -> Path:
        """Store a study's resolved declaration under the hash of its content, and return the file."""
        content = document_bytes(document)
        path = self._layout.study(study, hashlib.sha256(content).hexdigest()[:32])
        if not _is_document(path, document):
            atomic_bytes(path, content, self._layout.scratch)
        return path

    def studies(self) -> dict[str, list[dict[str, Any]]]:
        """Return the declarations of every study, by its name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for path, document in documents(self._layout.studies):
            found.setdefault(path.parent.name, []).append(document)
        return found

    def cells(self) -> dict[str, dict[str, Any]]:
        """Return the identity document of every cell, by cell id."""
        return {path.stem: document for path, document in documents(self._layout.cells)}

    def record_failure(self, cell_id: str, shard_id: str, attempt: int, reason: Mapping[str, Any]) -> Path:
        """Store why an attempt at a shard failed, and return the file."""
        key = ShardKey(cell_id, shard_id)
        document = {"cell_id": cell_id, "shard_id": shard_id, "attempt": attempt, "reason": dict(reason)}
        path = self._layout.failure(key, attempt)
        atomic_bytes(path, document_bytes(document), self._layout.scratch)
        return path

    def failures(self) -> list[Failure]:
        """Return every failed attempt on record, those of shards that succeeded later included."""
        fields = ("cell_id", "shard_id", "attempt", "reason")
        found = [document for _, document in documents(self._layout.failures)]
        return [Failure(*(document[name] for name in fields)) for document in found if set(fields) <= set(document)]

    def samples(
        self,
        columns: Sequence[str] | None = None,
        *,
        grader_id: str | None = None,
        cell_ids: Collection[str] | None = None,
    ) -> ds.Dataset:
        """Return all rows, joined with their grades, as a dataset in memory; see `designspace.store.scan.scan`.

        Damaged files are left out with a `DamagedFilesWarning`.

        Raises:
            StoreError: an unknown column or grader.
        """
        import pyarrow.dataset as ds

        found = scan(self._layout, columns, grader_id, cell_ids)
        if found.damaged:
            n, first = len(found.damaged), found.damaged[0]
            warnings.warn(
                f"ignored {n} damaged or foreign file(s), the first is {first}", DamagedFilesWarning, stacklevel=2
            )
        # One dictionary per column over all shards: pyarrow refuses to group by columns whose chunks have different ones.
        table = pa.concat_tables(found.tables) if found.tables else found.schema.empty_table()
        return ds.dataset(table.unify_dictionaries(), schema=found.schema)

    def to_pandas(
        self,
        columns: Sequence[str] | None = None,
        *,
        grader_id: str | None = None,
        cell_ids: Collection[str] | None = None,
    ) -> pd.DataFrame:
        """Return `samples` as a data frame."""
        return frame(self.samples(columns, grader_id=grader_id, cell_ids=cell_ids).to_table())

    def damaged(self) -> list[DamagedFile]:
        """Read every file completely and return the bad ones with reasons."""
        return find_damaged(self._layout)

    def set_damaged_aside(self) -> list[Path]:
        """Move every bad file below `damaged/`, so that its shard is made anew, and return where they went."""
        return set_aside(self._layout, self.damaged())

    def _write_cell(self, cell_id: str, identity: Mapping[str, Any]) -> None:
        path = self._layout.cell(cell_id)
        content = document_bytes(identity)
        try:
            if read_document(path) != json.loads(content):
                raise StoreError(f"cell {cell_id} is stored with another identity: {path}")
        except Damaged:  # absent or torn
            atomic_bytes(path, content, self._layout.scratch)


class Results:
    """The reading side of a store: what `open_results` returns."""

    def __init__(self, store: ResultsStore) -> None:
        self._store = store

    @property
    def dataset(self) -> ds.Dataset:
        """All rows joined with their grades, read anew at each access."""
        return self._store.samples()

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return all rows, or some columns of them, as a data frame."""
        return self._store.to_pandas(columns)

    def studies(self) -> dict[str, list[dict[str, Any]]]:
        """Return the declarations of every study, by its name."""
        return self._store.studies()

    def cells(self) -> dict[str, dict[str, Any]]:
        """Return the identity document of every cell, by cell id."""
        return self._store.cells()

    def failures(self) -> list[Failure]:
        """Return every failed attempt on record."""
        return self._store.failures()

    def damaged(self) -> list[DamagedFile]:
        """Read every file completely and return the bad ones with reasons."""
        return self._store.damaged()


def open_results(path: str | Path) -> Results:
    """Open a results folder for reading.

    Raises:
        StoreError: it is not a results store, or newer than this version reads.
    """
    return Results(ResultsStore.open(path, create=False))


def frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as a data frame with plain text columns.

    Dictionary columns would become pandas categories, and grouping by several of those counts combinations that never
    occurred (the default before pandas 3).
    """
    plain = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in table.schema]
    return table.cast(pa.schema(plain)).to_pandas()


def _is_whole(path: Path, contents: Contents) -> bool:
    if not path.exists():
        return False
    try:
        check_shard(path, contents)
    except Damaged:
        return False
    return True


def _is_document(path: Path, document: Mapping[str, Any]) -> bool:
    try:
        return read_document(path) == json.loads(document_bytes(document))
    except Damaged:
        return False


def _with_ids(rows: Sequence[Mapping[str, Any]], **ids: str) -> list[dict[str, Any]]:
    completed = []
    for index, row in enumerate(rows):
        for name, value in ids.items():
            if row.get(name, value) != value:
                raise StoreError(f"row {index}: {name} must be {value!r}, got {row[name]!r}")
        completed.append({**row, **ids})
    return completed
