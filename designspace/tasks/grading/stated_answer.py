r"""Where a text says in words what it answers: a box, or what follows its last "the answer is" or "Answer:".

For graders whose answers are words or letters; `extraction` reads mathematics.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from designspace.tasks.grading.extraction import after_thinking, extract_strict

N_TAIL_CHARS = 20_000  # markers are searched here only, so that the cost of a huge text stays bounded
N_LINE_CHARS = 300  # an answer in words is no longer than this
_MARKER = re.compile(
    r"(?:final\s+answer|answer|correct\s+(?:option|choice|answer)|(?:option|choice)\s+i\s+choose)"
    r"(?:\s*\*{1,2})?\s*(?::|\bis\b\s*:?)\s*",
    re.IGNORECASE,
)
_TEXT_COMMAND = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it)|mbox)\s*\{([^{}]*)\}")
_EDGES = " \t\n\"'`*_$.,;:!?()[]{}<>"


class Stated(NamedTuple):
    """An answer in words (None: the text states none), and whether its box was cut off."""

    answer: str | None
    unfinished: bool = False


def stated_answer(text: str) -> Stated:
    """Return the content of the last box, else the rest of the line after the last final-answer marker."""
    boxed = extract_strict(text)
    if boxed.status == "unfinished":
        return Stated(None, unfinished=True)
    if boxed.answer:
        return Stated(_TEXT_COMMAND.sub(r"\1", boxed.answer).strip())
    tail = after_thinking(text)[-N_TAIL_CHARS:]
    for marker in reversed(list(_MARKER.finditer(tail))):
        line = tail[marker.end() :].lstrip(" \t\n*_").partition("\n")[0].strip()
        if line:
            return Stated(line[:N_LINE_CHARS])
    return Stated(None)


def last_line(text: str) -> str | None:
    """Return the last line that says anything, None in an empty text."""
    lines = [line.strip() for line in after_thinking(text)[-N_TAIL_CHARS:].splitlines() if line.strip()]
    return lines[-1][:N_LINE_CHARS] if lines else None


def plain_words(text: str, *, case: bool = False) -> str:
    """Return words in one spelling: compatibility characters, spaces and marks at the ends do not count, nor does case."""
    spelt = unicodedata.normalize("NFKC", text)
    return re.sub(r"\s+", " ", spelt if case else spelt.casefold()).strip(_EDGES)
