"""Check every file of a store, and move the bad ones out of the way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from designspace.errors import StoreError
from designspace.store.layout import Layout
from designspace.store.scan import (
    DamagedFile,
    files_below,
    grader_ids,
    grades_contents,
    read_grades,
    samples_contents,
    shard_files,
)
from designspace.store.schema import GRADES_SCHEMA, ROW_KEY, SAMPLES_SCHEMA
from designspace.store.shard_file import Damaged, read_shard


def read_document(path: Path) -> dict[str, Any]:
    """Read one JSON document of the store.

    Raises:
        Damaged: it is torn, or no JSON object.
    """
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Damaged(f"not readable as JSON: {error}") from error
    if not isinstance(document, dict):
        raise Damaged("not a JSON object")
    return document


def documents(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every readable JSON document below a folder in the order of names; `find_damaged` names the others."""
    for path in files_below(folder):
        if path.suffix == ".json":
            try:
                yield path, read_document(path)
            except Damaged:
                continue


def find_damaged(layout: Layout) -> list[DamagedFile]:
    """Read every file of the store completely, checksums included, and return the bad ones with reasons."""
    return [*_bad_shards(layout), *_bad_documents(layout)]


def set_aside(layout: Layout, damaged: Iterable[DamagedFile]) -> list[Path]:
    """Move damaged files below `damaged/`, under the path they had, and return their new places.

    Their shards then count as never committed, so that running the sweep again makes them anew.

    Raises:
        StoreError: the file system refused.
    """
    moved = []
    for file in damaged:
        target = layout.set_aside / file.path.relative_to(layout.root)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file.path, target)
        except OSError as error:
            raise StoreError(f"cannot set {file.path} aside: {error}") from error
        moved.append(target)
    return moved


def _bad_shards(layout: Layout) -> Iterator[DamagedFile]:
    found, foreign = shard_files(layout.all_samples)
    yield from foreign
    whole: dict[Any, pa.Table] = {}
    for key, path in found.items():
        try:
            whole[key] = read_shard(path, samples_contents(key), SAMPLES_SCHEMA).select(ROW_KEY)
        except Damaged as error:
            yield DamagedFile(path, str(error))
    for grader in grader_ids(layout):
        graded, foreign = shard_files(layout.graded_by(grader))
        yield from foreign
        for key, path in graded.items():
            try:
                if key in whole:
                    read_grades(path, key, grader, whole[key])
                else:  # grades of a shard whose samples are missing or damaged: nothing to compare them with
                    read_shard(path, grades_contents(key, grader), GRADES_SCHEMA)
            except Damaged as error:
                yield DamagedFile(path, str(error))


def _bad_documents(layout: Layout) -> Iterator[DamagedFile]:
    for folder in (layout.studies, layout.cells, layout.failures):
        for path in files_below(folder):
            try:
                if path.suffix != ".json":
                    raise Damaged("foreign file: not a .json document")
                read_document(path)
            except Damaged as error:
                yield DamagedFile(path, str(error))
