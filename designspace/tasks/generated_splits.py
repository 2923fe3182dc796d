"""What tasks with generated problems share: the marks of a word-level language, and splits that no question crosses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, TypeVar

from designspace.errors import DeclarationError

BOS: Final = "<bos>"
EOS: Final = "<eos>"
PAD: Final = "<pad>"
UNK: Final = "<unk>"
SPLIT_BUCKETS: Final[dict[str, range]] = {
    "train": range(5),
    "dev": range(5, 6),
    "confirm": range(6, 7),
    "calibration": range(7, 8),
}
N_BUCKETS: Final = 8
Problem = TypeVar("Problem")


def problems_of(task: str, draw: Callable[[str, int], Problem], split: str, count: int, start: int) -> list[Problem]:
    """Return problems `start … start + count - 1` of a split.

    Raises:
        DeclarationError: no such split, or a negative count or start.
    """
    if split not in SPLIT_BUCKETS:
        raise DeclarationError(f"{task} has the splits {', '.join(SPLIT_BUCKETS)}, got split={split!r}")
    if count < 0 or start < 0:
        raise DeclarationError(f"count and start must not be negative, got count={count}, start={start}")
    return [draw(split, index) for index in range(start, start + count)]


def bucket_of(content: str) -> int:
    """Return the bucket of a question's content, a hash of it."""
    return _number(content, 4) % N_BUCKETS


def seed_of(recipe: str) -> int:
    """Return the seed of a problem's recipe, which names its task, version, split and index."""
    return _number(recipe, 8)


def _number(text: str, n_bytes: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:n_bytes], "big")
