"""Word extraction: which words of a list, or of a coded text, are the most frequent?"""

from __future__ import annotations

import random
import string
from collections.abc import Mapping
from typing import Final

from designspace.tasks.generated_splits import SPLIT_BUCKETS, bucket_of, seed_of
from designspace.tasks.grading.contains_grader import gold_of
from designspace.tasks.parameters import Parameter, Value, WholeNumber
from designspace.tasks.problem import Problem
from designspace.tasks.ruler.made_up_text import coined_word, distinct, letters, n_words

VERSION: Final = 1
COMMON_PARAMETERS: Mapping[str, Parameter] = {
    "words": WholeNumber(1000, 160, 200_000),
    "common": WholeNumber(10, 1, 32),
    "examples": WholeNumber(1, 0, 4),
}
FREQUENT_PARAMETERS: Mapping[str, Parameter] = {"words": WholeNumber(1000, 250, 200_000)}
_LONG: Final = 3000  # words, about 4,096 tokens; from there on, RULER repeats words more often
_COMMON_HEAD: Final = (
    "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that appear most "
    "often.\n"
)
_COMMON_QUESTION: Final = "\nQuestion: What are the {n} most common words in the above list?"
_COMMON_PREFIX: Final = " Answer: The top {n} words that appear most often in the list are:"
_FREQUENT_HEAD: Final = (
    "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared coded "
    "words. "
)
_FREQUENT_QUESTION: Final = (
    "\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the three most frequently appeared "
    "words in the above coded text?"
)
_FREQUENT_PREFIX: Final = " Answer: According to the coded text above, the three most frequently appeared words are:"
_N_ASKED: Final = 3
_DOTS: Final = "..."  # the most frequent of all, to be ignored
_N_CODED_LETTERS: Final = 6
_ALPHA: Final = 2.0  # the word of rank k appears in proportion to k to the power of -alpha


def common_conflict(parameters: Mapping[str, Value]) -> str | None:
    """Return why values of the parameters do not go together."""
    words, n_common, examples = (int(parameters[name]) for name in ("words", "common", "examples"))
    often, seldom = _repeats(words)
    small_often, small_seldom = _example_repeats(words)
    example = n_words(_frame(n_common, "")) + 2 * n_common + 2 * n_common * (small_often + small_seldom)
    needed = n_words(_frame(n_common, "")) + examples * example + 2 * n_common * (often + seldom)
    if words >= needed:
        return None
    return f"{n_common} common words with {examples} examples need at least words={needed}, got words={words}"


def common_problem(task: str, split: str, index: int, parameters: Mapping[str, Value]) -> Problem:
    """Return a numbered list, to be asked for its most common words; splits share no such words."""
    rng = random.Random(seed_of(f"{task}:{VERSION}:{split}:{index}"))
    n_words_asked, n_common = int(parameters["words"]), int(parameters["common"])
    common = distinct(coined_word, n_common, rng)
    while bucket_of(repr(common)) not in SPLIT_BUCKETS[split]:
        common = distinct(coined_word, n_common, rng)
    examples = ""
    for _ in range(int(parameters["examples"])):
        shown = distinct(coined_word, n_common, rng)
        others = distinct(coined_word, n_common, rng, but=shown)
        repeats = _example_repeats(n_words_asked)
        examples += f"{_frame(n_common, _list_of(shown, others, repeats, rng))} {_numbered(shown)}\n"
    often, seldom = _repeats(n_words_asked)
    entries = (n_words_asked - n_words(examples) - n_words(_frame(n_common, ""))) // 2
    others = distinct(coined_word, (entries - often * n_common) // seldom, rng, but=common)
    prompt = examples + _frame(n_common, _list_of(common, others, (often, seldom), rng))
    return Problem(f"{task}-{split}-{index:05d}", prompt, gold_of(common), "", f" {_numbered(common)}")


def frequent_problem(task: str, split: str, index: int, parameters: Mapping[str, Value]) -> Problem:
    """Return a coded text whose words follow Zipf's law, to be asked for the most frequent; splits share no such words."""
    rng = random.Random(seed_of(f"{task}:{VERSION}:{split}:{index}"))
    room = int(parameters["words"]) - n_words(_FREQUENT_HEAD + _FREQUENT_QUESTION + _FREQUENT_PREFIX)
    n_different = max(room // 50, 10)

    def drawn() -> list[str]:
        return distinct(lambda r: letters(r, _N_CODED_LETTERS, string.ascii_lowercase), n_different, rng)

    vocabulary = drawn()
    while bucket_of(repr(vocabulary[:_N_ASKED])) not in SPLIT_BUCKETS[split]:
        vocabulary = drawn()
    ranked = [_DOTS, *vocabulary]
    text = [word for word, count in zip(ranked, _counts(len(ranked), room), strict=True) for _ in range(count)]
    rng.shuffle(text)
    prompt = f"{_FREQUENT_HEAD}{' '.join(text)}{_FREQUENT_QUESTION}{_FREQUENT_PREFIX}"
    asked = ranked[1 : 1 + _N_ASKED]
    return Problem(f"{task}-{split}-{index:05d}", prompt, gold_of(asked), "", f" {', '.join(asked)}")


def _counts(n_different: int, most: int) -> list[int]:
    """Return how often the words of each rank appear, `most` times in all or a little less."""
    shares = [rank**-_ALPHA / _zeta(_ALPHA) for rank in range(1, n_different + 1)]
    low, high = most, 2 * most  # what is cut off each count leaves room for more
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sum(int(middle * share) for share in shares) <= most else (low, middle)
    return [int(low * share) for share in shares]


def _repeats(words: int) -> tuple[int, int]:
    return (30, 3) if words >= _LONG else (6, 1)


def _example_repeats(words: int) -> tuple[int, int]:
    return (10, 3) if words >= _LONG else (3, 1)


def _frame(n_common: int, listed: str) -> str:
    return f"{_COMMON_HEAD}{listed}{_COMMON_QUESTION.format(n=n_common)}{_COMMON_PREFIX.format(n=n_common)}"


def _list_of(common: list[str], others: list[str], repeats: tuple[int, int], rng: random.Random) -> str:
    entries = common * repeats[0] + others * repeats[1]
    rng.shuffle(entries)
    return _numbered(entries)


def _numbered(entries: list[str]) -> str:
    return " ".join(f"{place}. {word}" for place, word in enumerate(entries, start=1))


def _zeta(alpha: float, n_exact: int = 50) -> float:
    """Return Riemann's zeta function: the first terms, and the rest by the formula of Euler and Maclaurin."""
    head = sum(k**-alpha for k in range(1, n_exact))
    tail = n_exact ** (1 - alpha) / (alpha - 1) + n_exact**-alpha / 2 + alpha * n_exact ** (-alpha - 1) / 12
    return head + tail
