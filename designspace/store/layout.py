"""The one owner of paths inside a results store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from designspace.errors import StoreError

FORMAT_VERSION = 1  # of the folder as a whole; a reader refuses a larger one

# Ids and labels become file names, so nothing in them may climb out of the store. pyarrow's discovery skips names that
# begin with a dot or an underscore, so those are refused too.
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{1,127}")
_STUDY = re.compile(r"[0-9A-Za-z][0-9A-Za-z._ -]{0,127}")


@dataclass(frozen=True, order=True)
class ShardKey:
    """Names one shard."""

    cell_id: str
    shard_id: str

    def __post_init__(self) -> None:
        """Refuse ids that cannot be file names."""
        for name, value in (("cell_id", self.cell_id), ("shard_id", self.shard_id)):
            check_id(name, value)


@dataclass(frozen=True)
class Layout:
    """Where things lie below `root`.

    Two hexadecimal digits of the cell id fan the cells out, so that no folder listing grows long.
    """

    root: Path

    @property
    def format_file(self) -> Path:
        """The file that makes a folder a results store."""
        return self.root / "designspace.json"

    @property
    def scratch(self) -> Path:
        """Files being written; on the same file system as everything else, so that a rename is atomic."""
        return self.root / "tmp"

    @property
    def studies(self) -> Path:
        """Resolved declarations, one folder per study."""
        return self.root / "studies"

    @property
    def cells(self) -> Path:
        """Identity documents."""
        return self.root / "cells"

    @property
    def all_samples(self) -> Path:
        """Generations."""
        return self.root / "samples"

    @property
    def all_grades(self) -> Path:
        """Grades, one folder per grader."""
        return self.root / "grades"

    @property
    def failures(self) -> Path:
        """Reasons of failed attempts."""
        return self.root / "failures"

    @property
    def leases(self) -> Path:
        """Which run is at which shard; there while a run is."""
        return self.root / "leases"

    @property
    def journals(self) -> Path:
        """Finished generations of shards that are not whole yet; there while there are any."""
        return self.root / "journals"

    @property
    def set_aside(self) -> Path:
        """Damaged files that were moved out of the way, under the path they had."""
        return self.root / "damaged"

    def aside(self, path: Path) -> Path:
        """Return where a file of the store goes when it is set aside, if no other lies there already."""
        return self.set_aside / path.relative_to(self.root)

    def study(self, study: str, digest: str) -> Path:
        """Return where one declaration of a study lies."""
        if not _STUDY.fullmatch(study):
            raise StoreError(f"a study's name must be letters, digits, '.', '_', '-' and spaces, got {study!r}")
        return self.studies / study / f"{digest}.json"

    def cell(self, cell_id: str) -> Path:
        """Return where a cell's identity document lies."""
        return self.cells / check_id("cell_id", cell_id)[:2] / f"{cell_id}.json"

    def samples(self, key: ShardKey) -> Path:
        """Return where a shard's generations lie."""
        return self.samples_of(key.cell_id) / f"{key.shard_id}.parquet"

    def samples_of(self, cell_id: str) -> Path:
        """Return the folder of a cell's generations."""
        return self.all_samples / check_id("cell_id", cell_id)[:2] / cell_id

    def journals_of(self, cell_id: str) -> Path:
        """Return the folder of the journals of a cell."""
        return self.journals / check_id("cell_id", cell_id)[:2] / cell_id

    def grades(self, grader_id: str, key: ShardKey) -> Path:
        """Return where one grader's grades of a shard lie."""
        return self.graded_by(grader_id) / key.cell_id[:2] / key.cell_id / f"{key.shard_id}.parquet"

    def graded_by(self, grader_id: str) -> Path:
        """Return the folder of one grader."""
        return self.all_grades / check_id("grader_id", grader_id)

    def failure(self, key: ShardKey, attempt: int) -> Path:
        """Return where the reason of a failed attempt lies."""
        return self.failures / key.cell_id[:2] / key.cell_id / f"{key.shard_id}.{attempt}.json"


def check_id(name: str, value: str) -> str:
    """Return `value` if it can serve as a file name.

    Raises:
        StoreError: it cannot.
    """
    if not is_id(value):
        raise StoreError(f"{name} must be 2 to 128 letters, digits, '_' and '-', got {value!r}")
    return value


def is_id(value: object) -> bool:
    """Return whether something can serve as a file name."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def shard_of(path: Path, top: Path) -> ShardKey | None:
    """Return which shard a file below `top` holds, judged by its name alone; None for a foreign file."""
    parts = path.relative_to(top).parts
    if len(parts) != 3 or path.suffix != ".parquet" or parts[0] != parts[1][:2]:
        return None
    try:
        return ShardKey(parts[1], path.stem)
    except StoreError:
        return None


def is_document(path: Path, top: Path) -> bool:
    """Return whether a file below a folder of documents is one, judged by its name alone; the others are foreign."""
    parts = path.relative_to(top).parts
    if path.suffix != ".json":
        return False
    if top.name == "studies":
        return len(parts) == 2 and _STUDY.fullmatch(parts[0]) is not None
    if top.name == "cells":
        return len(parts) == 2 and is_id(path.stem) and parts[0] == path.stem[:2]
    shard_id, _, attempt = path.stem.rpartition(".")
    return (
        len(parts) == 3 and parts[0] == parts[1][:2] and all(map(is_id, (parts[1], shard_id))) and attempt.isdecimal()
    )
