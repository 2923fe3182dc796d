"""Rows of any table as text: aligned for a terminal, or as CSV, JSON or Markdown."""

from __future__ import annotations

import io
import json
from datetime import datetime
from typing import Any

import pyarrow as pa

from designspace.report.published_table import markdown_cell
from designspace.report.wording import printable
from designspace.store.export import write_csv

_WIDEST = 60  # characters of a cell in a terminal; the other formats cut nothing


def row_text(table: pa.Table, file_format: str) -> str:
    """Return rows as text.

    Args:
        table: the rows.
        file_format: `table` rounds numbers to six digits, cuts long texts and says how many rows there are; `csv`, `json` and
            `markdown` give every value whole.
    """
    if file_format == "json":
        return json.dumps(table.to_pylist(), indent=2, ensure_ascii=False, default=_spelt)
    if file_format == "csv":
        stream = io.BytesIO()
        write_csv(table, stream)
        return stream.getvalue().decode().removesuffix("\n")
    return _markdown(table) if file_format == "markdown" else _aligned(table)


def _aligned(table: pa.Table) -> str:
    rows = [[_short(value) for value in row] for row in _values(table)]
    names = list(map(printable, table.column_names))
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    numeric = [pa.types.is_integer(f.type) or pa.types.is_floating(f.type) for f in table.schema]
    lines = [_line(names, widths, numeric), "  ".join("-" * width for width in widths)]
    lines += [_line(row, widths, numeric) for row in rows]
    return "\n".join([*lines, f"({len(rows):,} row{'s' if len(rows) != 1 else ''})"])


def _line(cells: list[str], widths: list[int], numeric: list[bool]) -> str:
    placed = (
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    )
    return "  ".join(placed).rstrip()


def _markdown(table: pa.Table) -> str:
    rows = [[markdown_cell(printable(_spelt(value).replace("\n", " "))) for value in row] for row in _values(table)]
    head = [[markdown_cell(printable(name)) for name in table.column_names], ["---"] * table.num_columns]
    return "\n".join(f"| {' | '.join(row)} |" for row in (*head, *rows))


def _values(table: pa.Table) -> list[list[Any]]:
    columns = [column.to_pylist() for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else printable(_spelt(value).replace("\n", " "))
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _spelt(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else str(value)
