"""From a problem to the text that a model is given: named formats, or a text of one's own around `{problem}`."""

from __future__ import annotations

from collections.abc import Sequence

from designspace.errors import DeclarationError, did_you_mean

PLACEHOLDER = "{problem}"
FORMATS = {
    "none": PLACEHOLDER,
    "boxed-suffix": f"{PLACEHOLDER}\n\nReason step by step, and put your final answer within \\boxed{{}}.",
    "answer-colon": f'{PLACEHOLDER}\n\nReason step by step, and end with a line that begins with "Answer:".',
}
BOXED_INSTRUCTION = (
    "Solve the following problem. Reason step by step, then give only the final answer inside \\boxed{}.\n\n"
    f"Problem: {PLACEHOLDER}"
)
# As results of earlier releases know it: hashed with its braces doubled. It is part of their cells' identities.
BOXED_INSTRUCTION_HASH = "716438bf58cffe8b8945244db5ed1bccaa33f668ed2926066971647fe57f0693"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def template_of(prompt: str) -> str:
    """Return the template that a declaration names, or is.

    Raises:
        DeclarationError: neither the name of a format, nor a text with `{problem}` in it once.
    """
    if prompt in FORMATS:
        return FORMATS[prompt]
    if prompt.count(PLACEHOLDER) == 1:
        return prompt
    hint = did_you_mean(prompt, FORMATS) if len(prompt) < 40 and PLACEHOLDER not in prompt else ""
    raise DeclarationError(
        f"prompt must be {', '.join(FORMATS)} or a text with {PLACEHOLDER} in it once, got {prompt!r:.80}{hint}"
    )


def render(template: str, problem: str) -> str:
    """Return the text of one problem; other braces are those of formulas and stay."""
    return template.replace(PLACEHOLDER, problem) if template else problem


def with_choices(problem: str, choices: Sequence[str]) -> str:
    """Return a question with its options below it, lettered from A."""
    options = "\n".join(f"({letter}) {choice}" for letter, choice in zip(_LETTERS, choices, strict=False))
    return f"{problem}\n\n{options}" if options else problem


def letter_of(index: int) -> str:
    """Return the letter of an option."""
    return _LETTERS[index]
