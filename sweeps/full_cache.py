"""The full cache that teacher forcing compares with: it writes the texts that are fed, and scores each of their tokens."""

from __future__ import annotations

from functools import cache

from designspace.axes import Mechanism
from designspace.registry import mechanism, strategy


@cache
def full_cache() -> Mechanism:
    """Return the mechanism that evicts nothing, writes greedily where it is given no text, and keeps each token's score."""
    decoding = strategy("decoding", "teacher-forced")()
    return mechanism("full").override("full", decoding=decoding)
