"""Check every file of a store, and say of each that is not as it should be what that means and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from designspace.store.documents import read_cell, read_document, readers
from designspace.store.journal import journals
from designspace.store.layout import Layout, ShardKey, is_document
from designspace.store.listing import files_below, grader_ids, shard_files
from designspace.store.opening import format_damage
from designspace.store.scan import grades_contents, read_grades, samples_contents
from designspace.store.schema import GRADES_SCHEMA, ROW_KEY, SAMPLES_SCHEMA
from designspace.store.scratch import is_being_written
from designspace.store.shard_file import ShardRows, read_shard
from designspace.store.stored_file import Absent, Damaged, Unreadable


class Kind(StrEnum):
    """What a finding is."""

    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    WITHOUT_CHECKSUM = "without a checksum"
    ORPHAN = "orphan"
    SCRATCH = "scratch"
    FOREIGN = "foreign"


class What(StrEnum):
    """What a file of a store is."""

    FORMAT = "format"
    SAMPLES = "samples"
    GRADES = "grades"
    CELL = "cell"
    STUDY = "study"
    FAILURE = "failure"
    SCRATCH = "scratch"
    OTHER = "other"


# What damage means, and who makes the file anew.
_MEANING = {
    What.FORMAT: "the folder is told to be a store by its other files; the next `designspace run` writes it anew",
    What.SAMPLES: "its rows are left out until the next `designspace run` of its sweep makes them anew",
    What.GRADES: "its rows count as not graded until the next `designspace run` of their sweep grades them anew",
    What.CELL: "no row depends on it; the next `designspace run` of its sweep writes it anew",
    What.STUDY: "`status` does not know this declaration until the next `designspace run` of it writes it anew",
    What.FAILURE: "why an attempt failed is lost; no row depends on it",
}
_MEANING_OF_KIND = {
    Kind.UNREADABLE: "it may be sound: read it as another user or with a newer designspace, or try again later",
    Kind.WITHOUT_CHECKSUM: "from an earlier version, and checked as far as its format allows; nothing to do",
    Kind.ORPHAN: "the next `designspace run` of its sweep sets it right",
    Kind.SCRATCH: "a killed process left it, or one on another host is writing it; harmless, and a run removes it after a day",
    Kind.FOREIGN: "no part of the store, never read; move it elsewhere",
}


@dataclass(frozen=True)
class Finding:
    """A file that is not as it should be, or is worth a word."""

    kind: Kind
    what: What
    path: Path
    reason: str

    @property
    def is_damage(self) -> bool:
        """Whether the file must be made anew."""
        return self.kind == Kind.DAMAGED

    @property
    def is_sound(self) -> bool:
        """Whether nothing that was stored is lost or out of reach."""
        return self.kind not in (Kind.DAMAGED, Kind.UNREADABLE)

    @property
    def meaning(self) -> str:
        """What it means, and what to type."""
        return _MEANING[self.what] if self.is_damage else _MEANING_OF_KIND[self.kind]

    def __str__(self) -> str:
        """Return all of it in one line."""
        return f"{self.kind}: {self.path}: {self.reason}: {self.meaning}"


def examine(layout: Layout) -> list[Finding]:
    """Read every file of the store completely and return what was found, in the order of the folders; change nothing."""
    reason = format_damage(layout)
    found = [] if reason is None else [Finding(Kind.DAMAGED, What.FORMAT, layout.format_file, reason)]
    samples = _Samples(layout)
    found += samples.findings
    found += _in_grades(layout, samples.whole)
    found += _in_documents(layout)
    found += _in_cells(layout, samples.identities)
    found += _in_journals(layout)
    return [*found, *_in_scratch(layout)]


class _Samples:
    """All samples, read once; of the rows only what grades are compared with is kept."""

    def __init__(self, layout: Layout) -> None:
        self.findings: list[Finding] = []
        self.whole: dict[ShardKey, ShardRows] = {}
        self.identities: dict[
            str, dict[str, bool]
        ] = {}  # by cell id: what its shards say, and whether it is vouched for
        found, foreign = shard_files(layout.all_samples)
        self.findings += [Finding(Kind.FOREIGN, What.OTHER, file.path, file.reason) for file in foreign]
        for key, path in found.items():
            try:
                rows = read_shard(path, samples_contents(key), SAMPLES_SCHEMA)
            except Absent:
                continue
            except Damaged as error:
                self.findings.append(_bad(error, What.SAMPLES, path))
                continue
            self.findings += _unsealed(rows.facts.is_sealed, What.SAMPLES, path)
            self.whole[key] = rows._replace(table=rows.table.select(ROW_KEY), identity="")
            said = self.identities.setdefault(key.cell_id, {})
            said[rows.identity] = said.get(rows.identity, False) or rows.facts.is_sealed


def _in_grades(layout: Layout, samples: dict[ShardKey, ShardRows]) -> Iterator[Finding]:
    for grader in grader_ids(layout):
        graded, foreign = shard_files(layout.graded_by(grader))
        yield from (Finding(Kind.FOREIGN, What.OTHER, file.path, file.reason) for file in foreign)
        for key, path in graded.items():
            try:
                if key in samples:
                    facts = read_grades(path, key, grader, samples[key]).facts
                else:  # grades of a shard whose samples are missing or damaged: nothing to compare them with
                    facts = read_shard(path, grades_contents(key, grader), GRADES_SCHEMA).facts
            except Absent:
                continue
            except Damaged as error:
                yield _bad(error, What.GRADES, path)
                continue
            yield from _unsealed(facts.is_sealed, What.GRADES, path)
            if not layout.samples(key).exists():
                yield Finding(Kind.ORPHAN, What.GRADES, path, "it grades samples that are not stored")


def _in_documents(layout: Layout) -> Iterator[Finding]:
    names = {layout.studies: What.STUDY, layout.cells: What.CELL, layout.failures: What.FAILURE}
    for folder, read in readers(layout).items():
        for path in files_below(folder):
            if not is_document(path, folder):
                yield Finding(Kind.FOREIGN, What.OTHER, path, "not a name of a document")
                continue
            try:
                read(path)
                is_sealed = folder == layout.studies or read_document(path).is_sealed
            except Absent:
                continue
            except Damaged as error:
                yield _bad(error, names[folder], path)
            else:
                yield from _unsealed(is_sealed, names[folder], path)


def _in_cells(layout: Layout, identities: dict[str, dict[str, bool]]) -> Iterator[Finding]:
    """Compare the documents of cells with what their shards say; a shard without a checksum says nothing."""
    for cell_id, said in identities.items():
        path = layout.cell(cell_id)
        try:
            document = read_cell(path)
        except Absent:
            yield Finding(Kind.ORPHAN, What.CELL, path, "there are samples of this cell, but no document of it")
            continue
        except Damaged:
            continue  # reported already
        if any(is_sealed and json.loads(identity) != document for identity, is_sealed in said.items()):
            yield Finding(Kind.DAMAGED, What.CELL, path, "it is not the identity that the samples of the cell carry")


def _in_scratch(layout: Layout) -> Iterator[Finding]:
    for path in files_below(layout.scratch):
        if not is_being_written(path):
            yield Finding(Kind.SCRATCH, What.SCRATCH, path, "a file that was never finished")


def _in_journals(layout: Layout) -> Iterator[Finding]:
    """Of journals only the names are looked at: every line has its own checksum, and none is a result."""
    for path, key in journals(layout):
        if key is None:
            yield Finding(Kind.FOREIGN, What.OTHER, path, "not a name of a journal")


def _bad(error: Damaged, what: What, path: Path) -> Finding:
    return Finding(Kind.UNREADABLE if isinstance(error, Unreadable) else Kind.DAMAGED, what, path, str(error))


def _unsealed(is_sealed: bool, what: What, path: Path) -> Iterator[Finding]:
    if not is_sealed:
        yield Finding(Kind.WITHOUT_CHECKSUM, what, path, "it carries no checksum")
