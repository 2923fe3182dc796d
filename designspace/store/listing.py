"""What files a store holds, judged by their names alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from designspace.store.layout import Layout, ShardKey, is_id, shard_of
from designspace.store.stored_file import Damaged, Unreadable


@dataclass(frozen=True)
class DamagedFile:
    """A file that was ignored, and why."""

    path: Path
    reason: str
    may_be_sound: bool = False  # it could not be read here and now

    @staticmethod
    def of(path: Path, error: Damaged) -> DamagedFile:
        """Return what an error says of a file."""
        return DamagedFile(path, str(error), isinstance(error, Unreadable))

    def __str__(self) -> str:
        """Return `path: reason`."""
        return f"{self.path}: {self.reason}"


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder in the order of names, except dot files, which desktops and NFS leave behind."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                yield from files_below(path)
            else:
                yield path


def shard_files(top: Path) -> tuple[dict[ShardKey, Path], list[DamagedFile]]:
    """Return the shard files below `samples/` or below one grader's folder by their names, and the foreign files."""
    found: dict[ShardKey, Path] = {}
    foreign = []
    for path in files_below(top):
        key = shard_of(path, top)
        if key is None:
            foreign.append(DamagedFile(path, "foreign file: not <aa>/<cell_id>/<shard_id>.parquet"))
        else:
            found[key] = path
    return found, foreign


def grader_ids(layout: Layout) -> list[str]:
    """Return the graders that have a folder, sorted; folders whose names cannot be ids are foreign."""
    folder = layout.all_grades
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and is_id(p.name)) if folder.is_dir() else []
