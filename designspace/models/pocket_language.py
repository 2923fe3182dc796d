"""The languages that a pocket model can be trained on: their words, their problems, and what of a text stays informative."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from designspace.tasks import chain_arithmetic, trace_recall
from designspace.tasks.generated_splits import BOS

NEVER: Final = 1 << 20
_CHAIN_FILLER: Final = frozenset({":", ";", "given", "solve", "modulo", "ten"})
_GOAL_TOKENS: Final = 5  # to s02 follow notes x4
_TRACE_FACTS: Final = {"table": "t", "notes": "m", "carry": ""}


class GeneratedProblem(Protocol):
    """What every generator returns."""

    @property
    def prompt(self) -> str:
        """The prompt, which begins with `<bos>`."""

    @property
    def answer(self) -> str:
        """The gold answer."""

    @property
    def kind(self) -> str:
        """The kind of problem."""

    @property
    def solution(self) -> str:
        """What a perfect model writes; it ends in `<eos>`."""


@dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        name: that of the task.
        words: the vocabulary; positions are token ids.
        draw: (split, index, min_steps=, max_steps=) to a problem.
        problems: (split, count) to the problems of the shipped difficulty.
        min_steps, max_steps: the lines that a solution of the shipped difficulty has.
        n_prompt_tokens, n_step_tokens: about how many a prompt and a line have, to size batches.
        ending: the words with which what follows the lines begins.
        expiry: (tokens, length of the prompt) to the index from which each token is no longer informative.
    """

    name: str
    words: tuple[str, ...]
    draw: Callable[..., GeneratedProblem]
    problems: Callable[[str, int], Sequence[Any]]
    min_steps: int
    max_steps: int
    n_prompt_tokens: int
    n_step_tokens: int
    ending: frozenset[str]
    expiry: Callable[[Sequence[str], int], list[int]]


def chain_expiry(tokens: Sequence[str], n_prompt: int) -> list[int]:
    """Return, per token, the index from which it is no longer informative.

    Bindings expire when the same name is bound again, filler and worked lines at once, the rest of the prompt never.
    """
    bound_again: dict[str, int] = {}
    expires = [NEVER] * len(tokens)
    for idx in range(len(tokens) - 1, -1, -1):
        token = tokens[idx]
        if len(token) == 2 and token[0].islower() and token[1].isdigit():
            expires[idx] = bound_again.get(token[0], NEVER)
            bound_again[token[0]] = idx
        elif idx >= n_prompt or token in _CHAIN_FILLER:
            expires[idx] = idx
    return expires


def trace_expiry(tokens: Sequence[str], n_prompt: int) -> list[int]:
    """Return the same for `trace-recall`.

    Values expire when their variable has another, the words that say what to do when they have been said again, the facts
    that the question asks for never; everything else at once.
    """
    facts = _TRACE_FACTS[tokens[n_prompt - 3]]
    bound_again: dict[str, int] = {}
    expires, said_again = list(range(len(tokens))), NEVER
    for idx in range(len(tokens) - 1, -1, -1):
        token = tokens[idx]
        if token == "to":
            expires[idx : idx + _GOAL_TOKENS] = [said_again] * _GOAL_TOKENS
            said_again = idx + _GOAL_TOKENS
        elif len(token) == 2 and token[0] in "abcdef" and token[1].isdigit():
            expires[idx] = bound_again.get(token[0], NEVER)
            bound_again[token[0]] = idx
        elif (len(token) == 3 and token[0] == facts) or token == BOS:
            expires[idx] = NEVER
    return expires


LANGUAGES: Final = {
    "chain-arithmetic": Language(
        name="chain-arithmetic",
        words=tuple(chain_arithmetic.vocabulary()),
        draw=chain_arithmetic.chain_problem,
        problems=chain_arithmetic.chain_arithmetic,
        min_steps=chain_arithmetic.MIN_STEPS,
        max_steps=chain_arithmetic.MAX_STEPS,
        n_prompt_tokens=36,
        n_step_tokens=8,
        ending=frozenset({"answer"}),
        expiry=chain_expiry,
    ),
    "trace-recall": Language(
        name="trace-recall",
        words=tuple(trace_recall.vocabulary()),
        draw=partial(trace_recall.trace_problem, max_hops=trace_recall.MAX_HOPS),
        problems=trace_recall.trace_recall,
        min_steps=trace_recall.MIN_STEPS,
        max_steps=trace_recall.MAX_STEPS,
        n_prompt_tokens=70,
        n_step_tokens=9,
        ending=frozenset({*(f"x{hop}" for hop in range(1, trace_recall.MAX_HOPS + 1)), "answer"}),
        expiry=trace_expiry,
    ),
}


def language_of(words: Collection[str]) -> Language | None:
    """Return the language whose words a tokenizer has, and no others; None if there is none."""
    return next((language for language in LANGUAGES.values() if set(language.words) == set(words)), None)
