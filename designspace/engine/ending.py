"""When a text ends before its limit: at an end-of-text token, or where its decoded text holds a stop string."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from designspace.engine.row import RowState
from designspace.models.loading import LoadedModel

Decode = Callable[[tuple[int, ...]], str]
# Characters that a piece of a text may lack at its begin: a token cut within a letter, or the blank that some tokenizers
# leave out before the first word.
_MARGIN = 8


@dataclass(frozen=True)
class Ending:
    """What ends a text beside its limit and the model's end-of-text tokens.

    A text ends with the first token with which its decoded text holds one of the strings. That token stays in the text's
    tokens, whatever else it holds; what people read and graders see ends before the string (`text`).

    Attributes:
        stop: the strings.
        min_new_tokens: so many tokens stand in a text before it may end: until then the end-of-text tokens cannot be chosen,
            and a stop string counts only if it begins after them.
    """

    stop: tuple[str, ...] = ()
    min_new_tokens: int = 0

    def n_until_stop(self, decode: Decode, tokens: Sequence[int], n_new: int) -> int | None:
        """Return how many of the last `n_new` tokens stand in the text if a stop string ends it there, None if none does.

        The tokens before them hold no stop string that counts.
        """
        if not self.stop or len(tokens) <= self.min_new_tokens:
            return None
        start = self._start(decode, tokens, n_new)
        known, window = len(tokens) - n_new, tuple(tokens[start:])
        begin = self._begin(decode, window, self.min_new_tokens - start)
        if not self._holds(decode(window), begin):
            return None
        lengths = range(1, n_new + 1)
        return next(n for n in lengths if self._holds(decode(window[: known - start + n]), begin))

    def text(self, decode: Decode, tokens: Sequence[int]) -> str:
        """Return the decoded text, up to the stop string that begins first."""
        whole = decode(tuple(tokens))
        begin = self._begin(decode, tuple(tokens), self.min_new_tokens) if self.stop else 0
        found = [place for stop in self.stop if (place := whole.find(stop, begin)) >= 0]
        return whole[: min(found)] if found else whole

    def _start(self, decode: Decode, tokens: Sequence[int], n_new: int) -> int:
        """Return from which token on the text must be decoded to find what ends in the last `n_new` tokens.

        Tokens may have no letter of their own, so how many are enough is seen from their text.
        """
        known, needed = len(tokens) - n_new, max(map(len, self.stop)) + _MARGIN
        width = needed
        while width < known and len(decode(tuple(tokens[known - width : known]))) < needed:
            width *= 2
        return max(0, known - width)

    def _begin(self, decode: Decode, tokens: tuple[int, ...], n_tokens: int) -> int:
        """Return where in the decoded tokens a stop string may begin: after the first `n_tokens`."""
        return len(decode(tokens[:n_tokens])) if n_tokens > 0 else 0

    def _holds(self, text: str, begin: int) -> bool:
        return any(text.find(stop, begin) >= 0 for stop in self.stop)


class TextEnds:
    """Finds the ends of the texts of one engine, and keeps end-of-text tokens from being chosen too early."""

    def __init__(self, loaded: LoadedModel, ending: Ending) -> None:
        self.ending, self._loaded = ending, loaded
        self._eos = np.array(sorted(loaded.eos_ids), dtype=np.int64)
        self._eos_ids = torch.from_numpy(self._eos).to(loaded.device)

    def find(self, tokens: np.ndarray, states: Collection[RowState]) -> tuple[list[int], frozenset[int]]:
        """Return up to which of the tokens [n,B] of a burst each row's text goes, [B], and the rows that a stop string ends.

        Rows that are steered are not looked at: what stands in their text may be something else.
        """
        ends = np.isin(tokens, self._eos)
        n_valid: list[int] = np.where(ends.any(axis=0), ends.argmax(axis=0) + 1, len(tokens)).tolist()
        stopped = set()
        for state in states if self.ending.stop else ():
            new = tokens[: n_valid[state.index], state.index].tolist()
            if state.controller is None and (n := self._n_until_stop(state, [*state.tokens, *new], len(new))):
                n_valid[state.index] = n
                stopped.add(state.index)
        return n_valid, frozenset(stopped)

    def at_last(self, state: RowState) -> bool:
        """Return whether a stop string ends a row's text with its last token."""
        return bool(self.ending.stop) and self._n_until_stop(state, state.tokens, 1) is not None

    def _n_until_stop(self, state: RowState, tokens: list[int], n_new: int) -> int | None:
        """Return how many of the last tokens stand in a row's text; a text that is given ends where it was given to end."""
        given = state.request.reference
        if given is not None and len(tokens) < len(given):
            return None
        found = self.ending.n_until_stop(self._loaded.decode, tokens, n_new if given is None else 1)
        return n_new if found is not None and given is not None else found

    def too_early(self, states: Collection[RowState], n_steps: int, n_rows: int) -> Tensor | None:
        """Return at which of the next steps a row's text must not end yet, [n,B] bool; None if all may end."""
        least = self.ending.min_new_tokens
        if not len(self._eos) or all(len(state.tokens) >= least for state in states):
            return None
        early = np.zeros((n_steps, n_rows), dtype=bool)
        for state in states:
            early[: max(least - len(state.tokens), 0), state.index] = True
        return torch.from_numpy(early).to(self._eos_ids.device)

    def without_ends(self, logits: Tensor, early: Tensor) -> Tensor:
        """Return logits [B,V] in which rows that must not end yet, `early` [B], have no end-of-text token to choose."""
        logits = logits.clone()
        logits[:, self._eos_ids] = logits[:, self._eos_ids].masked_fill(early[:, None], float("-inf"))
        return logits
