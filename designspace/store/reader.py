"""The reading side of a store: what is done, what the rows are, what had to be left out."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from designspace.errors import StoreError
from designspace.store.documents import Failure, read_all, read_cell, read_failure, read_study
from designspace.store.examine import Finding, examine
from designspace.store.layout import Layout, ShardKey, shard_of
from designspace.store.listing import DamagedFile, shard_files
from designspace.store.scan import grades_contents, samples_contents, scan
from designspace.store.schema import SAMPLES_SCHEMA
from designspace.store.shard_file import Facts, check_graded, read_shard
from designspace.store.stored_file import Absent, Damaged, Unreadable
from designspace.store.verified import VerifiedShards

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset as ds

_Read = TypeVar("_Read")


class DamagedFilesWarning(UserWarning):
    """Files had to be left out or were set aside; the message says which, and what to type."""


class StoreReader:
    """What can be asked of a store. Nothing here writes, and a damaged file stops nothing but its own shard."""

    def __init__(self, layout: Layout, say: Callable[[str], None] | None = None) -> None:
        self._layout, self._say = layout, say
        self._verified = VerifiedShards()
        self._warned: dict[str | tuple[str, type[Warning], int], int] = {}

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self._layout.root

    def is_committed(self, cell_id: str, shard_id: str) -> bool:
        """Return whether the shard's samples are stored: the file is there, whole, and what its name says.

        Raises:
            StoreError: there is a file that this process may not or cannot read.
        """
        key = ShardKey(cell_id, shard_id)
        return why_not(self._layout.samples(key), lambda: self._samples_facts(key)) is None

    def grades_committed(self, grader_id: str, cell_id: str, shard_id: str) -> bool:
        """Return whether this grader's grades of the shard's samples, as they are stored now, are stored.

        Raises:
            StoreError: there is a file that this process may not or cannot read.
        """
        if not self.is_committed(cell_id, shard_id):
            return False
        key = ShardKey(cell_id, shard_id)
        return why_not(self._layout.grades(grader_id, key), lambda: self._grades_facts(grader_id, key)) is None

    def sample_rows(self, cell_id: str, shard_id: str) -> pa.Table:
        """Return the stored rows of one shard, without grades: what a grader must read.

        Raises:
            StoreError: the shard is not stored, or its file is damaged.
        """
        key = ShardKey(cell_id, shard_id)
        try:
            return read_shard(self._layout.samples(key), samples_contents(key), SAMPLES_SCHEMA).table
        except Damaged as error:
            raise StoreError(f"{self._layout.samples(key)}: {error}") from error

    def committed_at_s(self, key: ShardKey) -> float:
        """Return when a shard was committed, in seconds since 1970 by the clock of the file system; 0 if it is gone."""
        try:
            return self._layout.samples(key).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def shards(self) -> list[ShardKey]:
        """Return the shards that are stored, sorted."""
        found, foreign = shard_files(self._layout.all_samples)
        whole, damaged = [], foreign
        for key, path in sorted(found.items()):
            try:
                self._samples_facts(key)
                whole.append(key)
            except Absent:
                continue  # set aside by another process at this moment
            except Damaged as error:
                damaged.append(DamagedFile.of(path, error))
        self._left_out(damaged)
        return whole

    def shards_of(self, cell_id: str) -> list[ShardKey]:
        """Return the shards of one cell that there are files of, sorted; whether they are whole is not looked at."""
        files = self._layout.samples_of(cell_id).glob("*.parquet")
        return sorted(key for path in files if (key := shard_of(path, self._layout.all_samples)) is not None)

    def studies(self) -> dict[str, list[dict[str, Any]]]:
        """Return the declarations of every study, by its name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for path, document in self._documents(self._layout.studies, read_study):
            found.setdefault(path.parent.name, []).append(document)
        return found

    def cells(self) -> dict[str, dict[str, Any]]:
        """Return the identity document of every cell, by cell id."""
        return {path.stem: document for path, document in self._documents(self._layout.cells, read_cell)}

    def failures(self) -> list[Failure]:
        """Return every failed attempt on record, those of shards that succeeded later included."""
        return [failure for _, failure in self._documents(self._layout.failures, read_failure)]

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
        self._left_out(found.damaged)
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

    def examine(self) -> list[Finding]:
        """Read every file completely and return what is wrong or worth a word; nothing is changed."""
        return examine(self._layout)

    def damaged(self) -> list[DamagedFile]:
        """Read every file completely and return the damaged ones with reasons."""
        return [DamagedFile(found.path, found.reason) for found in self.examine() if found.is_damage]

    def _samples_facts(self, key: ShardKey, path: Path | None = None) -> Facts:
        """Check a shard's samples, in their place or another."""
        return self._verified.facts(path or self._layout.samples(key), samples_contents(key))

    def _grades_facts(self, grader_id: str, key: ShardKey, path: Path | None = None) -> Facts:
        """Check that grades, in their place or another, are of the samples that are stored."""
        path = path or self._layout.grades(grader_id, key)
        facts = self._verified.facts(path, grades_contents(key, grader_id))
        check_graded(facts, self._samples_facts(key))
        return facts

    def _documents(self, folder: Path, read: Callable[[Path], _Read]) -> list[tuple[Path, _Read]]:
        found, damaged = read_all(folder, read)
        self._left_out(damaged)
        return found

    def _left_out(self, damaged: Sequence[DamagedFile]) -> None:
        if damaged:
            n, more = len(damaged), f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
            self._tell(
                f"left out {n} damaged or foreign file{'s'[: n > 1]}: {damaged[0]}{more}; to mend: {mending(self.root)}"
            )

    def _tell(self, text: str) -> None:
        if self._say is not None:
            self._say(text)
        else:  # the same words once; the place is the store, for the line of code that asked says nothing
            warnings.warn_explicit(text, DamagedFilesWarning, str(self.root), 0, registry=self._warned)


def why_not(path: Path, check: Callable[[], Facts]) -> str | None:
    """Return why a shard file does not serve, after a check that raises `Damaged`; None where it does.

    Raises:
        StoreError: it may be sound, but cannot be read here, so nothing may take its place.
    """
    try:
        check()
    except Unreadable as error:
        raise StoreError(f"{path} may be sound, but cannot be read: {error}") from error
    except Damaged as error:
        return str(error)
    return None


def mending(root: Path) -> str:
    """Return the command that mends a store."""
    return f"designspace doctor {shlex.quote(str(root))} --mend"


def frame(table: pa.Table, *, nullable: bool = False) -> pd.DataFrame:
    """Return a table as a data frame with plain text columns.

    Dictionary columns would become pandas categories, and grouping by several of those counts combinations that never
    occurred (the default before pandas 3).

    nullable: whether whole numbers stay whole where some are missing; else such a column becomes one of floats.
    """
    import pandas as pd

    plain = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in table.schema]
    kinds = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()} if nullable else {}
    return table.cast(pa.schema(plain)).to_pandas(types_mapper=kinds.get)
