r"""Find the final answer in a model's text. Plain string work: nothing here parses mathematics.

Two readings of every text:

* strict: the last balanced ``\boxed{...}`` after the last ``</think>``, nothing else;
* lenient: that box, else a final-answer marker, else the last number or formula.

An unterminated last box is ``unfinished`` and never falls back to an earlier one: a truncated text has no answer, and
permissive reading would reward rambling.
"""

import re
from typing import Literal, NamedTuple

ExtractionStatus = Literal["boxed", "marker", "number", "unfinished", "none"]

N_TAIL_CHARS = 20_000  # markers and numbers are searched here only, so that the cost of a huge text stays bounded
N_BARE_CHARS = 300  # a text longer than this is never taken as a whole for an answer
N_PROSE_WORDS = 3  # this many running words outside formulas make a sentence of it

_BOX = re.compile(r"\\boxed\s*(\{|\Z)")
_SPECIAL_TOKEN = re.compile(r"<\|[^|<>\s]{1,40}\|>.*\Z", re.DOTALL)
_MARKER = re.compile(
    r"(?:final\s+answer|answer|correct\s+(?:option|choice))\**\s*(?:\bis\b|:|=)\**\s*:?(?:\s*(?:the\s+)?final\s+answer\s+is\b:?)?"
    r"|^\s*A:|^\s*\#{4}|\banswer\s+(?=\$|\\\(|\\\[)",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE_END = re.compile(r"\n|(?<=[^\s])[.?](?=\s+[A-Z<]|\s*\Z)|[.?]\s*(?=I hope)")
_MATH_SPAN = re.compile(
    r"(?<!\\)\$\$([^$]+)\$\$|(?<!\\)\$((?:[^$\n\\]|\\.)+)\$|\\\(((?:(?!\\\)).)+)\\\)|\\\[((?:(?!\\\]).)+)\\\]",
    re.DOTALL,
)
_SPAN_LIST_GLUE = re.compile(r"\s*(?:,\s*)?(?:and|or|,)?\s*", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])-\s?)?(?<![A-Za-z_^{.\d])\$?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)?(?:\.[0-9]+|(?<=[0-9]))"
    r"(?:/[0-9]+(?![0-9]*(?:\.[0-9]|\()))?(?:\s*(?:\\?%|percent\b))?",
)
_OPEN_ENDINGS = tuple("+-/^_={(\\&<|")
_PAIRED = (("\\[", "\\]"), ("\\(", "\\)"), ("\\begin{", "\\end{"))
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_OPENING = re.compile(r"(?:it|this|that|so|thus|hence|therefore|we|the|total|result|solution)\b", re.IGNORECASE)
_HEDGE = re.compile(
    r"(?:(?:therefore|thus|hence|then|simply|just|approximately|about|around|exactly|equal\s+to|now),?\s+)+",
    re.IGNORECASE,
)
_VERB = re.compile(r"\b(?:is|are|be|equals?|gives?|gets?|have|has)\s+(?:\$|\\\(|\\\[|-?[0-9])", re.IGNORECASE)
_WORD_BEFORE_NUMBER = re.compile(r"(?<![\\A-Za-z{])([a-z]{4,})(?=\s[^\\{}]*[0-9])")
_FUNCTIONS = frozenset({"sqrt", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan", "floor", "ceil"})
_CONNECTORS = frozenset({"and", "or"})


class Extraction(NamedTuple):
    """The answer read from a text, and how it was found (``answer`` is None for ``unfinished`` and ``none``)."""

    status: ExtractionStatus
    answer: str | None


_UNFINISHED = Extraction("unfinished", None)


def extract_strict(text: str) -> Extraction:
    r"""Read the last ``\boxed{...}`` after the last ``</think>``, matching braces by counting; nothing else counts."""
    return _UNFINISHED if _is_thinking(text) else _last_box(after_thinking(text))


def extract_lenient(text: str) -> Extraction:
    """Read the box if there is one, else what follows the last final-answer marker, else the last number or formula.

    A short text without running words is taken whole, so that a bare answer is its own reading.
    """
    if _is_thinking(text):
        return _UNFINISHED
    visible = after_thinking(text)
    boxed = _last_box(visible)
    if boxed.status == "boxed":
        return boxed
    tail = _SPECIAL_TOKEN.sub("", visible[-N_TAIL_CHARS:])
    if boxed.status == "unfinished":
        # Malformed LaTeX that goes on to state its answer in words; the text before the box stays out of reach.
        marked = _after_marker(tail[max(tail.rfind("\\boxed"), 0) :])
        return boxed if marked is None else Extraction("marker", marked)
    marked = _after_marker(tail)
    if marked is not None:
        return Extraction("marker", marked)
    if any(tail.rfind(opening) > tail.rfind(closing) for opening, closing in _PAIRED):
        return Extraction("none", None)
    if is_bare(tail):
        return Extraction("number", tail.strip())
    last = None if _breaks_off(tail) else last_number_or_formula(tail)
    return Extraction("none", None) if last is None else Extraction("number", last)


def is_bare(text: str) -> bool:
    """Tell whether a text is nothing but an answer: short, one line, no running words outside formulas."""
    stripped = text.strip()
    if not stripped or len(stripped) > N_BARE_CHARS or "\n" in stripped:
        return False
    outside = _MATH_SPAN.sub(
        " ", re.sub(r"\\(?:text|mathrm|textbf|mbox|operatorname|begin|end)\s*\{[^{}]*\}(?:\{[clr|]+\})?", " ", stripped)
    )
    if (_OPENING.match(stripped) and re.search(r"[0-9$\\]", stripped)) or _VERB.search(stripped):
        return False
    if any(word not in _FUNCTIONS for word in _WORD_BEFORE_NUMBER.findall(outside)):
        return False
    words = [word for word in _WORD.findall(outside) if word.lower() not in _CONNECTORS]
    return len(words) < N_PROSE_WORDS and not re.match(r"[A-Za-z ]+:\s*(?:\$|\\[(\[])", stripped)


def last_number_or_formula(text: str) -> str | None:
    """Return whichever ends later: the last delimited formula (joined with its list neighbours) or the last number."""
    spans = list(_MATH_SPAN.finditer(text))
    numbers = list(_NUMBER.finditer(text))
    span_end = spans[-1].end() if spans else -1
    if numbers and numbers[-1].end() > span_end:
        return numbers[-1].group().strip()
    if not spans:
        return None
    start_idx = len(spans) - 1
    while start_idx > 0 and _is_list_glue(text[spans[start_idx - 1].end() : spans[start_idx].start()]):
        start_idx -= 1
    percent = re.match(r"\s*(?:\\?%|percent(?:age)?\b|pct\b)", text[span_end:])
    return text[spans[start_idx].start() : span_end] + (percent.group() if percent else "")


def boxes_only(text: str) -> list[str]:
    """Return the contents of all boxes when a text is nothing but boxes, list glue and delimiters, else nothing."""
    contents, rest, start = [], "", 0
    while box := _BOX.search(text, start):
        content = _balanced(text, box.end())
        if content is None:
            return []
        contents.append(content)
        rest, start = rest + text[start : box.start()] + " ", box.end() + len(content) + 1
    rest = re.sub(r"\\(?:text|quad|qquad)|\\[()\[\],; ]|[{}$.,;]|\b(?:and|or)\b", " ", rest + text[start:])
    return contents if not rest.strip() else []


def _breaks_off(text: str) -> bool:
    """Tell whether a text ends inside a formula: it was cut short, and its last number is not a result."""
    if text.rstrip()[-1:] in _OPEN_ENDINGS:
        return True
    dollars = [match.end() for match in re.finditer(r"(?<!\\)\$", text.replace("$$", "  "))]
    # An odd dollar sign may be a price; it opened a formula only if something that is no price follows.
    return len(dollars) % 2 == 1 and re.search(r"[\\^_{=]", text[dollars[-1] :]) is not None


def _is_thinking(text: str) -> bool:
    """Tell whether a text ends inside its thoughts: it was cut off before it answered."""
    return text.rfind("<think>") > text.rfind("</think>")


def after_thinking(text: str) -> str:
    """Return what follows the last ``</think>``: the whole text where there is none."""
    return text.rpartition("</think>")[2]


def _last_box(text: str) -> Extraction:
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return Extraction("none", None)
    # A box inside the last balanced one belongs to it: walk back to the outermost box that reaches as far.
    content = _balanced(text, boxes[-1].end())
    if content is None:
        return Extraction("unfinished", None)
    inner_end = boxes[-1].end() + len(content)
    for box in reversed(boxes[:-1][-8:]):
        outer = _balanced(text, box.end())
        if outer is None or box.end() + len(outer) <= inner_end:
            break
        content, inner_end = outer, box.end() + len(outer)
    return Extraction("boxed", _undouble(content, text, boxes[-1].start()).strip())


def _balanced(text: str, start: int) -> str | None:
    r"""Return the text from ``start`` (just after an opening brace) to its closing brace; ``\{`` is literal."""
    depth = 1
    for token in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0:
            return text[start : start + token.start()]
    return None


def _undouble(content: str, text: str, box_start: int) -> str:
    r"""Halve the backslashes of an escaped box (``\\boxed{\\frac{1}{2}}``): a literal line break never precedes one."""
    if text[:box_start].endswith("\\"):
        return re.sub(r"\\\\(?=[A-Za-z{}%$!,;])", r"\\", content)
    return content


def _is_list_glue(between: str) -> bool:
    return bool(between.strip()) and _SPAN_LIST_GLUE.fullmatch(between) is not None


def _after_marker(text: str) -> str | None:
    markers = list(_MARKER.finditer(text))
    for marker in reversed(markers):
        rest = text[marker.end() :].lstrip(" \t*:}")
        rest = rest.lstrip() if rest[:1] == "\n" and marker.group().rstrip("* ").endswith(":") else rest
        answer = _stated(rest)
        if answer:
            return answer
    return None


def _stated(rest: str) -> str | None:
    """Read the answer at the start of ``rest``: a formula, or the rest of the sentence."""
    hedge = _HEDGE.match(rest)
    rest = rest[hedge.end() :] if hedge else rest
    span = _MATH_SPAN.match(rest)
    sentence = _SENTENCE_END.split(rest, maxsplit=1)[0].strip(" \t*\"'") if rest else ""
    if span is not None:
        end = span.end()
        while (following := _MATH_SPAN.search(rest, end)) and _is_list_glue(rest[end : following.start()]):
            end = following.end()
        percent = re.match(r"\s*(?:\\?%|percent(?:age)?\b|pct\b)", rest[end:])
        return rest[:end] + (percent.group() if percent else "")
    if not sentence:
        return None
    if is_bare(sentence):
        return sentence
    leading = _NUMBER.match(sentence)
    return leading.group().strip() if leading else (last_number_or_formula(sentence) or sentence)
