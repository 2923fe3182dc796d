"""Move a file out of the way without ever losing one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from designspace.errors import StoreError
from designspace.store.layout import Layout
from designspace.store.stored_file import Damaged


@dataclass(frozen=True)
class SetAside:
    """A file that was moved below `damaged/`, and why."""

    path: Path
    reason: str
    moved_to: Path

    def __str__(self) -> str:
        """Return all of it in one line."""
        return f"{self.path}: {self.reason}; moved to {self.moved_to}"


def set_aside(
    layout: Layout, path: Path, reason: str, check: Callable[[Path], object] | None = None
) -> SetAside | None:
    """Move a file below `damaged/`, under the path it had, and return where it went; None if there is nothing to move.

    What lies there from another time stays: the new one gets another name.

    Args:
        layout: the store.
        path: a file of it.
        reason: what is wrong with it.
        check: raises `Damaged` for a file that is no use. It is asked once more, of the file that was moved: another process
            may have put a sound one in place since the file was judged, and that one goes back.

    Raises:
        StoreError: the file system refused.
    """
    target = layout.aside(path)
    if not os.path.lexists(path):
        return None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            target = target.with_name(f"{target.stem}.{secrets.token_hex(4)}{target.suffix}")
        os.rename(path, target)
        if check is not None and _is_sound(target, check):
            os.rename(target, path)
            return None
    except FileNotFoundError:  # another process was faster
        return None
    except OSError as error:
        raise StoreError(f"cannot set {path} aside: {error}") from error
    return SetAside(path, reason, target)


def _is_sound(path: Path, check: Callable[[Path], object]) -> bool:
    try:
        check(path)
    except Damaged:
        return False
    return True
