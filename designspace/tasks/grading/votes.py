"""The spelling of an answer that self-consistency compares votes by."""

from __future__ import annotations

from designspace.tasks.grading.equality import parse_number
from designspace.tasks.grading.extraction import extract_strict
from designspace.tasks.grading.normalise import comparison_key, normalise


def canonical_answer(text: str) -> str | None:
    """Return the answer in a text in the one spelling that votes are compared by; None: the text has none.

    The strict reading of the grader, as an exact number where it is one. Answers that only algebra shows to be equal count
    as different.
    """
    answer = extract_strict(text).answer
    if not answer:
        return None
    normalised = normalise(answer)
    number = parse_number(normalised)
    if number is not None and not number.is_percent:
        return str(number.value)
    return comparison_key(normalised) or None
