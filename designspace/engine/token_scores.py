"""What a model thinks of each token of a text: its log-probability, and whether it is what would have been chosen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class TokenScores:
    """The scores of one row's text so far; log_probs: in nats. agrees: whether the token is the one that was chosen."""

    log_probs: list[float] = field(default_factory=list)
    agrees: list[bool] = field(default_factory=list)

    def add(self, log_probs: Iterable[float], agrees: Iterable[bool]) -> None:
        """Append the scores of the tokens that come next."""
        self.log_probs += log_probs
        self.agrees += agrees


def exact_log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-probabilities [B] float64 of tokens [B] under logits [B,V]; finite also where a probability is none.

    `designspace.engine.burst.log_probs` goes by way of the probability, which is zero from 745 nats on; what samples are
    compared by must stay as it is to the last bit, so there are two.
    """
    return torch.log_softmax(logits.double(), dim=-1).gather(-1, tokens[:, None])[:, 0]
