"""Where the user's cache folder keeps the models of GGUF files: under the content of the file."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

from designspace.errors import ModelError

ORIGIN = "imported-from.json"  # in a folder that was made of a GGUF file: what it was made from, no part of the model
IMPORT_FORMAT = 1  # goes up when the same file gives another model


def cached_folder(file: Path) -> Path:
    """Return the folder in the user's cache that a GGUF file's model is kept in, whether it has been made or not.

    Raises:
        ModelError: the file cannot be read.
    """
    cache_root = Path(os.environ.get("DESIGNSPACE_CACHE", "~/.cache/designspace")).expanduser()
    return cache_root / "gguf" / f"{gguf_sha256(file)[:32]}-{IMPORT_FORMAT}"


def gguf_sha256(file: Path) -> str:
    """Return the SHA-256 of a file; a process reads it again only when its size or time has changed.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        stat = file.stat()
        return _sha256(file.resolve(), stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from error


@cache
def _sha256(file: Path, n_bytes: int, changed_ns: int) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
