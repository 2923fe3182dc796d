"""Which part of a task a problem belongs to, for ever and on every machine: a hash of its id."""

from __future__ import annotations

import hashlib

_DEV_BUCKETS = (0, 1)


def bucket(problem_id: str, modulus: int = 5) -> int:
    """Return the MD5 of an id modulo `modulus`."""
    return int(hashlib.md5(problem_id.encode(), usedforsecurity=False).hexdigest(), 16) % modulus


def paper_split(unique_id: str) -> str:
    """Return "dev" or "confirm" by the source paper's rule: MD5 of the id modulo 5, buckets 0 and 1 are dev.

    [sun2026minimal] §1.5: 201 and 299 of the 500 problems.
    """
    return "dev" if bucket(unique_id) in _DEV_BUCKETS else "confirm"


def in_split(problem_id: str, split: str) -> bool:
    """Return whether a problem belongs to "dev", "confirm" or "all"."""
    return split == "all" or paper_split(problem_id) == split
