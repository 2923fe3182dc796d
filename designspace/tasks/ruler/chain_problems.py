"""Variable tracking: chains of assignments among noise, and a question for all variables that come to have one value."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from designspace.tasks.generated_splits import SPLIT_BUCKETS, bucket_of, seed_of
from designspace.tasks.grading.contains_grader import gold_of
from designspace.tasks.parameters import OneOf, Parameter, Value, WholeNumber
from designspace.tasks.problem import Problem
from designspace.tasks.ruler.made_up_text import NOISE, distinct, letters, n_words, prose_sentence

VERSION: Final = 1
_N_LETTERS: Final = 5
_EXAMPLE_PIECES: Final = 5  # of noise, in a worked example
CHAIN_PARAMETERS: Mapping[str, Parameter] = {
    "words": WholeNumber(1000, 120, 1_000_000),
    "haystack": OneOf(("noise", "text")),
    "chains": WholeNumber(1, 1, 64),
    "hops": WholeNumber(4, 1, 64),
    "examples": WholeNumber(1, 0, 4),
}
_HEAD: Final = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n"
_QUESTION: Final = "\nQuestion: Find all variables that are assigned the value {value} in the text above."
_PREFIX: Final = (
    " Answer: According to the chain(s) of variable assignment in the text above, {n} variables are assigned the value "
    "{value}, they are:"
)
_Chain = tuple[str, list[str]]  # the value, and the variables in the order of assignment


def chain_conflict(parameters: Mapping[str, Value]) -> str | None:
    """Return why values of the parameters do not go together."""
    words, chains, hops, examples = (int(parameters[name]) for name in ("words", "chains", "hops", "examples"))
    frame = 60 + chains * (4 + 5 * hops)
    needed = frame + examples * (frame + hops + _EXAMPLE_PIECES * n_words(NOISE))
    if words >= needed:
        return None
    return f"{chains} chains of {hops} hops with {examples} examples need at least words={needed}, got words={words}"


def chain_problem(task: str, split: str, index: int, parameters: Mapping[str, Value]) -> Problem:
    """Return one problem; chains are redrawn until their hash lies in a bucket of the split, so splits share none."""
    rng = random.Random(seed_of(f"{task}:{VERSION}:{split}:{index}"))
    chains = _draw_chains(rng, parameters)
    while bucket_of(repr(chains)) not in SPLIT_BUCKETS[split]:
        chains = _draw_chains(rng, parameters)
    examples = ""
    for _ in range(int(parameters["examples"])):
        example = _draw_chains(rng, parameters)
        straws = [_straw(parameters, rng) for _ in range(_EXAMPLE_PIECES)]
        examples += f"{_asked(example, straws, parameters, rng)} {' '.join(example[0][1])}\n"
    room = int(parameters["words"]) - n_words(examples + _asked(chains, [], parameters, random.Random(0)))
    pieces: list[str] = []
    while (room := room - n_words(piece := _straw(parameters, rng))) >= 0:
        pieces.append(piece)
    prompt = examples + _asked(chains, pieces, parameters, rng)
    variables = chains[0][1]
    return Problem(f"{task}-{split}-{index:05d}", prompt, gold_of(variables), "", f" {' '.join(variables)}")


def _straw(parameters: Mapping[str, Value], rng: random.Random) -> str:
    return NOISE if parameters["haystack"] == "noise" else prose_sentence(rng)


def _draw_chains(rng: random.Random, parameters: Mapping[str, Value]) -> list[_Chain]:
    n_chains, n_variables = int(parameters["chains"]), int(parameters["hops"]) + 1
    names = distinct(lambda r: letters(r, _N_LETTERS, string.ascii_uppercase), n_chains * n_variables, rng)
    values = distinct(lambda r: str(r.randint(10_000, 99_999)), n_chains, rng)
    return [(value, names[i * n_variables : (i + 1) * n_variables]) for i, value in enumerate(values)]


def _asked(chains: list[_Chain], straws: list[str], parameters: Mapping[str, Value], rng: random.Random) -> str:
    """Return a prompt: the assignments of each chain stand in their order, in places of their own."""
    lines: list[tuple[float, str]] = [(float(place), straw) for place, straw in enumerate(straws)]
    for value, names in chains:
        said = [f"VAR {names[0]} = {value}", *(f"VAR {b} = VAR {a}" for a, b in pairwise(names))]
        # Between two pieces of noise, or before the first, or after the last.
        places = sorted(rng.randint(0, len(straws)) - 0.5 + 0.1 * rng.random() for _ in said)
        lines += zip(places, said, strict=True)
    lines.sort(key=lambda line: line[0])
    value, names = chains[0]
    separator = "\n" if parameters["haystack"] == "noise" else " "
    text = separator.join(line if line.endswith(".") or separator == "\n" else f"{line}." for _, line in lines)
    return f"{_HEAD}{text}{_QUESTION.format(value=value)}{_PREFIX.format(n=len(names), value=value)}"
