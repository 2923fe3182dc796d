"""Texts that end where one of some pieces of text comes up, which is left out, as harnesses ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_SPARE_TOKENS = 8  # beyond one for each character of the piece: tokens that have no text of their own


def ends_at(decode: Callable[[tuple[int, ...]], str], stops: Sequence[str]) -> Callable[[Sequence[int]], bool] | None:
    """Return what says whether a text has come to one of the pieces; None without any. Looks at the last tokens alone."""
    pieces = tuple(filter(None, stops))
    if not pieces:
        return None
    n_tokens = max(map(len, pieces)) + _SPARE_TOKENS

    def ends(tokens: Sequence[int]) -> bool:
        tail = decode(tuple(tokens[-n_tokens:]))
        return any(piece in tail for piece in pieces)

    return ends


def cut_at(text: str, stops: Sequence[str]) -> str:
    """Return a text up to the first of the pieces."""
    found = [text.find(piece) for piece in stops if piece and piece in text]
    return text[: min(found)] if found else text
