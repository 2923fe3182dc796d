"""The results store: commit shards, resume, read everything back.

One immutable Parquet file per shard, named by its content id. *There and whole = done*: a retry, a second worker or a
second run of the same command can neither lose a row nor store one twice, and a damaged file is set aside, never
overwritten, when its shard is made anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from designspace.errors import StoreError
from designspace.store.aside import SetAside, set_aside
from designspace.store.commit import atomic_bytes, document_bytes
from designspace.store.documents import (
    read_all,
    read_document,
    read_failure,
    read_study,
    readers,
    study_digest,
    write_document,
)
from designspace.store.examine import Finding, What
from designspace.store.journal import Journal, sweep_journals
from designspace.store.layout import Layout, ShardKey
from designspace.store.leases import Leases
from designspace.store.listing import grader_ids
from designspace.store.opening import begin_store, format_damage, write_format
from designspace.store.reader import StoreReader, mending, why_not
from designspace.store.scan import grades_contents, read_grades, samples_contents
from designspace.store.schema import GRADES_SCHEMA, ROW_KEY, SAMPLES_SCHEMA, table_from_rows
from designspace.store.scratch import sweep_scratch
from designspace.store.shard_file import ShardRows, read_shard, same_rows, write_shard
from designspace.store.stored_file import Absent, Damaged, Unreadable

_Read = TypeVar("_Read")


class ResultsStore(StoreReader):
    """A folder of results. Make one with `ResultsStore.open`.

    Any number of processes may write to one store at the same time, and read it meanwhile.
    """

    @classmethod
    def open(cls, root: str | Path, create: bool = True, *, say: Callable[[str], None] | None = None) -> ResultsStore:
        """Open the store at `root`, and make it first if there is none and `create` is true.

        Args:
            root: the store's folder.
            create: whether to write if need be; scratch files that killed processes left more than a day ago are then
                removed.
            say: of a run, which makes anew what is damaged: damaged documents are set aside at once, and every file that
                is set aside, now or later, is told to it in one line.

        Raises:
            StoreError: there is no store, the folder is something else, or its format is newer than this version reads.
        """
        layout = Layout(Path(root).resolve())
        if not layout.format_file.exists():
            begin_store(layout, create)
        store = cls(layout, say)
        reason = format_damage(layout)
        if reason is not None and not create and say is None:
            store._tell(f"{layout.format_file} {reason}; to mend: {mending(layout.root)}")
        elif reason is not None:
            store._say_aside(store._renew_format(reason))
        if create:
            sweep_scratch(layout.scratch)
            sweep_journals(layout)
        if say is not None:
            store._set_documents_aside()
        return store

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
        self.write_cell(cell_id, identity)
        path = self._layout.samples(key)
        if not self.is_committed(cell_id, shard_id):
            self.set_shard_aside(cell_id, shard_id)
            write_shard(path, table, samples_contents(key), identity, self._layout.scratch)
        return path

    def commit_grades(self, grader_id: str, cell_id: str, shard_id: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Store one grader's grades of a shard, in the row order of its samples, and return the file.

        Raises:
            StoreError: the rows break the schema, do not belong to the samples stored, or writing failed.
        """
        key = ShardKey(cell_id, shard_id)
        rows = _with_ids(rows, cell_id=cell_id, shard_id=shard_id, grader_id=grader_id)
        table = table_from_rows(rows, GRADES_SCHEMA, "grades")
        if not self.is_committed(cell_id, shard_id):
            raise StoreError(f"grades of shard {shard_id}: its samples must be stored first")
        if not same_rows(table, self.sample_rows(cell_id, shard_id), ROW_KEY):
            raise StoreError(f"grades of shard {shard_id}: {' and '.join(ROW_KEY)} must be those of its samples")
        path = self._layout.grades(grader_id, key)
        if not self.grades_committed(grader_id, cell_id, shard_id):
            self.set_shard_aside(cell_id, shard_id)
            graded = self._samples_facts(key).digest
            write_shard(path, table, grades_contents(key, grader_id), None, self._layout.scratch, graded=graded)
        return path

    def journal(self, cell_id: str, shard_id: str, conditions: Mapping[str, Any]) -> Journal:
        """Return the journal of a shard for a new attempt at it; see `designspace.store.journal`."""
        return Journal(self._layout, ShardKey(cell_id, shard_id), conditions)

    def leases(self) -> Leases:
        """Return the leases of a new run on this store, which it enters for as long as it works."""
        return Leases(self._layout.leases)

    def write_study(self, study: str, document: Mapping[str, Any]) -> Path:
        """Store a study's resolved declaration under the hash of its content, and return the file.

        Raises:
            StoreError: the document is no plain JSON, declares another study, or writing failed.
        """
        content = document_bytes(document)
        if document.get("study", study) != study:
            raise StoreError(f"the document of study {study!r} declares the study {document['study']!r}")
        path = self._layout.study(study, study_digest(content))
        if self._make_way(path, read_study) is None:
            atomic_bytes(path, content, self._layout.scratch)
        return path

    def write_cell(self, cell_id: str, identity: Mapping[str, Any]) -> None:
        """Store a cell's identity document, if it is not stored yet.

        Raises:
            StoreError: the cell is stored under another identity.
        """
        path = self._layout.cell(cell_id)
        stored = self._make_way(path, read_document)
        if stored is not None and stored.content != json.loads(document_bytes(identity)):
            if stored.is_sealed:
                raise StoreError(f"cell {cell_id} is stored with another identity: {path}")
            self._say_aside(self._set_aside(path, "it is not the identity of its cell, and carries no checksum"))
            stored = None
        if stored is None:
            write_document(path, identity, self._layout.scratch)

    def record_failure(self, cell_id: str, shard_id: str, attempt: int, reason: Mapping[str, Any]) -> Path:
        """Store why an attempt at a shard failed, and return the file."""
        path = self._layout.failure(ShardKey(cell_id, shard_id), attempt)
        self._make_way(path, read_failure)
        document = {"cell_id": cell_id, "shard_id": shard_id, "attempt": attempt, "reason": dict(reason)}
        write_document(path, document, self._layout.scratch)
        return path

    def set_shard_aside(self, cell_id: str, shard_id: str) -> list[SetAside]:
        """Move what is damaged of a shard below `damaged/`, so that it is made anew, and return what was moved.

        Grades go with the samples that they grade: those made anew are others.

        Raises:
            StoreError: a file cannot be read here, or not be moved; it may be sound.
        """
        key, moved = ShardKey(cell_id, shard_id), list[SetAside]()
        reason = why_not(self._layout.samples(key), lambda: self._samples_facts(key))
        if reason is not None:
            moved = self._set_samples_aside(key, reason)
        else:
            for grader in grader_ids(self._layout):
                check = partial(self._grades_facts, grader, key)
                path = self._layout.grades(grader, key)
                if (reason := why_not(path, check)) is not None:
                    moved += self._set_aside(path, reason, check)
        self._say_aside(moved)
        return moved

    def set_damaged_aside(self, found: Iterable[Finding] | None = None) -> list[SetAside]:
        """Move every damaged file below `damaged/`, so that it is made anew, and return what was moved.

        Args:
            found: what `examine` has found, if it was asked just before.

        Raises:
            StoreError: the file system refused.
        """
        moved: list[SetAside] = []
        for finding in self.examine() if found is None else found:
            if finding.is_damage:
                moved += self._set_finding_aside(finding)
        return moved

    def _set_finding_aside(self, finding: Finding) -> list[SetAside]:
        path, reason = finding.path, finding.reason
        parts = path.relative_to(self._layout.root).parts
        if finding.what == What.FORMAT:
            return self._renew_format(reason)
        if finding.what == What.SAMPLES:
            return self._set_samples_aside(ShardKey(parts[-2], path.stem), reason)
        if finding.what == What.GRADES:
            return self._set_aside(path, reason, partial(self._read_grades, parts[1], ShardKey(parts[-2], path.stem)))
        if finding.what == What.CELL:  # what it says may be wrong, though the file is sound
            return self._set_aside(path, reason)
        return self._set_aside(path, reason, readers(self._layout)[self._layout.root / parts[0]])

    def _read_grades(self, grader: str, key: ShardKey, path: Path) -> ShardRows:
        samples = read_shard(self._layout.samples(key), samples_contents(key), SAMPLES_SCHEMA)
        return read_grades(path, key, grader, samples)

    def _set_samples_aside(self, key: ShardKey, reason: str) -> list[SetAside]:
        moved = self._set_aside(self._layout.samples(key), reason, partial(self._samples_facts, key))
        for grader in grader_ids(self._layout):
            path, check = self._layout.grades(grader, key), partial(self._grades_facts, grader, key)
            moved += self._set_aside(path, "the samples that it grades are not stored", check)
        return moved

    def _renew_format(self, reason: str) -> list[SetAside]:
        moved = self._set_aside(self._layout.format_file, reason)
        write_format(self._layout)
        return moved

    def _set_documents_aside(self) -> None:
        for folder, read in readers(self._layout).items():
            for file in read_all(folder, read)[1]:
                if not file.may_be_sound:
                    self._say_aside(self._set_aside(file.path, file.reason, read))

    def _make_way(self, path: Path, read: Callable[[Path], _Read]) -> _Read | None:
        """Return a document that is stored; None where there is none, or where it was damaged and is set aside now."""
        try:
            return read(path)
        except Absent:
            return None
        except Unreadable as error:
            raise StoreError(f"{path}: {error}") from error
        except Damaged as error:
            self._say_aside(self._set_aside(path, str(error), read))
            return None

    def _set_aside(self, path: Path, reason: str, check: Callable[[Path], object] | None = None) -> list[SetAside]:
        moved = set_aside(self._layout, path, reason, check)
        return [] if moved is None else [moved]

    def _say_aside(self, moved: Sequence[SetAside]) -> None:
        """Tell what was set aside, in one line; the grades that went with their samples count with them."""
        if moved:
            anew = "" if moved[0].path.is_relative_to(self._layout.failures) else ", to be made anew"
            more = f", and {len(moved) - 1} of the same shard" if len(moved) > 1 else ""
            self._tell(f"set aside{anew}: {moved[0]}{more}")


def _with_ids(rows: Sequence[Mapping[str, Any]], **ids: str) -> list[dict[str, Any]]:
    completed = []
    for index, row in enumerate(rows):
        for name, value in ids.items():
            if row.get(name, value) != value:
                raise StoreError(f"row {index}: {name} must be {value!r}, got {row[name]!r}")
        completed.append({**row, **ids})
    return completed
