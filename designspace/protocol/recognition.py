"""How a problem is known again under another id, in other spacing, in another order or under another template.

A problem has one content hash, of its prompt and its gold answer, and up to two marks: of its prompt, and of its prompt
without the words that all prompts of its task begin and end with, with the answer. Both marks are of normalised texts, so
that case, spacing, layout and punctuation make no new problem. The first mark does not change with the answer, the second
does not change with the template. Whoever has one hash in common with an earlier problem is that problem.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from designspace.canonical import canonical_json
from designspace.protocol.splits import normalised, without_template
from designspace.tasks.problem import Problem, content_hash

_MARK_DIGITS = 32


def problem_content(problem: Problem) -> str:
    """Return the SHA-256 of prompt and gold answer."""
    return _sha256([problem.prompt, problem.answer])


def problem_marks(problems: Sequence[Problem]) -> list[list[str]]:
    """Return the marks of the problems of one task; a text of nothing but punctuation leaves none."""
    prompts = [problem.prompt for problem in problems]
    found = []
    for problem, words in zip(problems, without_template(prompts), strict=True):
        whole, bare = normalised(problem.prompt), " ".join(words)
        texts = [["prompt", whole]] if whole else []
        texts += [["problem", bare, normalised(problem.answer)]] if bare else []
        found.append([_sha256(text)[:_MARK_DIGITS] for text in texts])
    return found


def recognised_by(problems: Sequence[Problem]) -> list[frozenset[str]]:
    """Return, for each problem of one task, all hashes that a ledger may know it by, those of earlier versions included."""
    return [
        frozenset({problem_content(problem), content_hash([problem]), *marks})
        for problem, marks in zip(problems, problem_marks(problems), strict=True)
    ]


def _sha256(parts: Sequence[str]) -> str:
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()
