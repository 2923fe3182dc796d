"""The chain-arithmetic generator: determinism, disjoint splits, bounded prompts, answers that follow from the rules."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

import pytest

from designspace.errors import DeclarationError
from designspace.tasks.chain_arithmetic import (
    BLOCK_STEPS,
    KINDS,
    MAX_TOKENS,
    ChainProblem,
    chain_arithmetic,
    vocabulary,
)
from designspace.tasks.generated_splits import SPLIT_BUCKETS

SPLITS = tuple(SPLIT_BUCKETS)
SMALLEST_BUDGET = 48
ARITHMETIC: dict[str, Callable[[int, int], int]] = {"+": operator.add, "*": operator.mul}
RULE = re.compile(r"([A-D]): ([a-d])= ([a-d]) ([+*])(\d) ;")
START = re.compile(r"given ((?:[a-d]\d )+)(loop|blocks) run s(\d\d) ask (last|s\d\d) =>")


def interpret(prompt: str) -> int:
    """Follow a prompt's rules without the generator: the value the question asks for."""
    rules = {label: rest for label, *rest in RULE.findall(prompt)}
    found = START.search(prompt)
    assert found is not None
    values = {binding[0]: int(binding[1]) for binding in found[1].split()}
    mode, n_steps, asked = found[2], int(found[3]), found[4]
    asked_step = 1 if asked == "last" else int(asked[1:])
    labels, at = sorted(rules), 0
    for step in range(n_steps, 0, -1):
        target, source, sign, amount = rules[labels[at]]
        result = ARITHMETIC[sign](values[source], int(amount)) % 10
        values[target] = result
        if step == asked_step:
            return result
        if mode == "blocks":
            at += step % BLOCK_STEPS == 1
        else:
            at += 2 if result >= 6 and step % 2 == 0 else 1
        at %= len(labels)
    raise AssertionError(f"step {asked_step} was never reached")


def content(problem: ChainProblem) -> tuple[str, ...]:
    """A problem's prompt with its rules sorted, so that the order they are printed in does not count."""
    head, tail = problem.prompt.split(" given ")
    return (*sorted(head.split(" : ")[1].split(" ; ")), tail)


def test_the_same_arguments_give_the_same_problems() -> None:
    """Problems depend on split and index only."""
    assert chain_arithmetic("dev", 30) == chain_arithmetic("dev", 30)


def test_start_continues_the_sequence() -> None:
    """`start` picks up where a shorter call ended."""
    assert chain_arithmetic("dev", 20)[12:] == chain_arithmetic("dev", 8, start=12)


def test_ids_name_split_and_index() -> None:
    """An id says which problem it is."""
    assert ["chain-dev-00017"] == [p.problem_id for p in chain_arithmetic("dev", 1, start=17)]


def test_splits_share_no_question() -> None:
    """No question occurs in two splits, whatever the order its rules are printed in."""
    seen = [{content(p) for p in chain_arithmetic(split, 600)} for split in SPLITS]
    assert sum(map(len, seen)) == len(set().union(*seen))


@pytest.mark.parametrize("split", SPLITS)
def test_the_answer_follows_from_the_prompt(split: str) -> None:
    """Prompt, answer and boxed answer agree with an independent interpreter."""
    for problem in chain_arithmetic(split, 300):
        assert str(interpret(problem.prompt)) == problem.answer
        assert problem.solution.endswith(f" \\boxed{{{problem.answer}}} <eos>")


def test_prompts_are_shorter_than_the_smallest_budget() -> None:
    """A prompt never needs an eviction of its own, the solution is several budgets long."""
    for problem in chain_arithmetic("dev", 600):
        n_prompt, n_solution = len(problem.prompt.split()), len(problem.solution.split())
        assert n_prompt <= SMALLEST_BUDGET - 2
        assert 3 * SMALLEST_BUDGET < n_prompt + n_solution <= MAX_TOKENS


def test_every_token_is_in_the_vocabulary() -> None:
    """Every word has a token of its own, and no two ids share a word."""
    words = vocabulary()
    used = {word for p in chain_arithmetic("dev", 600) for word in f"{p.prompt} {p.solution}".split()}
    assert len(words) == len(set(words))
    assert set() == used - set(words)


def test_kinds_rotate() -> None:
    """All kinds are there in equal numbers."""
    assert [*KINDS, *KINDS] == [p.kind for p in chain_arithmetic("confirm", 6)]


def test_answers_are_spread_over_all_digits() -> None:
    """Guessing the commonest digit stays below one in five."""
    answers = [p.answer for p in chain_arithmetic("dev", 600)]
    assert max(answers.count(digit) for digit in set(answers)) < 0.2 * len(answers)


def test_an_unknown_split_is_refused() -> None:
    """The error names the splits there are."""
    with pytest.raises(DeclarationError, match="splits train, dev, confirm, calibration, got split='test'"):
        chain_arithmetic("test", 1)


def test_a_negative_count_is_refused() -> None:
    """Counts and starts begin at zero."""
    with pytest.raises(DeclarationError, match="count=-1"):
        chain_arithmetic("dev", -1)
