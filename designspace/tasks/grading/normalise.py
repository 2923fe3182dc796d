r"""Rewrite an answer into plain, undelimited LaTeX: one spelling per meaning, decided by regular expressions alone.

``normalise`` is applied to gold and prediction alike: text wrappers, spacing, delimiters, currency, degree signs and
units go; unicode and program-style mathematics become LaTeX.
"""

import re
import unicodedata

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∗": "*", "÷": "/",
        "∕": "/", "⁄": "/", "∠": r"\angle ",
        "π": r"\pi ", "θ": r"\theta ", "φ": r"\varphi ", "α": r"\alpha ", "β": r"\beta ",
        "λ": r"\lambda ", "∞": r"\infty ",
        "≤": r"\leq ", "⩽": r"\leq ", "≥": r"\geq ", "⩾": r"\geq ", "≠": r"\neq ", "≈": r"\approx ", "±": r"\pm ",
        "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "°": r"^\circ ",
        "′": "'", "’": "'", "“": '"', "”": '"', "€": "$", "£": "$", "¥": "$",
    }
)  # fmt: skip
_DELIMITERS = re.compile(r"\\\$|\$|(?<!\\)\\[()\[\]]")
_SPACING = re.compile(
    r"(?<!\\)\\[,;:! >]|(?<!\\)\\(?:quad|qquad|enspace|thinspace|displaystyle|textstyle|limits|hfill)(?![A-Za-z])|~"
)
_SIZING = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?)(?![A-Za-z])\s*\.?")
_DEGREES = re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degrees?(?![A-Za-z])")
_TEXT_NAMES = r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt|normal)|mbox|operatorname\*?|bold|bf)"
_TEXT = re.compile(_TEXT_NAMES + r"\s*\{([^{}]*)\}")
_WRAPPERS = re.compile(r"\\(?:boxed|fbox|phantom|underline|displaystyle)\s*\{")
_JOINERS = re.compile(r"\s*,?\s*(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])\s*", re.IGNORECASE)
_UNIT_WORD = (
    r"(?:square|cubic|sq|cu)?\s*(?:units?|degrees?|radians?|inch(?:es)?|feet|foot|ft|yards?|miles?|met(?:er|re)s?|cm|mm|km"
    r"|centimet(?:er|re)s?|kilomet(?:er|re)s?|kg|grams?|pounds?|lbs?|ounces?|lit(?:er|re)s?|mL|ml|dollars?|cents?|USD"
    r"|in|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|weeks?|months?|years?|mph|ways|people|times)"
)
_UNITS = re.compile(
    rf"(?<=[0-9.}})\]%])\s*(?:{_UNIT_WORD}|(?<=\s)[a-zA-Z]{{3,}}(?:\s+[a-zA-Z]+)*|(?<=[0-9])\s*m(?=\s*\^))"
    rf"(?:\s*(?:/|per)\s*(?:{_UNIT_WORD}|hr?|s))?(?:\s*\^\s*\{{?[23]\}}?)?[\s.]*\Z"
)
_PERCENT = re.compile(r"\s*(?:\\?%|(?<![A-Za-z])(?:percent(?:age)?|pct)(?![A-Za-z]))", re.IGNORECASE)
_FUNCTIONS = r"sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|log|ln|exp|sqrt|max|min|gcd|lcm|mod|pi|inf|infty"
_NOT_UNITS = re.compile(rf"\A\s*(?:{_FUNCTIONS})\b")


def normalise(answer: str) -> str:
    """Return the canonical LaTeX of an answer, without delimiters, text wrappers, units, spacing and currency."""
    s = _halve_backslashes(re.sub(r"\s+", " ", answer).strip())  # long runs of spaces make the patterns below slow
    s = _from_unicode(s)
    s = _strip_layout(s)
    s = _unwrap_text(s)
    s = _from_program_syntax(s)
    s = _canonical_commands(s)
    s = _strip_ends(re.sub(r"\s+", " ", s))
    return _join_digit_groups(s)


def comparison_key(normalised: str) -> str:
    """Return the string on which two answers are called identical: no spaces, no redundant braces around one token."""
    key = re.sub(r"(?<=[a-zA-Z])\s+(?=[a-zA-Z])|(?<=[0-9])\s+(?=[0-9])", "\0", normalised)  # `1 2` is not 12
    key = re.sub(r"\s+", "", key).replace("\0", " ")
    key = re.sub(r"([_^])\{(\w)\}", r"\1\2", key)
    key = re.sub(r"(\\[a-zA-Z]+) (?=[a-zA-Z])", r"\1 ", key)
    return key


