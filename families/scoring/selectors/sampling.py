"""Sampling: tokens are drawn without replacement, each in proportion to its score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt
from torch import Tensor

from designspace.axes import Selector, View
from designspace.axes.randomness import hash_uniform, slot_coordinates
from designspace.axes.ranking import highest, keep_protected

CERTAIN = 1e30  # a score that is always drawn before any ordinary one


@dataclass(frozen=True)
class Sampling(Selector):
    """Draw each head's tokens without replacement, in proportion to their scores [chang2026vase].

    One draw after the other takes a token with a probability that is its share of the weights that are left. That is what
    the highest log w + g keep, where every g is an independent Gumbel number (the exponential race). The numbers are hashes
    of the row's random stream, layer, head, position and length of the text, so a row draws the same whatever its
    batch-mates, and anew at every event. Tokens of weight 0 come last, the newest of them first.

    Attributes:
        weights: "score" (the default): the weight is the score, of a negative one 0. "softmax": exp(score / temperature).
        temperature: of "softmax", above 0; 1 by default.
    """

    kind: ClassVar[str] = "sampling"
    citation: ClassVar[str | None] = "chang2026vase"

    weights: Literal["score", "softmax"] = "score"
    temperature: Annotated[float, Gt(0)] = 1.0

    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Return the kept mask [L,E,H_kv,C]."""
        protected = keep_protected(view, shares)
        left = shares - protected.sum(dim=-1)
        return protected | highest(self._raced(view, scores), view.candidates, left)

    def _raced(self, view: View, scores: Tensor) -> Tensor:
        """Return log weights with Gumbel noise, [L,E,H_kv,C] float64: the highest are a draw without replacement."""
        log_weights = (
            scores.double() / self.temperature if self.weights == "softmax" else scores.double().clamp(min=0).log()
        )
        return log_weights + gumbel(view)


def gumbel(view: View) -> Tensor:
    """Return a standard Gumbel number for each slot of an event, [L,E,H_kv,C] float64."""
    stream, *slot = slot_coordinates(view)
    event = view.next_position[None, :, None, None]
    # Two hashes of 24 bits: of one alone the largest of many numbers would often be equal.
    coarse, fine = (hash_uniform(stream, event, *slot, torch.full_like(event, part)) for part in (0, 1))
    uniform = coarse.double() + (fine.double() + 2.0**-25) * 2.0**-24
    return -(-uniform.log()).log()
