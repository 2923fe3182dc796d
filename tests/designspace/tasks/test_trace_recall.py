"""The trace-recall generator: determinism, disjoint splits, answers that follow, facts that arise once and are asked late."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from designspace.errors import DeclarationError
from designspace.tasks.generated_splits import SPLIT_BUCKETS
from designspace.tasks.trace_recall import (
    FIRST_NOTE_STEP,
    KINDS,
    MAX_HOPS,
    MAX_TOKENS,
    MIN_STEPS,
    N_HOPS,
    TraceProblem,
    trace_problem,
    trace_recall,
    vocabulary,
)

SPLITS = tuple(SPLIT_BUCKETS)
PROMPT = re.compile(
    r"<bos> given a-table : ((?:t\d\d )+); and start values : ((?:[a-f]\d )+); "
    r"now run s(\d\d) to s(\d\d) follow (\w+) x(\d+) =>"
)
LINE = re.compile(r"s(\d\d)(?: then| now take| next)? ([a-f]) holds [a-f](\d) \+(\d) so [a-f](\d)(?: keep m(\d)(\d))?")


def interpret(prompt: str) -> str:
    """Follow a prompt without the generator: the answer."""
    found = PROMPT.fullmatch(prompt)
    assert found is not None
    facts = {int(entry[1]): int(entry[2]) for entry in found[1].split()}
    values = {entry[0]: int(entry[1]) for entry in found[2].split()}
    names, at, value = sorted(values), 0, 0
    if found[5] == "notes":
        facts = {}
    for step in range(int(found[3]), int(found[4]) - 1, -1):
        value = (values[names[at]] + 7 * step + 3) % 10
        values[names[at]] = value
        if found[5] == "notes" and 12 <= step <= 21:
            facts[21 - step] = value
        at = (at + (2 if value > 8 else 1)) % 6
    if found[5] != "carry":
        for _ in range(int(found[6])):
            value = facts[value]
    return str(value)


def solution_of(problem: TraceProblem) -> list[tuple[str, ...]]:
    """The lines of a solution, taken apart."""
    return LINE.findall(problem.solution)


def test_the_same_arguments_give_the_same_problems() -> None:
    """Problems depend on split and index only, and `start` picks up where a shorter call ended."""
    assert trace_recall("dev", 30) == trace_recall("dev", 30)
    assert trace_recall("dev", 20)[12:] == trace_recall("dev", 8, start=12)
    assert ["trace-dev-00017"] == [p.problem_id for p in trace_recall("dev", 1, start=17)]


def test_splits_share_no_question() -> None:
    """No question occurs in two splits."""
    seen = [{p.prompt for p in trace_recall(split, 600)} for split in SPLITS]
    assert sum(map(len, seen)) == len(set().union(*seen))


@pytest.mark.parametrize("split", SPLITS)
def test_the_answer_follows_from_the_prompt(split: str) -> None:
    """Prompt, answer and boxed answer agree with an independent interpreter."""
    for problem in trace_recall(split, 300):
        assert interpret(problem.prompt) == problem.answer
        assert problem.solution.endswith(f" answer i{problem.answer} \\boxed{{{problem.answer}}} <eos>")


def test_a_value_is_read_once_and_then_replaced() -> None:
    """Every line reads what the last line of its variable has set, or the prompt, and nothing older."""
    for problem in trace_recall("dev", 60):
        found = PROMPT.fullmatch(problem.prompt)
        assert found is not None
        current = {entry[0]: entry[1] for entry in found[2].split()}
        lines = solution_of(problem)
        assert len(lines) >= MIN_STEPS
        for _, name, before, _, after, _, _ in lines:
            assert current[name] == before
            current[name] = after


def test_notes_are_taken_once_early_and_read_late() -> None:
    """Ten notes, each written once, at least eight lines before the first look-up; no other kind takes any."""
    for problem in trace_recall("dev", 90):
        notes = [(number, step) for step, *_, number, _ in solution_of(problem) if number]
        assert (10 if problem.kind == "notes" else 0) == len(set(notes))
        assert [(str(FIRST_NOTE_STEP - int(step)), step) for _, step in notes] == notes
        n_looks = problem.solution.split().count("look")
        assert (0 if problem.kind == "carry" else N_HOPS) == n_looks
        if problem.kind == "notes":
            words = problem.solution.split()
            lags = [words.index("look") - i for i, word in enumerate(words) if word == "keep"]
            assert min(lags) >= 40


def test_a_table_is_one_cycle() -> None:
    """Four look-ups are four different ones."""
    for problem in trace_recall("dev", 60):
        table = dict(re.findall(r" t(\d)(\d)", problem.prompt))
        at, seen = "0", []
        for _ in range(10):
            at = table[at]
            seen.append(at)
        assert 10 == len(set(seen))


def test_texts_are_longer_than_several_budgets_and_fit() -> None:
    """A text is two and a half to four times the smaller budget of the shipped sweeps."""
    lengths = [len(p.prompt.split()) + len(p.solution.split()) for p in trace_recall("dev", 600)]
    assert 2.5 * 80 < min(lengths) < max(lengths) <= MAX_TOKENS


def test_every_token_is_in_the_vocabulary() -> None:
    """Every word has a token of its own, and no two ids share a word."""
    words = vocabulary()
    used = {word for p in trace_recall("dev", 600) for word in f"{p.prompt} {p.solution}".split()}
    assert len(words) == len(set(words))
    assert set() == used - set(words)


def test_kinds_rotate_and_answers_are_spread() -> None:
    """All kinds are there in equal numbers; guessing the commonest digit stays below one in five."""
    problems = trace_recall("confirm", 600)
    assert [*KINDS, *KINDS] == [p.kind for p in problems[:8]]
    assert max(Counter(p.answer for p in problems).values()) < 0.2 * len(problems)


@pytest.mark.parametrize("n_steps", [1, 3, 9, 10, 15, 22])
def test_training_asks_for_fewer_lines_and_more_look_ups(n_steps: int) -> None:
    """As few as asked for, but for the kind that takes ten notes."""
    for index in range(30):
        problem = trace_problem("train", index, min_steps=n_steps, max_steps=n_steps, max_hops=MAX_HOPS)
        assert (max(n_steps, 10) if problem.kind == "notes" else n_steps) == len(solution_of(problem))
        assert interpret(problem.prompt) == problem.answer


def test_an_unknown_split_and_a_negative_count_are_refused() -> None:
    """The error names the splits there are."""
    with pytest.raises(DeclarationError, match="splits train, dev, confirm, calibration, got split='test'"):
        trace_recall("test", 1)
    with pytest.raises(DeclarationError, match="count=-1"):
        trace_recall("dev", -1)
