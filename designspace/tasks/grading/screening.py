"""Refuse candidates that only serve to burn time: too long, too deep, astronomically large.

The sandbox would cut them off as well, at a full deadline each; the screen makes the common ones free.
"""

import math
import re

N_CHARS = 1000
N_NESTED = 24
N_RUN_DIGITS = 400
EXPONENT_DIGITS = 4  # 10^9999 is still a number one can hold; its power tower is not
FACTORIAL_MAX = 1000
BOUND_MAX = 10_000

_SIMPLE_POWER = re.compile(r"(\d+)\s*\^\s*\{?\s*(\d+)")


def refuse(candidate: str) -> str | None:
    """Return why a normalised candidate is not worth evaluating, None when it may go to the sandbox."""
    if len(candidate) > N_CHARS:
        return f"longer than {N_CHARS} characters"
    if _depth(candidate) > N_NESTED:
        return f"nested deeper than {N_NESTED}"
    if re.search(rf"[0-9]{{{N_RUN_DIGITS},}}", candidate):
        return f"a number of {N_RUN_DIGITS} digits or more"
    if _is_tower(candidate):
        return "an exponent tower"
    if _has_huge_term(candidate):
        return "a factorial, binomial, sum or product of astronomical size"
    return None


def _depth(candidate: str) -> int:
    depth = deepest = 0
    for character in candidate:
        depth += (character in "{([") - (character in "})]")
        deepest = max(deepest, depth)
    return deepest


def _is_tower(candidate: str) -> bool:
    if re.search(rf"\^\s*\{{?\s*\(?\s*[0-9]{{{EXPONENT_DIGITS + 1},}}", candidate):
        return True
    if re.search(r"\^\s*\{?\s*\(?[^{}]*\^\s*\{?\s*\(?[^{}]*\^", candidate) and _nested_carets(candidate) >= 3:
        return True
    for exponent in re.finditer(r"\^\s*[{(]*\s*(?=\d+\s*\^)", candidate):
        power = _SIMPLE_POWER.match(candidate, exponent.end())
        if power and int(power[2]) * math.log10(max(int(power[1]), 1)) > EXPONENT_DIGITS:
            return True
    return False


def _nested_carets(candidate: str) -> int:
    """Return how many exponents sit inside one another, counting ``a^{b^{c}}`` and ``a^b^c`` alike."""
    carets, deepest, level_of = 0, 0, [0]
    previous = ""
    for character in candidate.replace(" ", ""):
        if character in "{(":
            level_of.append(level_of[-1] + (previous == "^"))
        elif character in "})":
            level_of = level_of[:-1] or [0]
        elif character == "^":
            carets = level_of[-1] + 1
            deepest = max(deepest, carets)
        previous = character
    return deepest


def _has_huge_term(candidate: str) -> bool:
    if any(int(n) > FACTORIAL_MAX for n in re.findall(r"([0-9]+)\s*[})]?\s*!", candidate)):
        return True
    if re.search(r"[\^!][^!]*[})]\s*!|!\s*[})]?\s*!", candidate):
        return True
    if any(int(n) > BOUND_MAX for n in re.findall(r"\\d?binom\s*\{\s*([0-9]+)", candidate)):
        return True
    bounds = re.findall(r"\\(?:sum|prod)[^0-9]{0,20}[^\^]{0,40}\^\s*\{?\s*([0-9]+)", candidate)
    return any(int(n) > BOUND_MAX for n in bounds)
