"""Which tokens of a text write the answers that it states, so that an arm's opinion of these alone can be told."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def answer_tokens(
    answers: Sequence[str], token_ids: tuple[int, ...], decode: Callable[[tuple[int, ...]], str]
) -> tuple[int, ...]:
    """Return the indices of the tokens that write the last occurrence of each answer; empty if the text lacks one of them.

    A token counts if any of its characters is of an answer.
    """
    text, found = decode(token_ids), set[int]()
    for answer in answers:
        start = text.rfind(answer)
        if start < 0 or not answer:
            return ()
        first = _n_tokens_beyond(start, token_ids, decode) - 1
        found.update(range(first, _n_tokens_beyond(start + len(answer) - 1, token_ids, decode)))
    return tuple(sorted(found))


def _n_tokens_beyond(place: int, token_ids: tuple[int, ...], decode: Callable[[tuple[int, ...]], str]) -> int:
    """Return how many of the first tokens it takes to write the character at a place: texts grow with every token."""
    low, high = 0, len(token_ids)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(decode(token_ids[:middle])) > place else (middle + 1, high)
    return low
