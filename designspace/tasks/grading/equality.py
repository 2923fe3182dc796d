"""Decide whether an answer equals the gold: strings and exact numbers first, math-verify in the sandbox last.

Nothing of the prediction is ever evaluated in this process; it is matched by regular expressions and turned into
``Fraction`` at most. Conventions where sources differ: a percent sign may be left out or worked in (28 % = 28 = 0.28),
a unit or currency may be left out, ``x = 2`` answers ``2`` and the other way round, options compare by their letter.
"""

import re
from fractions import Fraction
from typing import NamedTuple

from designspace.tasks.grading.intervals_in_words import union_of
from designspace.tasks.grading.normalise import comparison_key, normalise
from designspace.tasks.grading.sandbox import Sandbox, Verdict
from designspace.tasks.grading.screening import refuse

N_NUMBER_DIGITS = 1000
N_RAW_CHARS = 4000
ROUNDING_DECIMALS = 5  # a decimal stands for a non-terminating fraction when it shows at least this many, all right
FLOAT_DECIMALS = 12
FLOAT_NOISE = Fraction(1, 10**10)  # relative; answers read off a floating-point result, never two integers

_DECIMAL = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_PLAIN = re.compile(rf"([-+]?)\s*({_DECIMAL})(?:\s*[eE]([-+]?[0-9]{{1,3}}))?")
_SCIENTIFIC = re.compile(rf"([-+]?)({_DECIMAL})\s*\\(?:times|cdot)\s*10\^\{{?([-+]?[0-9]{{1,3}})\}}?")
_RATIO = re.compile(
    rf"([-+]?)\s*(?:\\frac\{{\s*(-?{_DECIMAL})\s*\}}\{{\s*(-?{_DECIMAL})\s*\}}|({_DECIMAL})\s*/\s*({_DECIMAL}))"
)
_MIXED = re.compile(r"([-+]?)\s*([0-9]+)(?:\s*\\frac\{([0-9]+)\}\{([0-9]+)\}|\s+([0-9]+)/([0-9]+))")
_REPEATING = re.compile(r"([-+]?)([0-9]*)\.([0-9]*)\\overline\s*\{([0-9]+)\}")
_OPTION = re.compile(r"(?:[Oo]ption\s+|[Cc]hoice\s+)?\(?([A-J])\)?[.:]?")
_LABELLED = re.compile(r"(?:\(([A-J])\)|([A-J])[.:)])\s+(?=\S)")
_CLOCK = re.compile(r"([0-9]{1,2}:[0-9]{2})(?:\s*([ap])\.?\s*m\.?)?", re.IGNORECASE)
_NAME = re.compile(
    r"(?:\\angle\s*|\\(?:triangle|overline|mathbf|vec|hat)\s*)?"
    r"(?:[A-Za-z|:\s',()]|\\[a-zA-Z]+|_\{?\w+\}?|\^\{-1\}|\([0-9A-Za-z, ]*\))+"
)
_EQUALS = re.compile(r"(?<![<>!\\])=(?!=)")
_EQUALS_OR_IN = re.compile(rf"{_EQUALS.pattern}|\\in(?![A-Za-z])")
_PAIR_NAME = re.compile(r"\(\s*[a-z](?:\s*,\s*[a-z])+\s*\)")
_WORDS = re.compile(r"[A-Za-z][A-Za-z\s'.,-]*")


class Number(NamedTuple):
    """An exact value, whether a percent sign was written, and the decimals shown (None for a ratio)."""

    value: Fraction
    is_percent: bool
    n_decimals: int | None


def compare(gold: str, answer: str, sandbox: Sandbox) -> Verdict:
    """Compare an extracted answer with an extracted gold; gold comes first because math-verify is not symmetric."""
    if len(answer) > N_RAW_CHARS:
        return Verdict("unequal", "too long")
    g, a = _values(normalise(gold), normalise(answer))
    if not _OPTION.fullmatch(g):
        a = _LABELLED.sub("", a, count=1) if _LABELLED.match(a) else a  # `(C) 12` where the gold is the value
    if not a:
        return Verdict("unequal", "empty")
    if comparison_key(g) == comparison_key(a):
        return Verdict("equal", "same string")
    decided = _by_number(g, a)
    if decided is None:
        decided = _by_text(g, a)
    if decided is not None:
        return Verdict("equal" if decided else "unequal")
    verdict = _by_mathematics(g, a, sandbox)
    for whole in (_as_equations(gold, answer), _as_intervals(gold, answer)):
        if verdict.outcome == "unequal" and whole is not None:
            verdict = _by_mathematics(*whole, sandbox)
    return verdict


