"""The JSON documents of a store: declarations of studies, identities of cells, reasons of failed attempts.

A declaration lies under the hash of its bytes, which is its checksum; the others carry one inside (`designspace.store.seal`).
Documents from before there were checksums are read as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from designspace.errors import StoreError
from designspace.store.commit import atomic_bytes, document_bytes
from designspace.store.layout import Layout, is_document
from designspace.store.listing import DamagedFile, files_below
from designspace.store.seal import MARK, N_DIGITS, OPEN_SEAL, SEAL_KEY, sealed
from designspace.store.stored_file import Absent, Damaged, StoredFile, read_file

_N_DIGEST = 32
_Read = TypeVar("_Read")


class Document(NamedTuple):
    """A document's content; `is_sealed` says whether a checksum vouches for it."""

    content: dict[str, Any]
    is_sealed: bool


@dataclass(frozen=True)
class Failure:
    """One failed attempt at a shard. The shard may have been committed by a later attempt."""

    cell_id: str
    shard_id: str
    attempt: int
    reason: dict[str, Any]


def study_digest(content: bytes) -> str:
    """Return the name under which a declaration of these bytes is kept."""
    return hashlib.sha256(content).hexdigest()[:_N_DIGEST]


def sealed_document(document: Mapping[str, Any]) -> bytes:
    """Return a document as canonical JSON that carries its checksum.

    Raises:
        StoreError: it is not plain JSON, or has a key that means the checksum.
    """
    content = document_bytes(document)
    if MARK in content:
        raise StoreError(f"a stored document must not have the key {SEAL_KEY!r}")
    return sealed(content[:-1] + (b"," if document else b"") + OPEN_SEAL + b"}")


def write_document(path: Path, document: Mapping[str, Any], scratch: Path) -> None:
    """Write a document with its checksum, whole or not at all.

    Raises:
        StoreError: the document cannot be stored, or the file system refused.
    """
    atomic_bytes(path, sealed_document(document), scratch)


def read_document(path: Path) -> Document:
    """Read one JSON document of the store.

    Raises:
        Damaged: it is torn, no JSON object, or not what was committed.
    """
    file = read_file(path)
    content = _parsed(file)
    last = next(reversed(content.values()), None)
    if not file.is_sealed and isinstance(last, str) and len(last) == N_DIGITS:
        raise Damaged("its checksum is not where it was written")  # without its mark it passes for any other text
    return Document({name: value for name, value in content.items() if name != SEAL_KEY}, file.is_sealed)


def read_study(path: Path) -> dict[str, Any]:
    """Read one declaration of a study.

    Raises:
        Damaged: it is not what was committed, or lies under another study's name.
    """
    file = read_file(path)
    if study_digest(file.content) != path.stem:
        raise Damaged("its bytes are not those of the checksum that is its name")
    content = _parsed(file)
    if content.get("study", path.parent.name) != path.parent.name:
        raise Damaged(f"it declares the study {content['study']!r}")
    return content


def read_cell(path: Path) -> dict[str, Any]:
    """Read the identity document of one cell.

    Raises:
        Damaged: it is not what was committed.
    """
    return read_document(path).content


def read_failure(path: Path) -> Failure:
    """Read why one attempt failed.

    Raises:
        Damaged: it is not what was committed, or is another attempt's than its name says.
    """
    content = read_document(path).content
    found = Failure(*(content.get(name) for name in ("cell_id", "shard_id", "attempt", "reason")))  # type: ignore[arg-type]
    is_number = isinstance(found.attempt, int) and not isinstance(found.attempt, bool)
    if (found.cell_id, f"{found.shard_id}.{found.attempt}") != (path.parent.name, path.stem) or not is_number:
        raise Damaged("it does not record the attempt that its name says")
    if not isinstance(found.reason, dict):
        raise Damaged("it records no reason")
    return found


def readers(layout: Layout) -> dict[Path, Callable[[Path], Any]]:
    """Return the folders of documents, each with what reads one of its files."""
    return {layout.studies: read_study, layout.cells: read_cell, layout.failures: read_failure}


def read_all(folder: Path, read: Callable[[Path], _Read]) -> tuple[list[tuple[Path, _Read]], list[DamagedFile]]:
    """Read every document below a folder, in the order of names; return what was read, and what could not be.

    Foreign files are passed over.
    """
    found, damaged = [], []
    for path in files_below(folder):
        if is_document(path, folder):
            try:
                found.append((path, read(path)))
            except Absent:
                continue  # set aside by another process at this moment
            except Damaged as error:
                damaged.append(DamagedFile.of(path, error))
    return found, damaged


def _parsed(file: StoredFile) -> dict[str, Any]:
    try:
        content = json.loads(file.content)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise Damaged("not a JSON object")
    return content
