"""Write results to files for other programs: Parquet (in one file or partitioned), CSV, JSON lines.

Models write what they like, and spreadsheets run a cell that begins like a formula. So in CSV, and there alone, a text
that begins with one of `=`, `+`, `-`, `@`, a tab or a line end (or one of the wide forms of these that spreadsheets take
for them) gets an apostrophe in front, as OWASP advises; so does a text that begins with an apostrophe, so that taking one
away gives every text back: `unguarded`. Numbers stay numbers. Parquet and JSON lines hold every text as it is.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

import pyarrow as pa

from designspace.errors import StoreError, did_you_mean
from designspace.store.commit import atomic_file

if TYPE_CHECKING:
    import pyarrow.dataset as ds

ExportFormat = Literal["parquet", "csv", "jsonl"]

_GUARD = "'"
_RUN_BY_SPREADSHEETS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"  # the last four are the wide forms of the first four


def export_results(
    dataset: ds.Dataset,
    path: str | Path,
    *,
    file_format: str | None = None,
    partition_by: Sequence[str] = (),
) -> Path:
    """Write a dataset to `path`, whole or not at all, and return the path.

    Args:
        dataset: what `ResultsStore.samples` returned.
        path: a file, which is replaced if it exists; with `partition_by` a new folder.
        file_format: taken from the suffix of `path` by default.
        partition_by: columns that become folders (`model=…/task=…/`), for Parquet only.

    Raises:
        StoreError: an unknown format or column, a folder that exists already, or writing failed.
    """
    path = Path(path)
    chosen = file_format or ("parquet" if partition_by else path.suffix.lstrip("."))
    if chosen not in get_args(ExportFormat):
        raise StoreError(f"export writes {', '.join(get_args(ExportFormat))}, got {chosen!r} from {path.name!r}")
    table = plain_columns(dataset.to_table())
    if partition_by:
        return _write_partitioned(table, path, chosen, partition_by)
    with atomic_file(path, path.resolve().parent) as stream:
        {"parquet": _write_parquet, "csv": write_csv, "jsonl": _write_jsonl}[chosen](table, stream)
    return path


def plain_columns(table: pa.Table) -> pa.Table:
    """Return a table without dictionary columns, which not every reader knows."""
    fields = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in table.schema]
    return table.cast(pa.schema(fields))


def _write_parquet(table: pa.Table, stream: BinaryIO) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, stream, compression="zstd")


def write_csv(table: pa.Table, stream: BinaryIO) -> None:
    """Write a table as CSV: lists as JSON, and with texts guarded from spreadsheets."""
    import pyarrow.csv

    for index, field in enumerate(table.schema):
        if pa.types.is_list(field.type):  # CSV has no lists: write them as JSON
            texts = [None if value is None else json.dumps(value) for value in table.column(index).to_pylist()]
        elif pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            texts = [None if text is None else _guarded(text) for text in table.column(index).to_pylist()]
        else:
            continue
        table = table.set_column(index, field.name, pa.array(texts, type=pa.string()))
    pyarrow.csv.write_csv(table, stream)


def unguarded(text: str) -> str:
    """Return a text of a CSV export as it was before a leading apostrophe kept spreadsheets from running it."""
    return text.removeprefix(_GUARD)


def _guarded(text: str) -> str:
    return f"{_GUARD}{text}" if text[:1] and text[0] in _GUARD + _RUN_BY_SPREADSHEETS else text


def _write_jsonl(table: pa.Table, stream: BinaryIO) -> None:
    for batch in table.to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            stream.write(json.dumps(row, default=_json_value, ensure_ascii=False).encode("utf-8") + b"\n")


def _json_value(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON form of {type(value).__name__}")


def _write_partitioned(table: pa.Table, path: Path, file_format: str, partition_by: Sequence[str]) -> Path:
    import pyarrow.dataset as ds

    if file_format != "parquet":
        raise StoreError(f"partition_by needs the format parquet, got {file_format!r}")
    for name in partition_by:
        if name not in table.column_names:
            raise StoreError(f"unknown column {name!r}{did_you_mean(name, table.column_names)}")
    if path.exists():
        raise StoreError(f"{path} exists already: a partitioned export makes a new folder")
    temporary = path.resolve().parent / f".{path.name}-{secrets.token_hex(8)}"
    partitioning = ds.partitioning(pa.schema([table.schema.field(name) for name in partition_by]), flavor="hive")
    try:
        ds.write_dataset(table, temporary, format="parquet", partitioning=partitioning)
        os.replace(temporary, path)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot write {path}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already unless something failed
    return path
