"""Put a file in place whole or not at all, and make it last through a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from designspace.canonical import canonical_json
from designspace.errors import StoreError
from designspace.store.scratch import scratch_name

# What a file system answers that has no hard links, or none between these two folders.
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK}


@contextmanager
def atomic_file(target: Path, scratch: Path, *, replace: bool = True) -> Iterator[BinaryIO]:
    """Open a scratch file that becomes `target` when the block ends without an exception.

    Readers see the old file, or none, until the new one is complete. `scratch` must be on the file system of `target`.
    Whatever stops the block, Ctrl-C included, the scratch file is removed and `target` is untouched.

    replace: whether a file that is there gives way. If not, it stays as it is, which is no error: the first writer wins.

    Raises:
        StoreError: the file system refused; a commit that failed is never passed over.
    """
    try:
        _make_folder(scratch)
        _make_folder(target.parent)
        temporary = scratch / scratch_name(target.name)
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target) if replace else _place_first(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error}") from error


def atomic_bytes(target: Path, content: bytes, scratch: Path, *, replace: bool = True) -> None:
    """Write `content` to `target` atomically; see `atomic_file`."""
    with atomic_file(target, scratch, replace=replace) as stream:
        stream.write(content)


def document_bytes(document: Any) -> bytes:
    """Return a document as canonical JSON in UTF-8, so that its bytes depend on its content alone.

    Raises:
        StoreError: it holds something that JSON cannot say, NaN and infinity included.
    """
    try:
        return canonical_json(document).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise StoreError(f"a stored document must be plain JSON: {error}") from error


def _place_first(temporary: Path, target: Path) -> None:
    """Give a scratch file its name unless the name is taken, and remove the scratch file."""
    try:
        os.link(temporary, target)  # unlike a rename it fails where the name is taken, in one step
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Between the look and the rename another writer may come: its file would then give way to one of equal rows.
        if not target.exists():
            os.replace(temporary, target)
            return
    temporary.unlink()


def _make_folder(folder: Path) -> None:
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # The rename itself lives in the folder: without this a power cut may bring the old folder back.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
