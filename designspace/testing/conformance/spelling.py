"""A toy vocabulary: what strategies may know of a model's tokens, without a tokenizer."""

from __future__ import annotations


class Spelling:
    """Token i is the i-th printable character, and a newline is the last one."""

    n_tokens = 96
    _alphabet = "".join(chr(32 + i) for i in range(95)) + "\n"

    def token_ids(self, text: str) -> tuple[int, ...]:
        """Return one token per character."""
        return tuple(self._alphabet.index(character) for character in text)

    def ids_with(self, text: str) -> frozenset[int]:
        """Return the tokens whose own text contains `text`."""
        return frozenset(i for i, character in enumerate(self._alphabet) if text in character)
