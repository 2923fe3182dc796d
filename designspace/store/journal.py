"""What is finished of a shard that is not whole yet: lines beside the results, read back by whoever makes the shard later.

A journal saves work, it vouches for nothing that is stored: samples are what their shard file says. Every attempt writes a file
of its own, `journals/<aa>/<cell_id>/<shard_id>.<random>.jsonl`, so that no two writers share one. Each line begins with the
SHA-256 of what follows. The first line says under what conditions the others were made; a file whose conditions are other ones
is left alone. A line that a kill tore, or a disk damaged, is passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from designspace.store.layout import Layout, ShardKey, is_id

_DIGEST_CHARACTERS = 64
_TRIES = 10


class Journal:
    """The journal of one shard, as one attempt at it reads and writes it.

    Args:
        layout: of the store.
        key: the shard.
        conditions: what must be equal for a line to be used again, as plain JSON.
    """

    def __init__(self, layout: Layout, key: ShardKey, conditions: Mapping[str, Any]) -> None:
        self._folder, self._key = layout.journals_of(key.cell_id), key
        self._conditions = {"cell_id": key.cell_id, "shard_id": key.shard_id, **conditions}
        self._path = self._folder / f"{key.shard_id}.{secrets.token_hex(8)}.jsonl"
        self._has_begun = self._has_failed = False

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield what earlier attempts under the same conditions have noted, file by file."""
        for path in self._files():
            lines = _sound_lines(path)
            if next(lines, None) == self._conditions:
                yield from lines

    def write(self, entries: list[dict[str, Any]]) -> None:
        """Note entries, and wait until they are on the disk.

        A disk that refuses is no error here: the commit of the shard will tell. Nothing more is noted then, since what
        follows a torn line in the same line would be lost with it.
        """
        if self._has_failed or not entries:
            return
        noted = entries if self._has_begun else [self._conditions, *entries]
        content = b"".join(map(_line, noted))
        try:
            with os.fdopen(self._open(), "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:
            self._has_failed = True
        self._has_begun = True

    def _open(self) -> int:
        """Open the file of this attempt. Only its first write makes it: whoever commits the shard removes it for good."""
        if self._has_begun:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND)
        for _ in range(_TRIES):
            self._folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # whoever was the last one here has just taken the folder away
                return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
        raise FileNotFoundError(self._path)

    def remove(self) -> None:
        """Remove what all attempts have noted: the shard is committed."""
        for path in self._files():
            _remove(path)

    def _files(self) -> list[Path]:
        with suppress(OSError):
            return sorted(self._folder.glob(f"{self._key.shard_id}.*.jsonl"))
        return []


def sweep_journals(layout: Layout) -> None:
    """Remove the journals of shards that are committed: a worker was killed after another one had been quicker."""
    for path, key in journals(layout):
        if key is not None and layout.samples(key).exists():
            _remove(path)


def journals(layout: Layout) -> Iterator[tuple[Path, ShardKey | None]]:
    """Yield every file below `journals/` with the shard that it belongs to by its name, None for a foreign file."""
    with suppress(OSError):
        for path in sorted(layout.journals.glob("*/*/*")):
            shard_id, _, attempt = path.name.removesuffix(".jsonl").partition(".")
            names = (path.parent.name, shard_id, attempt)
            known = path.suffix == ".jsonl" and all(map(is_id, names)) and path.parent.parent.name == names[0][:2]
            yield path, ShardKey(names[0], shard_id) if known else None


def _remove(path: Path) -> None:
    with suppress(OSError):  # another worker may be removing it too, and what stays is swept later
        path.unlink(missing_ok=True)
        for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
            folder.rmdir()  # as far as they are empty


def _line(entry: Mapping[str, Any]) -> bytes:
    content = json.dumps(entry, separators=(",", ":")).encode()
    return hashlib.sha256(content).hexdigest().encode() + b" " + content + b"\n"


def _sound_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a file whose checksums agree."""
    with suppress(OSError), path.open("rb") as stream:
        for line in stream:
            digest, content = line[:_DIGEST_CHARACTERS], line[_DIGEST_CHARACTERS + 1 : -1]
            if line.endswith(b"\n") and hashlib.sha256(content).hexdigest().encode() == digest:
                yield json.loads(content)