def _halve_backslashes(s: str) -> str:
    r"""Undo escaping (``\\frac{1}{2}``) when every run of backslashes is doubled; true line breaks are not."""
    runs = re.findall(r"\\+", s)
    commands = re.search(r"\\\\[A-Za-z]{2,}|\\\\[{}]", s)
    if commands and all(len(run) % 2 == 0 for run in runs):
        return re.sub(r"\\\\", r"\\", s)
    return s


def _from_unicode(s: str) -> str:
    s = re.sub(r"√\s*(\d+|[a-z]|\([^()]*\))", lambda m: rf"\sqrt{{{m.group(1).strip('()')}}}", s)
    s = re.sub("[⁰¹²³⁴-⁹⁻]+", lambda m: "^{" + unicodedata.normalize("NFKC", m.group()).replace("−", "-") + "}", s)
    s = re.sub("[¼½¾⅐-⅞]", lambda m: _vulgar_fraction(m.group()), s)
    s = re.sub(r"[\u00a0\u2000-\u200b\u202f\u205f\u3000]", " ", s.translate(_UNICODE))
    return s if s.isascii() else unicodedata.normalize("NFKC", s).replace("−", "-")


def _vulgar_fraction(character: str) -> str:
    numerator, _, denominator = unicodedata.normalize("NFKC", character).partition("⁄")
    return rf"\frac{{{numerator}}}{{{denominator}}}"


def _strip_layout(s: str) -> str:
    s = re.sub(rf"\A\s*{_TEXT_NAMES}\s*\{{[^{{}}]*(?:\bis|\bare|=|:)\s*\}}", "", s)  # a sentence around the answer
    s = re.sub(r"(?<=[0-9])\s*(?:\{,\}|,?\\!|\\,|,\\ )\s*,?(?=[0-9]{3}(?![0-9]))", "", s.replace(r"{,}\!", "{,}"))
    s = s.replace("{,}", ",").replace("**", "^") if not s.startswith("**") else s.strip("*")
    s = _SPACING.sub(" ", _DELIMITERS.sub(" ", s))
    s = _DEGREES.sub("", _SIZING.sub("", s))
    s = re.sub(r"\\(?:text)?color\s*\{[^{}]*\}|\\checkmark(?![A-Za-z])", " ", s)
    s = re.sub(r"\\overline\s*\{([A-Za-z\s]+)\}", r"\1", s)  # a segment is known by its end points
    for _ in range(3):
        match = _WRAPPERS.search(s)
        if match is None:
            break
        s = _without_wrapper(s, match)
    return s


