"""Inequalities joined by "or", as the union of intervals that they say in words."""

from __future__ import annotations

import re

from designspace.tasks.grading.normalise import normalise

_OR = re.compile(r"\\text\s*\{\s*or\s*\}|\\(?:lor|vee)(?![A-Za-z])|(?<![A-Za-z\\])or(?![A-Za-z])", re.IGNORECASE)
_SIGN = re.compile(r"\\(?:leq?|geq?)(?:slant)?(?![A-Za-z])|<=|>=|<|>")
_NAME = re.compile(r"[a-zA-Z]")


def union_of(answer: str) -> str | None:
    r"""Return `(-\infty, 1) \cup (2, \infty)` for `x < 1 or x > 2`; None unless every part bounds the same variable."""
    parts = _OR.split(answer)
    if len(parts) < 2:
        return None
    bounded = [_interval(normalise(part)) for part in parts]
    names = {found[0] for found in bounded if found is not None}
    if None in bounded or len(names) != 1:
        return None
    return r" \cup ".join(found[1] for found in bounded if found is not None)


def _interval(part: str) -> tuple[str, str] | None:
    """Return the variable of an inequality and the interval that it allows."""
    sides = [side.strip() for side in _SIGN.split(part)]
    signs = [_plain(sign) for sign in _SIGN.findall(part)]
    if len(sides) == 2 and _NAME.fullmatch(sides[1]):
        sides, signs = sides[::-1], [{"<": ">", "<=": ">=", ">": "<", ">=": "<="}[signs[0]]]
    if len(sides) == 2 and _NAME.fullmatch(sides[0]) and sides[1]:
        return sides[0], _half_line(signs[0], sides[1])
    if len(sides) != 3 or not _NAME.fullmatch(sides[1]) or not (sides[0] and sides[2]):
        return None
    if signs[0][0] != signs[1][0]:
        return None
    (low, opening), (high, closing) = (sides[0], signs[0]), (sides[2], signs[1])
    if signs[0][0] == ">":
        (low, opening), (high, closing) = (high, closing), (low, opening)
    return sides[1], f"{'[' if '=' in opening else '('}{low}, {high}{']' if '=' in closing else ')'}"


def _half_line(sign: str, bound: str) -> str:
    return {
        "<": rf"(-\infty, {bound})",
        "<=": rf"(-\infty, {bound}]",
        ">": rf"({bound}, \infty)",
        ">=": rf"[{bound}, \infty)",
    }[sign]


def _plain(sign: str) -> str:
    if sign.startswith("\\"):
        return "<=" if sign[1] == "l" else ">="
    return sign
