"""Needles in a haystack: sentences that give a key a value, and a question for the values of some keys.

Problem `i` of a split asks for the same keys and values at every length: they are drawn first, the haystack after them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from designspace.tasks.generated_splits import SPLIT_BUCKETS, bucket_of, seed_of
from designspace.tasks.grading.contains_grader import gold_of
from designspace.tasks.parameters import OneOf, Parameter, Value, WholeNumber
from designspace.tasks.problem import Problem
from designspace.tasks.ruler import made_up_text
from designspace.tasks.ruler.made_up_text import NOISE, Draw, distinct, n_words, prose_sentence

VERSION: Final = 1
_DRAWS: Mapping[Value, Draw] = {
    "numbers": made_up_text.number,
    "words": made_up_text.name,
    "uuids": made_up_text.uuid,
}
_MOST_WORDS: Final = 1_000_000
_N_DEPTHS: Final = 5

_HEAD: Final = (
    "{some} special magic {what} {are} hidden within the following text. Make sure to memorize it. I will quiz you about the "
    "{what} afterwards."
)
_NEEDLE: Final = "One of the special magic {whats} for {key} is: {value}."
_QUESTION: Final = "What {are_all} the special magic {what} for {query} mentioned in the provided text?"
_PREFIX: Final = "The special magic {what} for {query} mentioned in the provided text {are}"


def needle_parameters(haystack: str, *, keys: int = 1, values: int = 1, queries: int = 1) -> dict[str, Parameter]:
    """Return the parameters of a task of needles, with its defaults."""
    straws = ("noise", "text", "needles")
    return {
        "words": WholeNumber(1000, 60, _MOST_WORDS),
        "haystack": OneOf((haystack, *(straw for straw in straws if straw != haystack))),
        "key": OneOf(("words", "numbers", "uuids")),
        "value": OneOf(("numbers", "words", "uuids")),
        "keys": WholeNumber(keys, 1, 64),
        "values": WholeNumber(values, 1, 64),
        "queries": WholeNumber(queries, 1, 64),
    }


def needle_conflict(parameters: Mapping[str, Value]) -> str | None:
    """Return why values of the parameters do not go together."""
    words, keys, values, queries = (int(parameters[name]) for name in ("words", "keys", "values", "queries"))
    # The frame with its question and answer prefix, eleven words a needle, and a name for each key that is asked for.
    needed = 50 + 2 * queries + 11 * max(keys, queries) * values
    if words >= needed:
        return None
    return f"{max(keys, queries)} keys with {values} values each need at least words={needed}, got words={words}"


class _Needles(NamedTuple):
    """What is hidden: values by key, and the keys that are asked for."""

    values: dict[str, list[str]]
    asked: list[str]


def needle_problem(task: str, split: str, index: int, parameters: Mapping[str, Value]) -> Problem:
    """Return one problem; needles are redrawn until their hash lies in a bucket of the split, so splits share none."""
    rng = random.Random(seed_of(f"{task}:{VERSION}:{split}:{index}"))
    needles = _draw_needles(rng, parameters)
    while bucket_of(repr(tuple(needles))) not in SPLIT_BUCKETS[split]:
        needles = _draw_needles(rng, parameters)
    prompt, depth = _prompt(needles, parameters, rng)
    answers = [value for key in needles.asked for value in needles.values[key]]
    kind = "" if len(answers) > 1 else f"depth {100 * depth // _N_DEPTHS}-{100 * (depth + 1) // _N_DEPTHS} %"
    return Problem(f"{task}-{split}-{index:05d}", prompt, gold_of(answers), kind, f" {_listed(answers)}.")


def _draw_needles(rng: random.Random, parameters: Mapping[str, Value]) -> _Needles:
    n_queries, n_values = int(parameters["queries"]), int(parameters["values"])
    keys = distinct(_DRAWS[parameters["key"]], max(int(parameters["keys"]), n_queries), rng)
    values = distinct(_DRAWS[parameters["value"]], len(keys) * n_values, rng, but=keys)
    by_key = {key: values[i * n_values : (i + 1) * n_values] for i, key in enumerate(keys)}
    return _Needles(by_key, rng.sample(keys, n_queries))


def _prompt(needles: _Needles, parameters: Mapping[str, Value], rng: random.Random) -> tuple[str, int]:
    """Return the whole prompt, and in which fifth of the text the first value that is asked for stands."""
    whats, query = str(parameters["value"]), _listed(needles.asked)
    is_one = len(needles.asked) * int(parameters["values"]) == 1
    words = {"whats": whats, "query": query, "what": whats[:-1] if is_one else whats, "some": "A" if is_one else "Some"}
    words |= {"are": "is" if is_one else "are", "are_all": "is" if is_one else "are all"}
    frame = [_HEAD.format(**words), _QUESTION.format(**words) + " " + _PREFIX.format(**words)]
    hidden = [
        _NEEDLE.format(whats=whats, key=key, value=value) for key, found in needles.values.items() for value in found
    ]
    first = hidden[list(needles.values).index(needles.asked[0]) * int(parameters["values"])]
    rng.shuffle(hidden)
    room = int(parameters["words"]) - sum(map(n_words, (*frame, *hidden)))
    straws = list(_straws(room, whats, needles, parameters, rng))
    # A place for each needle among the straws, in rising order; several may lie side by side.
    places = sorted(rng.randint(0, len(straws)) for _ in hidden)
    for n_before, (place, needle) in enumerate(zip(places, hidden, strict=True)):
        straws.insert(place + n_before, needle)
    separator = " " if parameters["haystack"] == "text" else "\n"
    depth = min(_N_DEPTHS * straws.index(first) // len(straws), _N_DEPTHS - 1)
    return "\n".join((frame[0], separator.join(straws), frame[1])), depth


def _straws(
    room: int, whats: str, needles: _Needles, parameters: Mapping[str, Value], rng: random.Random
) -> Iterator[str]:
    """Yield pieces of the haystack that have `room` words at most, as many as fit."""
    taken = {*needles.values, *(value for found in needles.values.values() for value in found)}
    while True:
        straw = NOISE
        if parameters["haystack"] == "text":
            straw = prose_sentence(rng)
        elif parameters["haystack"] == "needles":
            (key,) = distinct(_DRAWS[parameters["key"]], 1, rng, but=taken)
            (value,) = distinct(_DRAWS[parameters["value"]], 1, rng, but=taken)
            straw = _NEEDLE.format(whats=whats, key=key, value=value)
        room -= n_words(straw)
        if room < 0:
            return
        yield straw


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, and {names[-1]}"
