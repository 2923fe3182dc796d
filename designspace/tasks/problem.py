"""One problem of a task."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from designspace.canonical import canonical_json


@dataclass(frozen=True)
class Problem:
    """A question with its gold answer.

    Attributes:
        prompt: the text given to the model, template applied.
        answer: the gold answer as text.
        kind: what sort of problem it is (subject, difficulty class); reports break accuracy down by it.
    """

    problem_id: str
    prompt: str
    answer: str
    kind: str = ""


def content_hash(problems: Iterable[Problem]) -> str:
    """Return the SHA-256 of the problems in order: what a cell's identity says about its data."""
    canonical = canonical_json([asdict(p) for p in problems])
    return hashlib.sha256(canonical.encode()).hexdigest()
