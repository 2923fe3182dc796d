"""Remembers which shard files were verified, so that one that stays as it is costs one reading."""

from __future__ import annotations

import os
from pathlib import Path

from designspace.store.shard_file import Contents, Facts, check_shard

_Stamp = tuple[int, int, int, int]


class VerifiedShards:
    """Checks shard files, each again only when another file has taken its place, or it has been written to."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[_Stamp, Facts]] = {}

    def facts(self, path: Path, contents: Contents) -> Facts:
        """Return what is known of a shard file that is whole, and what its name says.

        Raises:
            Damaged: it is not; `Absent` and `Unreadable` are kinds of it.
        """
        stamp = _stamp(path)
        known = self._known.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        facts = check_shard(path, contents)
        if stamp is not None:  # taken before the reading: a file that came in between is read again
            self._known[path] = stamp, facts
        return facts


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None  # the check says why
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
