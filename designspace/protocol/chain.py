"""An append-only file of JSON lines, each holding the hash of the line before it.

A side file `<name>.head` holds number and hash of the last line, so that a file cut short is told from a whole one. A
process killed between the two leaves a line that the head does not know yet: that line stands, and the next append
brings the head up to it. One killed in the middle of a line leaves a line without an end that nobody was told of: it
is dropped at the next append.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from designspace.canonical import canonical_json
from designspace.errors import ProtocolError
from designspace.store.commit import atomic_bytes

NOTHING = "0" * 64


class Link(NamedTuple):
    """One line: what it says, and the hash of its canonical JSON."""

    content: dict[str, Any]
    sha256: str


class Head(NamedTuple):
    """Number and hash of the last line; 0 and zeros before the first."""

    n: int
    sha256: str


def read_chain(path: Path) -> list[Link]:
    """Return all lines in order.

    Raises:
        ProtocolError: naming the first line that was edited, moved, or put in, or saying that lines are gone.
    """
    if not path.exists():
        _check_never_written(path)
        return []
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)  # an append changes two files
            return _read(path, stream)[0]
    except OSError as error:
        raise ProtocolError(f"cannot read {path}: {error.strerror}") from error


def append_link(path: Path, content_after: Callable[[Link | None], Mapping[str, Any]]) -> Link:
    """Add a line with its number `n` and the hash `previous` of the line before, on disk when this returns.

    Args:
        path: of the file.
        content_after: returns what the line says, given the line before. It is called while no other process can append.

    Raises:
        ProtocolError: the file does not hold together, or cannot be written.
    """
    try:
        with _open_locked(path) as stream:
            links, end = _read(path, stream)
            last = links[-1].sha256 if links else NOTHING
            numbered = {"n": len(links) + 1, "previous": last, **content_after(links[-1] if links else None)}
            link = Link(json.loads(canonical_json(numbered)), _hash(numbered))
            stream.truncate(end)
            stream.seek(end)
            stream.write(f"{canonical_json(numbered)}\n".encode())
            stream.flush()
            os.fsync(stream.fileno())
            _write_head(path, Head(len(links) + 1, link.sha256))
            return link
    except OSError as error:
        raise ProtocolError(f"cannot write {path}: {error.strerror}") from error


def head_file(path: Path) -> Path:
    """Return the side file of a chain."""
    return path.with_name(f"{path.name}.head")


@contextmanager
def _open_locked(path: Path) -> Iterator[BinaryIO]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as made, path.open("rb+") as stream:
        fcntl.flock(made, fcntl.LOCK_EX)  # two that append at once would continue the same line
        if made.tell() == 0 and not head_file(path).exists():
            _write_head(path, Head(0, NOTHING))
        yield stream


def _read(path: Path, stream: BinaryIO) -> tuple[list[Link], int]:
    """Return the lines, and where the last whole one ends in bytes."""
    stream.seek(0)
    whole, _, torn = stream.read().rpartition(b"\n")
    links: list[Link] = []
    for number, line in enumerate(whole.split(b"\n") if whole else (), start=1):
        links.append(_parsed(path, number, line, links[-1].sha256 if links else NOTHING))
    _check_head(path, links, torn)
    return links, len(whole) + 1 if links else 0


def _parsed(path: Path, number: int, line: bytes, previous: str) -> Link:
    place = f"{path}:{number}"
    try:
        text = line.decode()
        content = json.loads(text)
    except ValueError:
        raise ProtocolError(f"{place}: this line of the ledger is damaged: not JSON") from None
    if not isinstance(content, dict) or text != _canonical(content):
        raise ProtocolError(f"{place}: this line of the ledger was edited: not what was written here")
    if content.get("n") != number:
        raise ProtocolError(f"{place}: line {number} of the ledger must say n={number}, got n={content.get('n')}")
    if content.get("previous") != previous:
        raise ProtocolError(
            f"{place}: the chain breaks here: line {number} continues {content.get('previous')}, "
            f"the line before has {previous}, so one of the two was edited or a line is gone"
        )
    return Link(content, _hash(content))


def _check_head(path: Path, links: list[Link], torn: bytes) -> None:
    head, n = _read_head(path, some_lines=bool(links or torn)), len(links)
    if head.n > n:
        raise ProtocolError(f"{path}:{n + 1}: the ledger was cut short: it must have {head.n} lines, got {n}")
    known = links[head.n - 1].sha256 if head.n else NOTHING
    if known != head.sha256:
        raise ProtocolError(f"{path}:{head.n}: this line was edited: it must have {head.sha256}, got {known}")
    if head.n < n - 1:
        raise ProtocolError(f"{path}:{head.n + 2}: lines were added behind the ledger's back: {head.n} known, got {n}")


def _check_never_written(path: Path) -> None:
    if head_file(path).exists() and _read_head(path, some_lines=False).n:
        raise ProtocolError(f"the ledger {path} is gone: its side file {head_file(path).name} is still there")


def _read_head(path: Path, *, some_lines: bool) -> Head:
    side = head_file(path)
    if not side.exists():
        if some_lines:
            raise ProtocolError(f"{side} is gone: it must say where the ledger ends")
        return Head(0, NOTHING)
    try:
        found = json.loads(side.read_bytes())
        return Head(int(found["n"]), str(found["sha256"]))
    except (ValueError, KeyError, TypeError):
        raise ProtocolError(f"{side} is damaged: it must hold n and sha256") from None


def _write_head(path: Path, head: Head) -> None:
    atomic_bytes(head_file(path), f"{canonical_json(head._asdict())}\n".encode(), path.parent)


def _canonical(content: Mapping[str, Any]) -> str | None:
    try:
        return canonical_json(content)
    except ValueError:  # NaN, which is not JSON
        return None


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