def _without_wrapper(s: str, match: re.Match[str]) -> str:
    depth = 1
    for token in re.finditer(r"\\.|[{}]", s[match.end() :], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if depth == 0:
            end = match.end() + token.start()
            inner = "" if "phantom" in match.group() else s[match.end() : end]
            return s[: match.start()] + inner + s[end + 1 :]
    return s[: match.start()] + s[match.end() :]


def _unwrap_text(s: str) -> str:
    """Drop a trailing text box after a value (a unit), open every other one; ``and``/``or`` become commas."""
    s = _PERCENT.sub(r"\\%", s)
    for _ in range(3):
        s = re.sub(
            r"(?<=[^\s{(,&=])\s*" + _TEXT_NAMES + r"\s*\{([^{}]*)\}(?:\s*\^\s*\{?\d\}?)?\s*\.?\s*\Z", _unit_or_word, s
        )
        s = _TEXT.sub(lambda m: f" {m.group(1)} " if len(m.group(1)) > 1 else m.group(1), s)
    s = _JOINERS.sub(", ", s) if re.search(r"[0-9)}\]]\s*,?\s*(?:and|or)(?![A-Za-z])", s, re.IGNORECASE) else s
    s = re.sub(r",\s*(?:,\s*)+", ", ", s)
    unit = _UNITS.search(s)
    return s[: unit.start()] if unit and not _NOT_UNITS.match(unit.group()) else s


def _unit_or_word(match: re.Match[str]) -> str:
    word = match.group(1).strip()
    before = match.string[: match.start()].rstrip()
    is_value = bool(re.search(r"[0-9})%]\Z|\\(?:pi|infty)\Z|[a-z]\Z", before)) and len(before) > 0
    keeps = word.lower() in {"and", "or", "i", "e"} or not is_value or not re.search("[A-Za-z]", word)
    keeps = keeps or re.fullmatch(r"[ap]\.?\s*m\.?", word, re.IGNORECASE) is not None  # half of a time of day
    return f" {word} " if keeps else ""


def _from_program_syntax(s: str) -> str:
    s = re.sub(r"(?<![\\A-Za-z])sqrt\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)", r"\\sqrt{\1}", s)
    s = re.sub(r"(?<![\\A-Za-z])exp\s*\(([^()]*)\)", r"e^{\1}", s)
    s = re.sub(r"(?<![\\A-Za-z])abs\s*\(([^()]*)\)", r"|\1|", s)
    s = re.sub(r"(?<![\\A-Za-z])(pi|infty|theta)(?![A-Za-z])", r"\\\1 ", s)
    s = re.sub(r"(?<![\\A-Za-z])(?:inf|oo|infinity)(?![A-Za-z])", r"\\infty ", s)
    s = re.sub(r"(?<![\\A-Za-z])(sin|cos|tan|log|ln)\s*\(", r"\\\1(", s)
    s = re.sub(r"\^\s*\(([^()]*)\)", r"^{\1}", s)
    s = re.sub(r"\^\s*(-?[0-9]{2,}|-[0-9])(?![0-9])", r"^{\1}", s)
    return re.sub(r"\s*(?<!\^)\*\s*", r" \\cdot ", s)


def _canonical_commands(s: str) -> str:
    s = re.sub(r"\\[dtc]frac(?![A-Za-z])", r"\\frac", s)
    s = re.sub(r"\\frac\s*([0-9a-z])\s*([0-9a-z])", r"\\frac{\1}{\2}", s)
    s = re.sub(r"\\frac\s*([0-9a-z])\s*\{", r"\\frac{\1}{", s)
    s = re.sub(r"\\frac\s*(\{[^{}]*\})\s*([0-9a-z])", r"\\frac\1{\2}", s)
    s = re.sub(r"\\sqrt\s*([0-9]+|[a-zA-Z])", r"\\sqrt{\1}", s)  # nobody means \sqrt{1}3 by \sqrt13
    s = re.sub(r"<=|\\leqslant(?![A-Za-z])|\\le(?![A-Za-z])", r"\\leq ", s)
    s = re.sub(r">=|\\geqslant(?![A-Za-z])|\\ge(?![A-Za-z])", r"\\geq ", s)
    s = re.sub(r"\\log\s*_\s*(?:\{\s*e\s*\}|e(?![A-Za-z]))", r"\\ln ", s)
    s = re.sub(r"\\varnothing(?![A-Za-z])", r"\\emptyset", s)
    s = re.sub(r"!=|\\ne(?![A-Za-z])", r"\\neq ", s)
    s = re.sub(r"\\lt(?![A-Za-z])", "<", re.sub(r"\\gt(?![A-Za-z])", ">", s))
    s = re.sub(r"\\(lbrace|rbrace)(?![A-Za-z])", lambda m: r"\{" if m.group(1) == "lbrace" else r"\}", s)
    s = re.sub(r"\\(begin|end)\{[bB]?(?:small)?matrix\}", r"\\\1{pmatrix}", s)
    return s.replace(r"\dots", r"\ldots")


def _strip_ends(s: str) -> str:
    s = s.strip()
    while s and (s[-1] in ".,;:" or s.endswith("\\")) and not s.endswith("\\\\"):
        s = s[:-1].rstrip()
    s = s.lstrip(":;, ").strip('`"')
    s = re.sub(r"\A(?:=|\\approx(?![A-Za-z]))\s*", "", s)
    return s.strip()


def _join_digit_groups(s: str) -> str:
    """Read ``1,234.5`` and ``1 234`` as one number when that is all there is; inside a list the comma separates."""
    if re.fullmatch(r"[-+]?[0-9]{1,3}(?:(?:,[0-9]{3})+|(?: [0-9]{3})+)(?:\.[0-9]*)?(?:\\%)?", s):
        return re.sub("[, ]", "", s)
    return s
