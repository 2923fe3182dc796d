"""One Parquet file per shard: write it, open it, and tell a whole file from a damaged one.

The file carries the identity of its cell in the Parquet metadata, so that a file found alone can be interpreted, and
its ids, so that a file under a wrong name is noticed. Page checksums catch damage that the footer survives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from designspace.errors import DesignspaceError, StoreError
from designspace.store.commit import atomic_file, document_bytes
from designspace.store.layout import ShardKey
from designspace.store.schema import conform

_PREFIX = "designspace."


class Damaged(DesignspaceError):
    """A file in the store cannot serve as the shard its name says; the message says why."""


@dataclass(frozen=True)
class Contents:
    """What a shard file says about itself: `what` is `samples` or `grades`; `grader_id` is None for samples."""

    what: str
    version: int
    key: ShardKey
    grader_id: str | None = None


def write_shard(
    path: Path, table: pa.Table, contents: Contents, identity: Mapping[str, Any] | None, scratch: Path
) -> None:
    """Commit a table as one shard file.

    Raises:
        StoreError: the file system refused, or the identity is not plain JSON.
    """
    facts = {
        "what": contents.what,
        "version": str(contents.version),
        "cell_id": contents.key.cell_id,
        "shard_id": contents.key.shard_id,
        "grader_id": contents.grader_id or "",
        "n_rows": str(table.num_rows),
        "committed_at": datetime.now(UTC).isoformat(),
        "identity": document_bytes(identity).decode(),
    }
    metadata = {f"{_PREFIX}{name}": value for name, value in facts.items()}
    with atomic_file(path, scratch) as stream:
        pq.write_table(
            table.replace_schema_metadata(metadata), stream, compression="zstd", write_page_checksum=True, version="2.6"
        )


def check_shard(path: Path, contents: Contents) -> dict[str, str]:
    """Return the facts in a shard file's footer after checking that it is the file its name says.

    Raises:
        Damaged: it is not.
    """
    with _opened(path) as file:
        return _checked_facts(file, contents)


def read_shard(path: Path, contents: Contents, schema: pa.Schema) -> pa.Table:
    """Read a shard file, in the columns of `schema`, with checksums verified.

    Raises:
        Damaged: the file is torn, foreign, under a wrong name, of a newer version or of another schema.
    """
    with _opened(path) as file:
        _checked_facts(file, contents)
        try:
            stored = [name for name in schema.names if name in file.schema_arrow.names]
            return conform(file.read(columns=stored), schema)
        except (pa.ArrowException, OSError, StoreError) as error:
            raise Damaged(_one_line(error)) from error


def same_rows(left: pa.Table, right: pa.Table, columns: Sequence[str]) -> bool:
    """Return whether two tables agree in these columns, row by row."""
    return all(left[name].to_pylist() == right[name].to_pylist() for name in columns)


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(_one_line(error)) from error


def _facts(file: pq.ParquetFile) -> dict[str, str]:
    raw = file.schema_arrow.metadata or {}
    found = {name.decode(): value.decode() for name, value in raw.items()}
    return {name.removeprefix(_PREFIX): value for name, value in found.items() if name.startswith(_PREFIX)}


def _checked_facts(file: pq.ParquetFile, contents: Contents) -> dict[str, str]:
    facts = _facts(file)
    if not facts:
        raise Damaged("it carries no designspace metadata")
    if not facts.get("version", "").isdecimal():
        raise Damaged("its metadata lacks a schema version")
    if int(facts["version"]) > contents.version:
        raise Damaged(f"its schema version {facts['version']} is newer than {contents.version}")
    expected = {
        "what": contents.what,
        "cell_id": contents.key.cell_id,
        "shard_id": contents.key.shard_id,
        "grader_id": contents.grader_id or "",
        "n_rows": str(file.metadata.num_rows),
    }
    for name, value in expected.items():
        if facts.get(name) != value:
            raise Damaged(f"its metadata says {name}={facts.get(name)!r}, expected {value!r}")
    return facts


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
