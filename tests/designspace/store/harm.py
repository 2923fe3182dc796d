"""A small store with every kind of file, ways to harm one, and what must be true of the store afterwards."""

from __future__ import annotations

import json
import os
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from designspace.store import ResultsStore, ShardKey
from designspace.store.commit import document_bytes
from designspace.store.documents import readers
from designspace.store.layout import Layout, shard_of
from designspace.store.opening import format_damage
from designspace.store.scan import grades_contents, samples_contents
from designspace.store.schema import GRADES_SCHEMA, SAMPLES_SCHEMA
from designspace.store.seal import SEAL_KEY
from designspace.store.shard_file import read_shard
from designspace.store.stored_file import Damaged
from tests.designspace.store.conftest import CELL, OTHER_CELL, SHARD, grade_row, sample_row

OTHER_SHARD = "6" * 32
_ONLY_WITH_CHECKSUMS = (b"designspace.sealed", b"designspace.graded", b"designspace.checksum")
KEYS = [ShardKey(CELL, SHARD), ShardKey(CELL, OTHER_SHARD), ShardKey(OTHER_CELL, SHARD)]
GRADERS = ("grader-1", "grader-2")
STUDY = {"study": "quick", "budgets": [48], "mechanisms": ["h2o", "r-kv"], "cells": []}


def fill(store: ResultsStore, keys: list[ShardKey] = KEYS) -> None:
    """Commit all that is missing: what a run does. Two arms, three shards of two rows, two graders, a failed attempt."""
    store.write_study("quick", STUDY)
    for key in keys:
        first = 2 * KEYS.index(key)
        mechanism = "h2o" if key.cell_id == CELL else "r-kv"
        identity = {"mechanism": mechanism, "weight": 0.5}
        rows = [sample_row(n, mechanism=mechanism, text=f"so \\boxed{{{n}}}") for n in (first, first + 1)]
        store.commit(key.cell_id, key.shard_id, identity, rows)
        for grader in GRADERS[: 1 + (key == KEYS[0])]:
            grades = [grade_row(n, correct=n % 2 == 0) for n in (first, first + 1)]
            store.commit_grades(grader, key.cell_id, key.shard_id, grades)


def full_store(root: Path) -> ResultsStore:
    """Return a store that holds every kind of file."""
    store = ResultsStore.open(root)
    fill(store)
    store.record_failure(CELL, SHARD, 1, {"error": "OutOfMemory", "message": "7 GiB"})
    return store


def drop_checksums(root: Path) -> None:
    """Write every file as it was before there were checksums."""
    for path in stored_files(root):
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            metadata = {k: v for k, v in table.schema.metadata.items() if k not in _ONLY_WITH_CHECKSUMS}
            table = table.replace_schema_metadata(metadata)
            pq.write_table(table, path, compression="zstd", write_page_checksum=True, version="2.6")
        elif "studies" not in path.parts:
            document = json.loads(path.read_bytes())
            del document[SEAL_KEY]
            path.write_bytes(document_bytes(document))


def stored_files(root: Path) -> list[Path]:
    """Return every file of a store, but what was set aside."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return [path for path in files if path.relative_to(root).parts[0] not in ("damaged", "tmp")]


def content(store: ResultsStore) -> dict[str, Any]:
    """Return all that can be read, in a form that can be compared; what is said of damage is left to other tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = {(row["cell_id"], row["problem_id"]): row for row in store.samples().to_table().to_pylist()}
        documents = {"studies": store.studies(), "cells": store.cells(), "failures": store.failures()}
        return {"rows": rows, "shards": store.shards(), **documents}


@dataclass(frozen=True)
class Harmed:
    """What came of one harm: `noticed`, or `harmless` as everything read is the same."""

    path: Path
    outcome: str


