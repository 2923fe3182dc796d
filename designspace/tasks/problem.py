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
    return _hash([_content(problem) for problem in problems])


def prefix_hashes(problems: Iterable[Problem]) -> list[str]:
    """Return what `content_hash` is of the first problem, of the first two, and so on.

    Canonical JSON of a list is that of its entries between brackets, so each problem is written and hashed once.
    """
    running, found = hashlib.sha256(b"["), []
    for index, problem in enumerate(problems):
        running.update((("," if index else "") + canonical_json(_content(problem))).encode())
        whole = running.copy()
        whole.update(b"]")
        found.append(whole.hexdigest())
    return found


def solutions_hash(problems: Iterable[Problem]) -> str:
    """Return the SHA-256 of the solutions in the order of the problems."""
    return _hash([[p.problem_id, p.solution] for p in problems])


def _content(problem: Problem) -> dict[str, str]:
    return {name: value for name, value in asdict(problem).items() if name != "solution"}


def _hash(found: list[Any]) -> str:
    return hashlib.sha256(canonical_json(found).encode()).hexdigest()
