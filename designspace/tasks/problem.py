"""One problem of a task."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from designspace.canonical import canonical_json


@dataclass(frozen=True)
class Problem:
    """A question with its gold answer.

    Attributes:
        prompt: the text given to the model, template applied.
        answer: the gold answer as text.
        kind: what sort of problem it is (subject, difficulty class); reports break accuracy down by it.
        solution: a worked solution, to be fed to models by teacher forcing; empty where the problem has none.
    """

    problem_id: str
    prompt: str
    answer: str
    kind: str = ""
    solution: str = ""


def content_hash(problems: Iterable[Problem]) -> str:
    """Return the SHA-256 of the problems in order: what a cell's identity says about its data.

    Solutions have a hash of their own, for nothing but teacher forcing reads them.
    """
    return _hash([{k: v for k, v in asdict(p).items() if k != "solution"} for p in problems])


def solutions_hash(problems: Iterable[Problem]) -> str:
    """Return the SHA-256 of the solutions in the order of the problems."""
    return _hash([[p.problem_id, p.solution] for p in problems])


def _hash(found: list[Any]) -> str:
    return hashlib.sha256(canonical_json(found).encode()).hexdigest()
