"""The one reader of tables with commas: strict UTF-8, a header, as many values in every row, every fault with its place."""

from __future__ import annotations

import csv
from pathlib import Path

from designspace.errors import DeclarationError
from designspace.tasks.json_lines import Line

csv.field_size_limit(2**26)  # of characters in one value


def read_csv_rows(path: str | Path) -> list[Line]:
    """Return the rows of a file by the names of its header; a row's number is the line that it begins on.

    Raises:
        DeclarationError: no such file, or a row that breaks a rule; the message starts with `file:line`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DeclarationError(f"task data not found: {path}")
    rows: list[Line] = []
    header: list[str] | None = None
    number = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            for values in reader:
                if header is None:
                    header = _checked_header(values, f"{file}:{number}")
                elif values:
                    rows.append(_row(number, header, values, f"{file}:{number}"))
                number = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise DeclarationError(f"{file}: not UTF-8: byte 0x{error.object[error.start]:02x}") from None
    except csv.Error as error:
        raise DeclarationError(f"{file}:{number}: not a table with commas: {error}") from None
    except OSError as error:
        raise DeclarationError(f"{file}: cannot be read: {error.strerror}") from error
    return rows


def _checked_header(values: list[str], place: str) -> list[str]:
    twice = next((name for name in values if values.count(name) > 1), None)
    if twice is not None:
        raise DeclarationError(f"{place}: column {twice!r} stands twice in the header")
    return values


def _row(number: int, header: list[str], values: list[str], place: str) -> Line:
    if len(values) != len(header):
        raise DeclarationError(f"{place}: a row must have {len(header)} values, as the header, got {len(values)}")
    return Line(number, dict(zip(header, values, strict=True)))
