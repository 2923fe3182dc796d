"""Which code made a row: version and content, so that results made by edited code can be told apart."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from designspace.version import __version__

_PACKAGES = ("designspace", "families", "sweeps", "cluster")
_SOURCES = (".py", ".c", ".h")


@cache
def code_id() -> str:
    """Return `version+digest` of all source files of the four packages, Python and C."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(path for path in Path(folder).rglob("*") if path.suffix in _SOURCES):
                digest.update(f"{package}/{file.relative_to(folder).as_posix()}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return f"{__version__}+{digest.hexdigest()[:12]}"