class Victim:
    """A store whose files are harmed one at a time, and whole again after each."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.intact = {path: path.read_bytes() for path in stored_files(root)}
        self.read = {path: self.read_file(path) for path in self.intact}
        self.content = content(ResultsStore.open(root, create=False))

    def flips(self, n: int, seed: int) -> Iterator[tuple[Path, bytes]]:
        """Yield files with one byte changed, every byte of the store equally likely, and every change of it."""
        draw = random.Random(seed)
        paths, sizes = list(self.intact), [len(intact) for intact in self.intact.values()]
        for path in draw.choices(paths, sizes, k=n):
            harmed = bytearray(self.intact[path])
            harmed[draw.randrange(len(harmed))] ^= draw.randrange(1, 256)
            yield path, bytes(harmed)

    def harm(self, path: Path, harmed: bytes, *, in_full: bool = False) -> Harmed:
        """Harm a file, check all that must hold, and restore it.

        Either what is read of it is the same, or the readers refuse it; then a run sets it aside, and has it to make again.
        `in_full` also compares the whole store, before and after it is made anew.

        Raises:
            AssertionError: another value was read, or the damage stops something else.
        """
        _write(path, harmed)
        try:
            found = self.read_file(path)
            assert found == self.read[path], f"silently another value: {path}"
            return Harmed(path, "harmless")
        except Damaged:
            if in_full:
                self._check_left_out(path)
            self._check_set_aside(path, KEYS if in_full else [key for key in KEYS if self._is_of(path, key)])
            if in_full:
                self._check_made_anew(path)
            return Harmed(path, "noticed")
        finally:
            self._restore()

    def read_file(self, path: Path) -> Any:
        """Read one file by the function that every command uses for it; a damaged one raises `Damaged`."""
        top = path.relative_to(self.layout.root).parts[0]
        if path == self.layout.format_file:
            if (reason := format_damage(self.layout)) is not None:
                raise Damaged(reason)
            return None
        if top == "samples":
            key = shard_of(path, self.layout.all_samples)
            return _Rows.of(read_shard(path, samples_contents(key), SAMPLES_SCHEMA).table)
        if top == "grades":
            grader = path.relative_to(self.layout.all_grades).parts[0]
            key = shard_of(path, self.layout.graded_by(grader))
            return _Rows.of(read_shard(path, grades_contents(key, grader), GRADES_SCHEMA).table)
        return readers(self.layout)[self.layout.root / top](path)

    def _check_left_out(self, path: Path) -> None:
        """Reading goes on: what the file holds is missing or not graded, and the rest is the same."""
        now = content(ResultsStore.open(self.layout.root, create=False))
        lost, ungraded = set(self.content["rows"]) - set(now["rows"]), 0
        for name, row in now["rows"].items():
            before = self.content["rows"][name]
            if row != before:
                assert row == {**before, **dict.fromkeys(set(GRADES_SCHEMA.names) - set(SAMPLES_SCHEMA.names))}
                ungraded += 1
        top = path.relative_to(self.layout.root).parts[0]
        expected = (2, 0) if top == "samples" else (0, _n_joined(self, path)) if top == "grades" else (0, 0)
        assert (len(lost), ungraded) == expected
        for kind in ("studies", "cells", "failures"):
            assert (now[kind] != self.content[kind]) == (kind == top)

    def _is_of(self, path: Path, key: ShardKey) -> bool:
        return path.stem == key.shard_id and path.parent.name == key.cell_id

    def _check_set_aside(self, path: Path, pending: list[ShardKey]) -> None:
        """What a run does with its pending shards: one line, and the file is out of the way."""
        told: list[str] = []
        store = ResultsStore.open(self.layout.root, say=told.append)
        for key in pending:
            store.set_shard_aside(key.cell_id, key.shard_id)
        assert len(told) == 1, told
        assert str(path) in told[0]
        assert self.layout.aside(path).is_file()
        assert path == self.layout.format_file or not path.exists()

    def _check_made_anew(self, path: Path) -> None:
        """The run's own calls make the store whole again."""
        store = ResultsStore.open(self.layout.root, say=lambda text: None)
        fill(store)
        now, before = content(store), self.content
        if path.is_relative_to(self.layout.failures):
            now, before = now | {"failures": []}, before | {"failures": []}
        assert now == before
        assert [finding for finding in store.examine() if not finding.is_sound] == []

    def _restore(self) -> None:
        """Put back what was moved, and write what was changed, in place: removing and truncating files is slow."""
        for path, intact in self.intact.items():
            aside = self.layout.aside(path)
            if aside.exists():
                os.replace(aside, path)
            if path.read_bytes() != intact:
                _write(path, intact)


def _write(path: Path, content: bytes) -> None:
    with open(path, "r+b") as stream:
        stream.write(content)
        stream.truncate()


class _Rows(tuple[Any, ...]):
    """A table that can be compared quickly, and exactly."""

    @staticmethod
    def of(table: pa.Table) -> _Rows:
        plain = pa.schema(
            [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in table.schema]
        )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, plain) as writer:
            writer.write_table(table.cast(plain).combine_chunks())
        return _Rows((sink.getvalue().to_pybytes(),))


def _n_joined(victim: Victim, path: Path) -> int:
    """Return how many rows of the joined table take their grades from a file."""
    grader = path.relative_to(victim.layout.all_grades).parts[0]
    key = shard_of(path, victim.layout.graded_by(grader))
    assert key is not None
    rows = victim.content["rows"].values()
    return sum(
        (row["grader_id"], row["cell_id"], row["shard_id"]) == (grader, key.cell_id, key.shard_id) for row in rows
    )
