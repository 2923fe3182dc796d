"""Read a file of the store whole, and tell what was committed from what is damaged.

Bytes are checked and then interpreted in memory: what a parser sees is what the checksum vouches for.
"""

from __future__ import annotations

import errno
import stat
from dataclasses import dataclass
from pathlib import Path

from designspace.errors import DesignspaceError
from designspace.store.seal import seal_of

# What the medium says about this one file. Anything else (permissions, open files, memory, a server that is away) says
# something about this process or this moment, and the file may be sound.
_OF_THE_FILE = frozenset({errno.EIO, errno.EISDIR, errno.ELOOP})


class Damaged(DesignspaceError):
    """A file in the store cannot serve as what its name says; the message says why."""


class Absent(Damaged):
    """There is no such file."""


class Unreadable(Damaged):
    """A file may be sound, but cannot be read here and now. It is neither used nor set aside."""


@dataclass(frozen=True)
class StoredFile:
    """The bytes of a file that is as it was committed, as far as its checksum tells.

    Attributes:
        digest: SHA-256 of the bytes, see `designspace.store.seal`: it names this very file.
        is_sealed: whether the file carries a checksum. One from before there were checksums does not.
    """

    content: bytes
    digest: str
    is_sealed: bool


def read_file(path: Path) -> StoredFile:
    """Read a file and check it against its checksum, if it has one.

    Raises:
        Absent: there is none.
        Damaged: its bytes are not those that were committed, or the medium does not give them.
        Unreadable: it cannot be read here and now.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Damaged("not a regular file")  # a pipe would keep its reader waiting for ever
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Absent("there is no such file") from error
    except OSError as error:
        kind = Damaged if error.errno in _OF_THE_FILE else Unreadable
        raise kind(f"cannot be read: {error.strerror or error}") from error
    seal = seal_of(content)
    if seal.is_broken:
        raise Damaged("its bytes are not those of its checksum")
    return StoredFile(content, seal.digest, seal.stated is not None)
