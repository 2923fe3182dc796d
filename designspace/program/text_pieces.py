"""Tokens to pieces of text as they come, so that the pieces together are the text."""

from __future__ import annotations

from collections.abc import Callable

Decode = Callable[[tuple[int, ...]], str]
_INCOMPLETE = "\ufffd"  # what a decoder writes for the first bytes of a character whose others are in the next token


class TextPieces:
    """The pieces of one text. A token that completes no character gives an empty one.

    Only the last few tokens are decoded anew, from the last piece but one on: many tokenizers write a space before a token
    only where another one precedes it.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._start = self._read = 0

    def add(self, token: int) -> str:
        """Return the piece that a token brings."""
        self._ids.append(token)
        whole = self._decode(tuple(self._ids[self._start :]))
        return "" if whole.endswith(_INCOMPLETE) else self._piece(whole)

    def rest(self) -> str:
        """Return what is left at the end of the text: characters that were never completed."""
        return self._piece(self._decode(tuple(self._ids[self._start :])))

    def _piece(self, whole: str) -> str:
        before = self._decode(tuple(self._ids[self._start : self._read]))
        if len(whole) <= len(before):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return whole[len(before) :]
