"""Sentences: where those of a text end, and what the model made of each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Sentences(NamedTuple):
    """The S complete sentences of one text, in order; they follow one another without gaps from position 0 on.

    ends: [S] int64, the position of each one's last token. states: [S,hidden] float32, the mean over its tokens of what the
    model's head reads, the hidden state after the last norm. Both cover evicted tokens too.
    """

    ends: Tensor
    states: Tensor

    @classmethod
    def of(cls, ends: Tensor, sums: Tensor) -> Sentences:
        """Return the sentences of one row of `Observed.sentence_ends` [S] and `Observed.sentence_sums` [S,hidden]."""
        ends = ends[ends >= 0]
        lengths = ends.diff(prepend=ends.new_full((1,), -1))
        return cls(ends, sums[: len(ends)] / lengths[:, None])

    def number(self, positions: Tensor) -> Tensor:
        """Return which sentence tokens at positions [...] belong to, from 0; S: to the one that is not complete."""
        return torch.searchsorted(self.ends, positions.contiguous())