def _by_mathematics(gold: str, answer: str, sandbox: Sandbox) -> Verdict:
    reason = refuse(answer) or refuse(gold)
    if reason is not None:
        return Verdict("unequal", f"refused: {reason}")
    return sandbox.compare(gold, answer, _decimals_shown(answer))


def _as_equations(gold: str, answer: str) -> tuple[str, str] | None:
    """Return both sides with their names (`y = 2x + 1` is a line), None unless each is one equation in some variable."""
    both = normalise(gold), normalise(answer)
    is_equation = all(
        len(_sides(side)) == 2 and re.search(r"(?<![\\A-Za-z])[a-zA-Z](?![A-Za-z])", side) for side in both
    )
    return both if is_equation else None


def _as_intervals(gold: str, answer: str) -> tuple[str, str] | None:
    """Return both sides with `x < 1 or x > 2` as a union of intervals, None where neither says anything of that kind."""
    unions = union_of(gold), union_of(answer)
    if unions == (None, None):
        return None
    return unions[0] or normalise(gold), unions[1] or normalise(answer)


def parse_number(normalised: str) -> Number | None:
    """Read an integer, decimal, ratio, mixed or scientific number exactly; None for anything else."""
    s, n_percent = re.subn(r"\s*\\%\Z", "", normalised)
    s = _without_outer_brackets(s)
    if len(s) > N_NUMBER_DIGITS:
        return None
    if match := _PLAIN.fullmatch(s) or _SCIENTIFIC.fullmatch(s):
        sign, digits, exponent = match.groups()
        value = Fraction(digits.rstrip(".")) * Fraction(10) ** int(exponent or 0)
        n_decimals = len(digits.partition(".")[2]) if exponent is None else None
    elif match := _RATIO.fullmatch(s):
        sign, n_decimals = match[1], None
        numerator, denominator = Fraction(match[2] or match[4]), Fraction(match[3] or match[5])
        if denominator == 0:
            return None
        value = numerator / denominator
    elif match := _MIXED.fullmatch(s):
        sign, n_decimals = match[1], None
        numerator, denominator = Fraction(match[3] or match[5]), Fraction(match[4] or match[6])
        if denominator == 0:
            return None
        value = int(match[2]) + numerator / denominator
    elif match := _REPEATING.fullmatch(s):
        sign, n_decimals = match[1], None
        whole, once, again = match[2] or "0", match[3], match[4]
        value = Fraction(int(whole + once + again) - int(whole + once), 10 ** len(once) * (10 ** len(again) - 1))
    else:
        return None
    return Number(-value if sign == "-" else value, bool(n_percent), n_decimals)


def _decimals_shown(answer: str) -> int:
    """Return how many decimals must agree: those the answer shows, within what float arithmetic can hold."""
    shown = max((len(decimals) for decimals in re.findall(r"\.([0-9]+)", answer)), default=0)
    return min(max(shown, ROUNDING_DECIMALS), FLOAT_DECIMALS)


def _by_number(gold: str, answer: str) -> bool | None:
    g, a = parse_number(gold), parse_number(answer)
    if g is None or a is None:
        by_base = _by_base(gold, answer)
        return _is_decimal_comma(gold, answer) if by_base is None else by_base
    if _same_number(g, a):
        return True
    if g.is_percent or a.is_percent:
        scaled = g._replace(value=g.value / 100 if g.is_percent else g.value)
        return _same_number(scaled, a._replace(value=a.value / 100 if a.is_percent else a.value))
    return False


