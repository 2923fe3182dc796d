"""How every command prints its table: for people, or as CSV, JSON or Markdown for programs and papers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from designspace.errors import DeclarationError

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["table", "csv", "json", "markdown"]
FormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        help="How to print: table is for people; csv, json and markdown stand alone on stdout, and notes go to stderr.",
    ),
]


def format_of(file_format: Format, as_json: bool) -> Format:
    """Return the format that the two options ask for.

    Raises:
        DeclarationError: --json is given beside another format.
    """
    if as_json and file_format not in ("table", "json"):
        raise DeclarationError(f"--json is short for --format json, got --format {file_format} too")
    return "json" if as_json else file_format


def print_found(
    file_format: Format,
    *,
    table: Callable[[], object],
    document: Callable[[], Any],
    rows: Callable[[], pa.Table],
    notes: Iterable[str] = (),
) -> None:
    """Print what a command found.

    Args:
        file_format: as asked for.
        table: prints it for people, or returns the text that does.
        document: returns all of it as plain data, for JSON.
        rows: returns its main table, for CSV and Markdown.
        notes: what a reader must know, and is in neither rows nor document; people read them in the table.
    """
    from designspace.cli.row_text import row_text

    if file_format == "table":
        text = table()
        if text is not None:
            typer.echo(text)
        return
    found = document() if file_format == "json" else rows()
    for note in notes:
        typer.echo(note, err=True)
    typer.echo(
        json.dumps(found, indent=2, ensure_ascii=False) if file_format == "json" else row_text(found, file_format)
    )


def table_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pa.Table:
    """Return a table of plain data: nothing where a row lacks a column, and JSON where a value is a list or a mapping."""
    import pyarrow as pa

    return pa.table({name: pa.array([_plain(row.get(name)) for row in rows]) for name in columns})


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple | dict) else value
