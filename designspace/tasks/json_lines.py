r"""The one reader of JSON Lines: strict UTF-8 (a byte-order mark is skipped), one object per line, every fault with its place.

Lines end with ``\n`` alone: U+2028 and the like are characters of a text. Numbers keep the digits that the file has.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from designspace.errors import DeclarationError

N_LINE_BYTES = 64 * 2**20  # a longer line is no problem of a task, but a file of another kind


class Line(NamedTuple):
    """One object and where it stands; lines count from 1."""

    number: int
    data: dict[str, Any]


class Numeral(str):
    """A JSON number as it is written, so that no digit is lost."""

    __slots__ = ()


def read_json_lines(path: str | Path) -> list[Line]:
    """Return the objects of a file; blank lines are skipped.

    Raises:
        DeclarationError: no such file, or a line that breaks a rule; the message starts with `file:line:column`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DeclarationError(f"task data not found: {path}")
    try:
        with file.open("rb") as stream:
            return [Line(number, _parsed(file, number, raw)) for number, raw in _lines(file, stream)]
    except OSError as error:
        raise DeclarationError(f"{file}: cannot be read: {error.strerror}") from error


def _lines(file: Path, stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    number = 0
    while raw := stream.readline(N_LINE_BYTES + 1):
        number += 1
        if len(raw) > N_LINE_BYTES:
            raise DeclarationError(f"{file}:{number}:1: a line must have at most {N_LINE_BYTES:,} bytes")
        raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        if raw.strip():
            yield number, raw


def _parsed(file: Path, number: int, raw: bytes) -> dict[str, Any]:
    place = f"{file}:{number}"
    try:
        row = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_int=Numeral,
            parse_float=Numeral,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise DeclarationError(f"{place}:{error.start + 1}: not UTF-8: byte 0x{raw[error.start]:02x}") from None
    except json.JSONDecodeError as error:
        raise DeclarationError(f"{place}:{error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise DeclarationError(f"{place}:1: objects and lists are nested too deeply") from None
    except ValueError as error:
        raise DeclarationError(f"{place}:1: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise DeclarationError(f"{place}:1: each line must be a JSON object, got {_kind(row)}")
    return row


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} stands twice in one object")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _kind(value: Any) -> str:
    return "number" if isinstance(value, Numeral) else type(value).__name__
