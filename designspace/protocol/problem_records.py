"""What a registration says about the problems of its splits: ids and hashes, never a text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from designspace.canonical import canonical_json
from designspace.protocol.recognition import problem_content, problem_marks
from designspace.tasks.problem import Problem

_FIRST_WITHOUT_IDS = 3  # format of registrations whose content hashes leave the id out


def task_record(
    name: str, split: str, problems: Sequence[Problem], template: str, grader: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a registration says about the problems of a task split.

    Args:
        name: of the task.
        split: of it.
        problems: in order.
        template: hash of the prompt template.
        grader: its id, kind and version.
    """
    contents = [problem_content(problem) for problem in problems]
    return {
        "name": name,
        "split": split,
        "content": _sha256(sorted(contents)),
        "template": template,
        "grader": dict(grader),
        "problems": [
            {"id": problem.problem_id, "content": content, "marks": marks}
            for problem, content, marks in zip(problems, contents, problem_marks(problems), strict=True)
        ],
    }


def hashes_ids(document: Mapping[str, Any]) -> bool:
    """Return whether the content hashes of a document hash the ids of the problems too, as those of old formats do."""
    return bool(document.get("format", _FIRST_WITHOUT_IDS) < _FIRST_WITHOUT_IDS)


def problems_of(tasks: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of all problems of some tasks."""
    return [problem for task in tasks for problem in task["problems"]]


def heldout_problems(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return `{id, content, marks}` of all held-out problems in registered order; old formats have no marks."""
    return problems_of(document["data"]["heldout"])


def heldout_hash(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the held-out contents, whatever their ids and order. Old formats hash ids and order too."""
    problems = heldout_problems(document)
    if hashes_ids(document):
        return _sha256([[problem["id"], problem["content"]] for problem in problems])
    return _sha256(sorted(problem["content"] for problem in problems))


def known_by(problems: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the ids of problem records, and all hashes that these problems are known by."""
    problems = list(problems)
    return [p["id"] for p in problems], [found for p in problems for found in (p["content"], *p.get("marks", ()))]


def _sha256(parts: Sequence[Any]) -> str:
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()
