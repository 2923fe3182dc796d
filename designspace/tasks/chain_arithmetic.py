"""Generate `chain-arithmetic`: short prompts whose worked solution keeps needing what was said long before.

A prompt lists labelled rules over named variables (arithmetic modulo 10), the starting values, a mode, the number of
steps and a question. The solution applies one rule per line, counting the steps down:

    s11 thus B: c= a a4 +3 c7

Every (name, value) pair has a binding token of its own (`c7`), written when a variable is used and when it is set, so a
look-up is one hop of attention. Everything in a solution is a deterministic function of what stands before it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from designspace.tasks.generated_splits import BOS, EOS, PAD, SPLIT_BUCKETS, UNK, bucket_of, problems_of, seed_of

VERSION: Final = 1
Kind = Literal["loop", "recall", "blocks"]
KINDS: Final[tuple[Kind, ...]] = ("loop", "recall", "blocks")
MIN_STEPS: Final = 22
MAX_STEPS: Final = 24
MAX_TOKENS: Final = 285
BLOCK_STEPS: Final = 4
REMINDER_STEPS: Final[dict[int, int]] = {20: 2, 15: 3, 10: 4, 5: 6, 1: 2}

_LABELS: Final = "ABCD"
_NAMES: Final = "abcd"
_OPERATIONS: Final = (*(f"+{k}" for k in range(1, 10)), "*3", "*7", "*9")
_PREAMBLE: Final = ("solve", "modulo", "ten", ":")
_CONNECTIVES: Final[dict[int, tuple[str, ...]]] = {0: (), 1: ("so",), 2: (), 3: ("thus",)}
_WORDS: Final = (
    *_PREAMBLE,
    *[
        ";",
        "given",
        "run",
        "ask",
        "last",
        "=>",
        "so",
        "thus",
        "check",
        "ok",
        "keep",
        "recall",
        "answer",
        "loop",
        "blocks",
    ],
)


@dataclass(frozen=True)
class ChainProblem:
    """One problem: prompt, gold answer, kind, and the solution a perfect model writes (ending in `<eos>`)."""

    problem_id: str
    prompt: str
    answer: str
    kind: str
    solution: str


class Rule(NamedTuple):
    """`A: c= b +3`: set `target` to `source` with `operation` applied, modulo 10."""

    label: str
    target: str
    source: str
    operation: str


class Question(NamedTuple):
    """Everything a prompt says, in the order of the labels; `shown` is the order the rules are printed in."""

    kind: Kind
    rules: tuple[Rule, ...]
    shown: tuple[int, ...]
    start: tuple[tuple[str, int], ...]
    n_steps: int
    asked_step: int


class Work(NamedTuple):
    """The worked solution of a question, and how often each rule was used."""

    tokens: tuple[str, ...]
    answer: int
    uses: tuple[int, ...]


def vocabulary() -> list[str]:
    """Return every token of the language; the position in the list is the token id."""
    digits = range(10)
    return [
        *(PAD, UNK, BOS, EOS),
        *(f"{label}:" for label in _LABELS),
        *(f"{name}=" for name in _NAMES),
        *_NAMES,
        *_OPERATIONS,
        *_WORDS,
        *(f"{name}{digit}" for name in f"{_NAMES}r" for digit in digits),
        *(_step(step) for step in range(1, MAX_STEPS + 1)),
        *(f"\\boxed{{{digit}}}" for digit in digits),
    ]


def chain_arithmetic(split: str, count: int, *, start: int = 0) -> list[ChainProblem]:
    """Return problems `start … start + count - 1` of a split, kinds in rotation.

    Raises:
        DeclarationError: no such split, or a negative count or start.
    """
    return problems_of("chain-arithmetic", chain_problem, split, count, start)


def chain_problem(split: str, index: int, *, min_steps: int = MIN_STEPS, max_steps: int = MAX_STEPS) -> ChainProblem:
    """Return one problem of a split; training asks for fewer steps than the shipped difficulty has.

    Questions are redrawn until their content hash lies in a bucket of the split, so splits cannot share a question.
    """
    kind = KINDS[index % len(KINDS)]
    rng = random.Random(_seed(split, index))
    while True:
        question = _draw_question(rng, kind, rng.randint(min_steps, max_steps))
        if bucket(question) not in SPLIT_BUCKETS[split]:
            continue
        prompt, work = prompt_tokens(question), solve(question)
        if _is_worthwhile(question, work) and len(prompt) + len(work.tokens) <= MAX_TOKENS:
            return ChainProblem(
                problem_id=f"chain-{split}-{index:05d}",
                prompt=" ".join(prompt),
                answer=str(work.answer),
                kind=kind,
                solution=" ".join(work.tokens),
            )


def bucket(question: Question) -> int:
    """Return the bucket of a question: a hash of its content that ignores the order the rules are printed in."""
    content = repr((*question.rules, question.kind, question.start, question.n_steps, question.asked_step))
    return bucket_of(content)


def prompt_tokens(question: Question) -> tuple[str, ...]:
    """Return the prompt, `<bos>` included."""
    tokens = [BOS, *_PREAMBLE]
    for rule_idx in question.shown:
        rule = question.rules[rule_idx]
        tokens += [f"{rule.label}:", f"{rule.target}=", rule.source, rule.operation, ";"]
    tokens += ["given", *(f"{name}{value}" for name, value in question.start), _mode(question.kind)]
    asked = _step(question.asked_step) if question.kind == "recall" else "last"
    return (*tokens, "run", _step(question.n_steps), "ask", asked, "=>")


def solve(question: Question) -> Work:
    """Work a question out, one line per step, counted down to `s01`."""
    values = dict(question.start)
    uses = [0] * len(question.rules)
    tokens: list[str] = []
    kept: int | None = None
    rule_idx, value, rule = 0, 0, question.rules[0]
    for step in range(question.n_steps, 0, -1):
        rule = question.rules[rule_idx]
        value = apply(rule.operation, values[rule.source])
        tokens += _line(step, rule, values[rule.source], value)
        values[rule.target] = value
        uses[rule_idx] += 1
        if question.kind == "recall":
            kept, note = _note(step, question.asked_step, value, kept)
            tokens += note
        rule_idx = _next_rule(question, rule_idx, step, value)
    answer = value if kept is None else kept
    holder = rule.target if kept is None else "r"
    tokens += ["answer", f"{holder}{answer}", f"\\boxed{{{answer}}}", EOS]
    return Work(tuple(tokens), answer, tuple(uses))


def apply(operation: str, value: int) -> int:
    """Apply `+k` or `*k` modulo 10."""
    k = int(operation[1:])
    return (value + k if operation[0] == "+" else value * k) % 10


def _line(step: int, rule: Rule, source_value: int, value: int) -> list[str]:
    binding = f"{rule.target}{value}"
    line = [_step(step), *_CONNECTIVES[step % 4], f"{rule.label}:", f"{rule.target}=", rule.source]
    line += [f"{rule.source}{source_value}", rule.operation, binding]
    return [*line, "check", binding, "ok"] if value % 5 == 0 else line


def _note(step: int, asked_step: int, value: int, kept: int | None) -> tuple[int | None, list[str]]:
    """Keep the value of the asked step, and say it again at intervals that depend on the step."""
    if step == asked_step:
        return value, ["keep", f"r{value}"]
    if kept is not None and step % REMINDER_STEPS[asked_step] == 0:
        return kept, ["recall", f"r{kept}"]
    return kept, []


def _next_rule(question: Question, rule_idx: int, step: int, value: int) -> int:
    """Return the next rule: in `blocks` four steps per rule; otherwise round the ring, large values skipping one."""
    moves = int(step % BLOCK_STEPS == 1) if question.kind == "blocks" else 1 + int(value >= 6 and step % 2 == 0)
    return (rule_idx + moves) % len(question.rules)


def _draw_question(rng: random.Random, kind: Kind, n_steps: int) -> Question:
    n_rules = rng.choice({"loop": (2, 3), "recall": (2,), "blocks": (2, 3, 4)}[kind])
    names = _NAMES[:n_rules]
    targets = rng.sample(names, n_rules)
    rules = tuple(
        Rule(label, target, _source(rng, kind, targets, rule_idx), rng.choice(_OPERATIONS))
        for rule_idx, (label, target) in enumerate(zip(_LABELS, targets, strict=False))
    )
    asked_step = rng.choice(range(5, n_steps + 1, 5) or (1,)) if kind == "recall" else 1
    return Question(
        kind=kind,
        rules=rules,
        shown=tuple(rng.sample(range(n_rules), n_rules)),
        start=tuple((name, rng.randrange(10)) for name in names),
        n_steps=n_steps,
        asked_step=asked_step,
    )


def _source(rng: random.Random, kind: Kind, targets: Sequence[str], rule_idx: int) -> str:
    """Return the variable a rule reads: in `blocks` what the block before has set, otherwise any."""
    return targets[rule_idx - 1] if kind == "blocks" else rng.choice(sorted(targets))


def _is_worthwhile(question: Question, work: Work) -> bool:
    """Say whether a looping question consults every rule again and again."""
    return question.kind == "blocks" or question.n_steps < 12 or min(work.uses) >= 3


def _mode(kind: Kind) -> str:
    return "blocks" if kind == "blocks" else "loop"


def _step(step: int) -> str:
    return f"s{step:02d}"


def _seed(split: str, index: int) -> int:
    return seed_of(f"chain-arithmetic:{VERSION}:{split}:{index}")
