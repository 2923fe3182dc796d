"""Generate `trace-recall`: worked solutions whose facts arise once in the trace and are asked for long after.

A prompt gives a table, the starting values of six variables, the steps and what to do at the end:

    <bos> given a-table : t04 t17 … t93 ; and start values : a4 b2 … f3 ; now run s24 to s05 follow notes x4 =>

The solution works one variable per line, round a ring, counting the steps down. Every few lines it says again what it is about,
as written-out reasoning does, so that only facts are lost with the prompt:

    s19 then d holds d4 +2 so d6 keep m26 s18 e holds e0 +1 so e1 … s16 … to s05 follow notes x4

Three things make the tokens that are needed later hard to tell from those that are not. The value of a variable is read
once, when the variable's turn comes again, and never after that: what has been attended to is of no more use. A note
(`m26`: note 2 is 6) is written once and read at the end, if at all, by a chain of look-ups (`x3 look i2 finds m26`) whose
next number is known only when the last one is done. Most tokens are filler. Everything in a solution is a
deterministic function of what stands before it, and every fact is one token, so a look-up is one hop of attention.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from designspace.tasks.generated_splits import BOS, EOS, PAD, SPLIT_BUCKETS, UNK, bucket_of, problems_of, seed_of

VERSION: Final = 1
Kind = Literal["carry", "notes", "table"]
KINDS: Final[tuple[Kind, ...]] = ("carry", "notes", "carry", "table")  # in rotation
MIN_STEPS: Final = 18
MAX_STEPS: Final = 22
MAX_TOKENS: Final = 300
N_HOPS: Final = 4
MAX_HOPS: Final = 12
FIRST_STEP: Final = 26
FIRST_NOTE_STEP: Final = 21
REMARK_EVERY: Final = 4
N_NOTES: Final = 10

_NAMES: Final = "abcdef"
_CONNECTIVES: Final[tuple[tuple[str, ...], ...]] = ((), ("then",), ("now", "take"), ("next",))
_WORDS: Final = (
    *("given", "a-table", ":", ";", "and", "start", "values", "now", "run", "to", "then", "follow", "=>"),
    *("carry", "notes", "table", "take", "next", "holds", "so", "keep", "look", "finds", "answer"),
)


@dataclass(frozen=True)
class TraceProblem:
    """One problem: prompt, gold answer, kind, and the solution a perfect model writes (ending in `<eos>`)."""

    problem_id: str
    prompt: str
    answer: str
    kind: str
    solution: str


class Question(NamedTuple):
    """Everything a prompt says: a digit for each of ten numbers, and one for each variable."""

    kind: Kind
    table: tuple[int, ...]
    start: tuple[int, ...]
    first_step: int
    last_step: int
    n_hops: int


def vocabulary() -> list[str]:
    """Return every token of the language; the position in the list is the token id."""
    digits = range(10)
    return [
        *(PAD, UNK, BOS, EOS),
        *_WORDS,
        *_NAMES,
        *(f"+{k}" for k in digits),
        *(f"{name}{digit}" for name in f"{_NAMES}i" for digit in digits),
        *(f"{name}{number}{digit}" for name in "tm" for number in digits for digit in digits),
        *(_step(step) for step in range(1, FIRST_STEP + 1)),
        *(f"x{hop}" for hop in range(1, MAX_HOPS + 1)),
        *(f"\\boxed{{{digit}}}" for digit in digits),
    ]


def trace_recall(split: str, count: int, *, start: int = 0) -> list[TraceProblem]:
    """Return problems `start … start + count - 1` of a split, kinds in rotation.

    Raises:
        DeclarationError: no such split, or a negative count or start.
    """
    return problems_of("trace-recall", trace_problem, split, count, start)


def trace_problem(
    split: str, index: int, *, min_steps: int = MIN_STEPS, max_steps: int = MAX_STEPS, max_hops: int = N_HOPS
) -> TraceProblem:
    """Return one problem of a split; training asks for fewer steps than the shipped difficulty has, and for more look-ups.

    Questions are redrawn until their content hash lies in a bucket of the split, so splits cannot share a question.
    """
    kind = KINDS[index % len(KINDS)]
    rng = random.Random(_seed(split, index))
    while True:
        n_hops = N_HOPS if max_hops == N_HOPS else rng.randint(1, max_hops)
        question = _draw_question(rng, kind, rng.randint(min_steps, max_steps), n_hops)
        if bucket(question) not in SPLIT_BUCKETS[split]:
            continue
        prompt, (solution, answer) = prompt_tokens(question), solve(question)
        if len(prompt) + len(solution) <= MAX_TOKENS + 5 * (max_hops - N_HOPS):
            return TraceProblem(
                problem_id=f"trace-{split}-{index:05d}",
                prompt=" ".join(prompt),
                answer=str(answer),
                kind=kind,
                solution=" ".join(solution),
            )


def bucket(question: Question) -> int:
    """Return the bucket of a question, a hash of its content."""
    return bucket_of(repr(tuple(question)))


def prompt_tokens(question: Question) -> tuple[str, ...]:
    """Return the prompt, `<bos>` included."""
    table = (f"t{number}{digit}" for number, digit in enumerate(question.table))
    values = (f"{name}{digit}" for name, digit in zip(_NAMES, question.start, strict=True))
    head = (BOS, "given", "a-table", ":", *table, ";", "and", "start", "values", ":", *values, ";")
    return (*head, "now", "run", _step(question.first_step), *_goal(question), "=>")


def solve(question: Question) -> tuple[tuple[str, ...], int]:
    """Work a question out, one line per step, counted down; return the tokens and the answer."""
    values, notes = list(question.start), dict[int, int]()
    tokens: list[str] = []
    turn, value = 0, 0
    for step in range(question.first_step, question.last_step - 1, -1):
        before, value = values[turn], (values[turn] + added(step)) % 10
        values[turn] = value
        tokens += _line(step, _NAMES[turn], before, value)
        number = FIRST_NOTE_STEP - step
        if question.kind == "notes" and number in range(N_NOTES):
            notes[number] = value
            tokens += ["keep", f"m{number}{value}"]
        if step % REMARK_EVERY == 0:
            tokens += _goal(question)
        turn = (turn + 1 + int(value == 9)) % len(_NAMES)
    facts, letter = (notes, "m") if question.kind == "notes" else (dict(enumerate(question.table)), "t")
    for hop in range(question.n_hops if question.kind != "carry" else 0, 0, -1):
        tokens += [f"x{hop}", "look", f"i{value}", "finds", f"{letter}{value}{facts[value]}"]
        value = facts[value]
    return (*tokens, "answer", f"i{value}", f"\\boxed{{{value}}}", EOS), value


def added(step: int) -> int:
    """Return what the line of a step adds, modulo 10."""
    return (7 * step + 3) % 10


def _line(step: int, name: str, before: int, value: int) -> list[str]:
    connective = _CONNECTIVES[step % len(_CONNECTIVES)]
    return [_step(step), *connective, name, "holds", f"{name}{before}", f"+{added(step)}", "so", f"{name}{value}"]


def _goal(question: Question) -> tuple[str, ...]:
    return ("to", _step(question.last_step), "follow", question.kind, f"x{question.n_hops}")


def _draw_question(rng: random.Random, kind: Kind, n_steps: int, n_hops: int) -> Question:
    """Draw a question; the table is one cycle through all numbers, so that no two of four look-ups are the same."""
    order = rng.sample(range(10), 10)
    table = dict(zip(order, [*order[1:], order[0]], strict=True))
    start = tuple(rng.randrange(10) for _ in _NAMES)
    if kind == "notes":  # all ten are taken, which only training comes near to leaving no room for
        n_steps = max(n_steps, N_NOTES)
        first_step = rng.randint(max(n_steps, FIRST_NOTE_STEP), min(FIRST_STEP, n_steps + FIRST_NOTE_STEP - N_NOTES))
    else:
        first_step = rng.randint(n_steps, FIRST_STEP)
    return Question(
        kind, tuple(table[number] for number in range(10)), start, first_step, first_step - n_steps + 1, n_hops
    )


def _step(step: int) -> str:
    return f"s{step:02d}"


def _seed(split: str, index: int) -> int:
    return seed_of(f"trace-recall:{VERSION}:{split}:{index}")