def _same_number(g: Number, a: Number) -> bool:
    if g.value == a.value:
        return True
    if g.value.denominator * a.value.denominator > 1 and abs(g.value - a.value) <= FLOAT_NOISE * abs(g.value):
        return True
    exact, rounded = (g, a) if g.n_decimals is None else (a, g)
    if exact.n_decimals is not None or rounded.n_decimals is None or rounded.n_decimals < ROUNDING_DECIMALS:
        return False
    return round(exact.value, rounded.n_decimals) == rounded.value


def _by_base(gold: str, answer: str) -> bool | None:
    r"""Compare numerals with a base, ``52_8``: the digits must agree, and the base where both state it."""
    g, a = (re.fullmatch(r"([0-9A-F]+)(?:_\{?\s*([0-9]+)\s*\}?)?", s.replace(" ", "")) for s in (gold, answer))
    if g is None or a is None or not (g[2] or a[2]):
        return None
    return g[1] == a[1] and (g[2] is None or a[2] is None or g[2] == a[2])


def _is_decimal_comma(gold: str, answer: str) -> bool | None:
    """Read ``1000,99`` as 1000.99 only where the gold has just these digits; elsewhere the comma makes a list."""
    return (
        True if re.fullmatch(r"-?[0-9]+,[0-9]+", answer) and "." in gold and answer.replace(",", ".") == gold else None
    )


def _by_text(gold: str, answer: str) -> bool | None:
    """Decide options and worded answers; None where either side may be mathematics."""
    if (option := _OPTION.fullmatch(gold)) is not None:
        letter = _OPTION.fullmatch(answer) or _LABELLED.match(answer)
        return True if letter is not None and option[1] in letter.groups() else None
    g, a = _CLOCK.fullmatch(gold), _CLOCK.fullmatch(answer)
    if g is not None and a is not None:
        return g[1] == a[1] and (not g[2] or not a[2] or g[2].lower() == a[2].lower())
    if not _WORDS.fullmatch(gold) or not re.search("[A-Za-z]{3,}", gold):
        return None
    if not _WORDS.fullmatch(answer):
        return None
    return _letters(gold) == _letters(answer)


def _letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", re.sub(r"\b(?:the|an?)\b", "", text.lower()))


def _values(gold: str, answer: str) -> tuple[str, str]:
    """Drop the name from ``name = value`` unless both sides name different things."""
    (gold_name, gold_value), (answer_name, answer_value) = _split_name(gold), _split_name(answer)
    if gold_name is not None and answer_name is not None and gold_name != answer_name:
        return gold, answer
    if len(_sides(gold_value)) == 1 and "," not in answer_value:
        answer_value = _sides(answer_value)[-1].strip() or answer_value  # `6 * 7 = 42` answers 42
    return gold_value, answer_value


def _split_name(s: str) -> tuple[str | None, str]:
    parts = _sides(s, _EQUALS_OR_IN)
    if len(parts) != 2 or not parts[0].strip() or not parts[1].strip():
        return None, s
    left, right = parts[0].strip(), parts[1].strip()
    is_reversed = not _is_name(left) and re.fullmatch("[a-z]", right) is not None  # `mx + b = y`
    if is_reversed or (parse_number(left) is not None and _is_name(right)):
        left, right = right, left
    if _is_name(left):
        return re.sub(r"\s+", "", left), right
    return None, s


def _sides(s: str, separator: re.Pattern[str] = _EQUALS) -> list[str]:
    r"""Split an equation at its signs outside braces: the one in ``\sum_{i=1}`` makes no equation."""
    starts, ends = [0], []
    for match in separator.finditer(s):
        before = s[: match.start()].replace("\\{", "").replace("\\}", "")
        if before.count("{") == before.count("}"):
            ends.append(match.start())
            starts.append(match.end())
    return [s[start:end] for start, end in zip(starts, [*ends, len(s)], strict=True)]


def _is_name(left: str) -> bool:
    if _PAIR_NAME.fullmatch(left):
        return True
    return bool(_NAME.fullmatch(left)) and not left.startswith("(") and "," not in re.sub(r"\([^()]*\)", "", left)


def _without_outer_brackets(s: str) -> str:
    match = re.fullmatch(r"\(\s*([^()]*)\s*\)|\{\s*([^{}]*)\s*\}", s.strip())
    return (match[1] or match[2] or "").strip() if match else s.strip()
