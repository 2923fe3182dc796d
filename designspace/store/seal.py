"""The checksum that a stored file carries inside itself.

A sealed file holds the mark `"designspace.sha256":"` and after it 64 hexadecimal digits: the SHA-256 of the whole file,
these digits read as zeros. File and checksum so appear in one rename: no crash comes between them, and of two writers of
one name the file that stays is checked against its own checksum. The mark is a key of a JSON document, or a text in a
Parquet file's metadata, so that every other program reads the file as before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

SEAL_KEY = "designspace.sha256"
MARK = f'"{SEAL_KEY}":"'.encode()  # with its quotes it cannot stand inside a text of a JSON document
N_DIGITS = 64
OPEN_SEAL = MARK + b"0" * N_DIGITS + b'"'  # what a file holds before it is sealed


@dataclass(frozen=True)
class Seal:
    """What the checksum of a file says.

    Attributes:
        digest: SHA-256 of the bytes; the digits of a mark count as zeros.
        stated: the digits after the mark, None where there is no mark.
    """

    digest: str
    stated: bytes | None

    @property
    def is_broken(self) -> bool:
        """Whether the bytes are not those that were sealed."""
        return self.stated is not None and self.stated != self.digest.encode()


def sealed(content: bytes) -> bytes:
    """Return the bytes with their checksum filled in; they must hold `OPEN_SEAL`, with no mark after it."""
    start = content.rindex(MARK) + len(MARK)
    return b"".join((content[:start], seal_of(content).digest.encode(), content[start + N_DIGITS :]))


def seal_of(content: bytes) -> Seal:
    """Return the checksum of some bytes beside what they state themselves.

    The last mark counts: in a Parquet file the rows, which may hold any text, come before the metadata.
    """
    found = content.rfind(MARK)
    if found < 0:
        return Seal(hashlib.sha256(content).hexdigest(), None)
    view, start = memoryview(content), found + len(MARK)
    stated = content[start : start + N_DIGITS]
    digest = hashlib.sha256(view[:start])
    digest.update(b"0" * len(stated))
    digest.update(view[start + len(stated) :])
    return Seal(digest.hexdigest(), stated)
