"""One Parquet file per shard: write it, open it, and tell a whole file from a damaged one.

The file carries the identity of its cell in the Parquet metadata, so that a file found alone can be interpreted, its ids,
so that a file under a wrong name is noticed, and a checksum of all its bytes (`designspace.store.seal`). Grades name the
samples file that they grade by its checksum: samples that were made anew are graded anew.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from designspace.store.commit import atomic_bytes, document_bytes
from designspace.store.layout import ShardKey
from designspace.store.schema import GRADES_SCHEMA, SAMPLES_SCHEMA, conform
from designspace.store.seal import OPEN_SEAL, sealed
from designspace.store.stored_file import Damaged, StoredFile, Unreadable, read_file

_PREFIX = "designspace."
_SCHEMAS = {"samples": SAMPLES_SCHEMA, "grades": GRADES_SCHEMA}


@dataclass(frozen=True)
class Contents:
    """What a shard file says about itself: `what` is `samples` or `grades`; `grader_id` is None for samples."""

    what: str
    version: int
    key: ShardKey
    grader_id: str | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of a shard file that was checked.

    Attributes:
        digest: its checksum, which names this very file.
        is_sealed: whether it carries the checksum; one from before there were checksums does not.
        committed_at: when it was written, as ISO text.
        graded: of grades, the `digest` of the samples file they grade; empty where the file does not say.
    """

    digest: str
    is_sealed: bool
    committed_at: str
    graded: str


class ShardRows(NamedTuple):
    """The rows of a shard file, what is known of it, and the identity of its cell as JSON."""

    table: pa.Table
    facts: Facts
    identity: str


def write_shard(
    path: Path,
    table: pa.Table,
    contents: Contents,
    identity: Mapping[str, Any] | None,
    scratch: Path,
    *,
    graded: str = "",
) -> None:
    """Commit a table as one shard file with its checksum; `graded` is the digest of the samples that grades are of.

    A file that is there stays, and the table is dropped: of two writers the first one wins.

    Raises:
        StoreError: the file system refused, or the identity is not plain JSON.
    """
    facts = {
        "what": contents.what,
        "version": str(contents.version),
        "cell_id": contents.key.cell_id,
        "shard_id": contents.key.shard_id,
        "grader_id": contents.grader_id or "",
        "graded": graded,
        "n_rows": str(table.num_rows),
        "committed_at": datetime.now(UTC).isoformat(),
        "identity": document_bytes(identity).decode(),
        "sealed": "sha256",  # so that a file whose checksum itself is hit does not pass for one that never had any
    }
    table = table.replace_schema_metadata({f"{_PREFIX}{name}": value for name, value in facts.items()})
    stream = io.BytesIO()
    with pq.ParquetWriter(stream, table.schema, compression="zstd", write_page_checksum=True, version="2.6") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({f"{_PREFIX}checksum": OPEN_SEAL.decode()})
    atomic_bytes(path, sealed(stream.getvalue()), scratch, replace=False)


def check_shard(path: Path, contents: Contents) -> Facts:
    """Return what is known of a shard file after checking that it is whole, and what its name says.

    Raises:
        Damaged: it is not.
    """
    file = read_file(path)
    with _parsing(file) as parquet:
        facts, _ = _checked(parquet, file, contents)
        if not file.is_sealed:
            _whole_table(parquet, contents)
    return facts


def read_shard(path: Path, contents: Contents, schema: pa.Schema) -> ShardRows:
    """Read a shard file, in the columns of `schema`, after the checks of `check_shard`.

    Raises:
        Damaged: the file is torn, foreign, under a wrong name, of a newer version or of another schema.
    """
    file = read_file(path)
    with _parsing(file) as parquet:
        facts, identity = _checked(parquet, file, contents)
        if file.is_sealed:
            stored = [name for name in schema.names if name in parquet.schema_arrow.names]
            table = parquet.read(columns=stored)
        else:
            table = _whole_table(parquet, contents)
        return ShardRows(conform(table, schema), facts, identity)


def check_graded(grades: Facts, samples: Facts) -> None:
    """Check that grades are of this very samples file.

    Grades that do not say what they grade are from before there were checksums, like the samples they belong to.

    Raises:
        Damaged: they are of another.
    """
    if grades.graded != samples.digest and (grades.graded or samples.is_sealed):
        raise Damaged("it grades samples that are stored no more: they were made anew since")


def same_rows(left: pa.Table, right: pa.Table, columns: Sequence[str]) -> bool:
    """Return whether two tables agree in these columns, row by row."""
    return all(left[name].to_pylist() == right[name].to_pylist() for name in columns)


@contextmanager
def _parsing(file: StoredFile) -> Iterator[pq.ParquetFile]:
    """Open the bytes as Parquet; whatever goes wrong in the block is said in one line.

    Nothing vouches for the bytes of a file without a checksum, and a parser led astray raises anything, from
    UnicodeDecodeError to MemoryError. Where a checksum does, the fault is with this program or machine, not with the file.
    """
    try:
        yield pq.ParquetFile(pa.BufferReader(file.content), page_checksum_verification=True)
    except Damaged:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise (Unreadable if file.is_sealed else Damaged)(reason) from error


def _whole_table(parquet: pq.ParquetFile, contents: Contents) -> pa.Table:
    """Return every column of a file without a checksum, verified as far as Parquet and the ids in the rows can."""
    table = conform(parquet.read(), _SCHEMAS[contents.what])
    table.validate(full=True)
    for name, value in (("cell_id", contents.key.cell_id), ("shard_id", contents.key.shard_id)):
        if set(table[name].to_pylist()) != {value}:
            raise Damaged(f"its rows are of another {name} than {value!r}")
    return table


def _checked(parquet: pq.ParquetFile, file: StoredFile, contents: Contents) -> tuple[Facts, str]:
    raw = {name.decode(): value.decode() for name, value in (parquet.schema_arrow.metadata or {}).items()}
    facts = {name.removeprefix(_PREFIX): value for name, value in raw.items() if name.startswith(_PREFIX)}
    if not facts:
        raise Damaged("it carries no designspace metadata")
    if "sealed" in facts and not file.is_sealed:
        raise Damaged("its checksum is not where it was written")
    if not facts.get("version", "").isdecimal():
        raise Damaged("its metadata lacks a schema version")
    if int(facts["version"]) > contents.version:
        # Whatever is newer than this has a checksum.
        kind = Unreadable if file.is_sealed else Damaged
        raise kind(f"its schema version {facts['version']} is newer than {contents.version}: upgrade designspace")
    expected = {
        "what": contents.what,
        "cell_id": contents.key.cell_id,
        "shard_id": contents.key.shard_id,
        "grader_id": contents.grader_id or "",
        "n_rows": str(parquet.metadata.num_rows),
    }
    for name, value in expected.items():
        if facts.get(name) != value:
            raise Damaged(f"its metadata says {name}={facts.get(name)!r}, expected {value!r}")
    found = Facts(file.digest, file.is_sealed, facts.get("committed_at", ""), facts.get("graded", ""))
    return found, facts.get("identity", "")
