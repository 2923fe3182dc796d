"""Sampling with known probabilities: kept tokens stand for those that were drawn against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from designspace.axes import Composition, Draw, Geometry, Needs, Schedule, Selector, View
from designspace.axes.randomness import hash_uniform, slot_coordinates
from designspace.axes.ranking import highest, keep_protected
from families.scoring.selectors.sampling_error import sampling_error

_ORDER, _START = 2, 3  # what a number is drawn for; `sampling` has 0 and 1


@dataclass(frozen=True)
class PoissonHajek(Selector):
    """Keep the best tokens for certain, draw the others with known probabilities, and weigh what was drawn [poissonhajek2026].

    Of what a head's share leaves beside the protected tokens, the best `certain` part is kept. Each other token is kept with
    a probability p in proportion to its weight, 1 where that would be more. From then on log 1/p is added to its logit, again
    at every draw that it survives. So the sums of attention over kept tokens are unbiased estimates of those over all tokens,
    and attention is their ratio, the estimate of Hajek. With it comes the error to expect, `sampling_error` of each text.

    The paper could not be had; this follows its summary. Deviations, all ours: the number of tokens is fixed, as budgets are
    exact here, where Poisson sampling has a random one. The draw is systematic in a random order [hartley1962]: one uniform
    number per head, so every probability is kept exactly and no head exceeds its share. `certain` and `mix` are not from it.
    Numbers are hashes of the row's random stream, layer, head, position and length of the text.

    Attributes:
        certain: part of a head's unprotected share that goes to the highest scores for certain, in [0, 1]; 0.5 by default.
            1 is `top-k`.
        mix: part of all weight that is spread evenly over the tokens to draw from, in (0, 1]; 0.1 by default. It gives every
            token a chance, and bounds by how much one can count.
        weights: "score" (the default): the weight is the score, of a negative one 0. "softmax": exp(score / temperature).
        temperature: of "softmax", above 0; 1 by default.
    """

    kind: ClassVar[str] = "poisson-hajek"
    citation: ClassVar[str | None] = "poissonhajek2026"

    certain: Annotated[float, Ge(0), Le(1)] = 0.5
    mix: Annotated[float, Gt(0), Le(1)] = 0.1
    weights: Literal["score", "softmax"] = "score"
    temperature: Annotated[float, Gt(0)] = 1.0

    def needs(self) -> Needs:
        """Return the need for the attention row of the newest query and the values, which the error is computed for."""
        return Needs(last=True, values=True)

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """Say so where the parameter makes it `top-k`."""
        return "certain=1 is top-k" if self.certain == 1 else None

    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Return the kept mask [L,E,H_kv,C]."""
        return self.draw(view, scores, shares).keep

    def draw(self, view: View, scores: Tensor, shares: Tensor) -> Draw:
        """Return the kept slots and the probability that each had, 1 for what is kept for certain."""
        protected = keep_protected(view, shares)
        left = shares - protected.sum(dim=-1)
        sure = highest(scores, view.candidates, (self.certain * left.double() + 1e-9).floor().long())
        pool, n = view.candidates & ~sure, left - sure.sum(dim=-1)
        probability = inclusion(self._weights(scores, pool), pool, n, self.mix)
        chosen = systematic(view, probability, pool, n)
        kept = protected | sure
        # A protected token that the share cannot hold is dropped for certain.
        inclusion_of = torch.where(pool, probability, (kept | ~view.valid).double())
        return Draw(kept | chosen, inclusion_of)

    def expected_error(self, view: View, inclusion: Tensor) -> Tensor:
        """Return the expected relative error of the newest query's attention, [E]."""
        return sampling_error(view, inclusion)

    def _weights(self, scores: Tensor, pool: Tensor) -> Tensor:
        """Return the weights to draw by [L,E,H_kv,C] float64, 0 outside the pool."""
        if self.weights == "score":
            return scores.double().clamp(min=0).nan_to_num(posinf=torch.finfo(torch.float32).max) * pool
        logits = (scores.double() / self.temperature).masked_fill(~pool, -torch.inf)
        return torch.softmax(logits, dim=-1).nan_to_num(nan=0.0)


def inclusion(weights: Tensor, pool: Tensor, n: Tensor, mix: float) -> Tensor:
    """Return the probabilities [...,C] float64 of drawing n [...] from the pool in proportion to weights, at most 1 each.

    weights: [...,C] float64, 0 outside the pool [...,C]. mix: part of them that is spread evenly. They sum to n, at most the
    pool's size: the largest weights, whose share would be more than 1, have 1, and the others divide what is left.
    """
    size = pool.sum(dim=-1, keepdim=True).clamp(min=1)
    total = weights.sum(dim=-1, keepdim=True)
    even = pool.double() / size
    relative = torch.where(total > 0, (1 - mix) * weights / total.clamp(min=1e-300) + mix * even, even)
    ranked, order = relative.sort(dim=-1, descending=True)
    rest = ranked.flip(-1).cumsum(dim=-1).flip(-1)  # of this weight and all smaller ones
    left = n[..., None] - torch.arange(ranked.shape[-1], device=n.device)
    fits = ranked * left <= rest * (1 + 1e-12)
    first = fits.int().argmax(dim=-1, keepdim=True)
    factor = (n[..., None] - first).double() / rest.gather(-1, first).clamp(min=1e-300)
    certain = torch.arange(ranked.shape[-1], device=n.device) < first
    shared = torch.where(certain, 1.0, (ranked * factor).clamp(max=1.0))
    return torch.zeros_like(relative).scatter_(-1, order, shared) * pool * (n[..., None] > 0)


def systematic(view: View, probability: Tensor, pool: Tensor, n: Tensor) -> Tensor:
    """Draw exactly n [L,E,H_kv] slots of the pool [L,E,H_kv,C], each with its probability [L,E,H_kv,C].

    The probabilities are laid end to end in a random order; drawn is where the line is hit by a grid of step 1 with a random
    start.
    """
    stream, layer, head, position = slot_coordinates(view)
    event = view.next_position[None, :, None, None]
    of = [torch.full_like(event, purpose) for purpose in (_ORDER, _START)]
    key = hash_uniform(stream, event, layer, head, position, of[0]).masked_fill(~pool, torch.inf)
    start = hash_uniform(stream, event, layer, head, torch.zeros_like(event), of[1]).double() + 2.0**-25
    order = key.argsort(dim=-1, stable=True)
    ends = probability.gather(-1, order).cumsum(dim=-1)
    ends = ends * (n[..., None] / ends[..., -1:].clamp(min=1e-300))
    hits = (ends + start).floor()
    hit = hits.diff(dim=-1, prepend=torch.zeros_like(hits[..., :1])) > 0
    return torch.zeros_like(pool).scatter_(-1, order, hit) & pool
