"""The repetition penalty: tokens that stand in a row's prompt or text are less likely to be chosen again."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from designspace.engine.row import RowState


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Return logits [B,V] in which those of tokens `seen` [B,V] are divided by the penalty, or multiplied if negative.

    As RepetitionPenaltyLogitsProcessor of transformers computes it, to the bit [keskar2019ctrl].
    """
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


class Repetition:
    """Knows for each row of a batch which tokens stand in its prompt and text, and penalises them.

    Within a burst the device notes what it chooses. Before the next one, a row whose text is not what was noted (it is
    another's, or was steered, rolled back or fed) is noted anew from the host's tokens. So what one row holds says nothing of
    another, and nothing is left of a text that has ended.
    """

    def __init__(self, penalty: float, rows: int) -> None:
        self.penalty, self.rows = penalty, rows
        self._seen: Tensor | None = None  # [B,V], made when the first logits say how many tokens can be chosen
        self._noted: dict[int, tuple[weakref.ref[RowState], int, int]] = {}  # whose text, its length, its last token

    def first(self, logits: Tensor, state: RowState) -> Tensor:
        """Return the penalised logits [1,V] of a row's first token, after its prompt."""
        seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
        return penalised(logits, _with(seen, 0, state.request.prompt_ids), self.penalty)

    def begin(self, states: Collection[RowState], logits: Tensor) -> None:
        """Make sure that what is noted is what the rows hold, at the first logits [B,V] of a burst."""
        if self._seen is None:
            self._seen = torch.zeros(self.rows, logits.shape[-1], dtype=torch.bool, device=logits.device)
        for state in states:
            known, length, last = self._noted.get(state.index, (_nobody, 0, 0))
            if known() is not state or length != len(state.tokens) or last != state.tokens[-1]:
                self._seen[state.index] = False
                _with(self._seen, state.index, (*state.request.prompt_ids, *state.tokens))

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the penalised logits [B,V] of the next tokens."""
        assert self._seen is not None
        return penalised(logits, self._seen, self.penalty)

    def note(self, tokens: Tensor) -> None:
        """Note the tokens [B] that are written. Does not synchronise with the device."""
        assert self._seen is not None
        self._seen.scatter_(1, tokens[:, None], True)

    def end(self, states: Collection[RowState], last: Sequence[int], n_steps: int) -> None:
        """Remember what the rows' texts are if all tokens of the burst are appended to them; last: [B], the last ones."""
        for state in states:
            self._noted[state.index] = (weakref.ref(state), len(state.tokens) + n_steps, last[state.index])


def _nobody() -> None:
    """Stand for the text of a row that has had none yet."""


def _with(seen: Tensor, row: int, tokens: Sequence[int]) -> Tensor:
    """Note tokens in a row. Ids past the logits, which some models embed and cannot choose, have nothing to penalise."""
    ids = torch.tensor([token for token in set(tokens) if token < seen.shape[-1]], dtype=torch.long)
    seen[row, ids.to(seen.device)] = True
    return seen
