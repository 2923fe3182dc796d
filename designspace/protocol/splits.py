"""Splits: which problems are for tuning, which for confirmation, and that they share none."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

from designspace.tasks.hash_split import bucket, paper_split
from designspace.tasks.problem import Problem

__all__ = ["NEAR", "bucket", "check_disjoint", "normalised", "paper_split", "without_template"]

NEAR = 0.8  # share of word runs in common from which two texts with the same numbers count as one problem
_RUN = 3  # words in a run
_TOKENS = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s]")
_NUMBER = re.compile(r"\d")
_LAYOUT = re.compile(r"\\(?:[,;:! ]|(?:quad|qquad|left|right|displaystyle|[dt]?frac)(?![a-z]))")
_MEANING = "+-*/=<>^()[]|!%"


def normalised(text: str) -> str:
    """Return a text without what does not change the problem: case, spacing, LaTeX layout, marks, digit grouping."""
    return " ".join(token for token in _tokens(text) if token[0].isalnum() or token in _MEANING)


def check_disjoint(dev: Sequence[Problem], heldout: Sequence[Problem]) -> list[str]:
    """Return one line for each problem of both sides that is the same, or nearly; empty if there is none.

    The same are problems with one id or one normalised text. Nearly the same are texts with the same numbers in the
    same order and at least `NEAR` of their runs of three words in common (of those of the shorter text, so that a
    sentence added on one side hides nothing). The words that all prompts of a side begin or end with, such as a
    template, count on neither. A problem with other numbers is another problem, however alike the words.
    """
    found = [*_same(dev, heldout, "id"), *_same(dev, heldout, "text")]
    known = {normalised(problem.prompt) for problem in dev} & {normalised(problem.prompt) for problem in heldout}
    for mine, theirs, share in _near(dev, heldout):
        if normalised(mine.prompt) not in known and mine.problem_id != theirs.problem_id:
            found.append(
                f"dev {mine.problem_id!r} and held-out {theirs.problem_id!r} are nearly the same: "
                f"the same numbers, {share:.0%} of the words"
            )
    return found


def _same(dev: Sequence[Problem], heldout: Sequence[Problem], what: str) -> Iterator[str]:
    def of(problem: Problem) -> str:
        return problem.problem_id if what == "id" else normalised(problem.prompt)

    first: dict[str, str] = {}
    for problem in dev:
        first.setdefault(of(problem), problem.problem_id)
    for problem in heldout:
        if of(problem) in first:
            yield f"dev {first[of(problem)]!r} and held-out {problem.problem_id!r} have the same {what}"


def _near(dev: Sequence[Problem], heldout: Sequence[Problem]) -> Iterator[tuple[Problem, Problem, float]]:
    by_numbers: dict[tuple[str, ...], list[tuple[Problem, set[tuple[str, ...]]]]] = defaultdict(list)
    for problem, words in zip(dev, without_template([p.prompt for p in dev]), strict=True):
        by_numbers[_numbers(words)].append((problem, _runs(words)))
    for problem, words in zip(heldout, without_template([p.prompt for p in heldout]), strict=True):
        runs = _runs(words)
        for other, others in by_numbers.get(_numbers(words), ()):
            share = len(runs & others) / min(len(runs), len(others)) if runs and others else 0.0
            if share >= NEAR:
                yield other, problem, share


def without_template(prompts: Sequence[str]) -> list[list[str]]:
    """Return the normalised words of each prompt, without those that all of them begin or end with."""
    texts = [normalised(prompt).split() for prompt in prompts]
    if len(texts) < 2:
        return texts
    shortest = min(map(len, texts))
    head = next((i for i in range(shortest) if len({text[i] for text in texts}) > 1), shortest)
    room = shortest - head
    tail = next((i for i in range(room) if len({text[-1 - i] for text in texts}) > 1), room)
    return [text[head : len(text) - tail] for text in texts]


def _runs(words: Sequence[str]) -> set[tuple[str, ...]]:
    size = min(_RUN, len(words))
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)} if size else set()


def _numbers(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in words if _NUMBER.match(word))


def _tokens(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = re.sub(r"(?<=\d)(?:,|\\,|\{,\})(?=\d{3}\b)", "", plain)
    return _TOKENS.findall(_LAYOUT.sub(" ", plain))
