"""Span means: some slots hold the mean of a span of tokens and stand for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Gt, Le, Lt
from torch import Tensor

from designspace.axes import Geometry, MergeResult, View
from designspace.axes.ranking import highest, scaled
from designspace.axes.rotary import as_bands, unrotation_error
from families.representation.merging import Merging, averaged, counts_at

_FINE = 2**24  # scores are summed as integers, so that the sum does not depend on the order


@dataclass(frozen=True)
class SpanMean(Merging):
    """Store some tokens exactly, and each span of the others as its mean key and value [sun2026minimal].

    Of a head's share, the protected tokens and the best of the selector's other choices keep their slots as they are.
    All other tokens, in position order, are divided into as many spans as there are slots left, with nearly equal
    numbers of tokens. (A slot that stands for several tokens belongs to the span of its middle.) A span becomes one
    synthetic slot with the mean key and value of its tokens, in the place of its newest token, whose position and
    observations it keeps. If it stands for n tokens, log n is added to its attention logit, and later events treat it
    like n tokens, so means of means are means. No token's mass is lost, unless protection fills the whole share of a
    head: then no slot is left for it.

    The source proposes and rejects a family: all slots synthetic (`synthetic=1.0`), a fixed mixture ("static") and one
    chosen at each event ("dynamic"). It leaves open the length of spans, the mixture, and whether keys are averaged
    before or after rotation. Here the length follows from the number of slots. "dynamic" keeps as few exact tokens as
    hold `mass_share` of the scores of all unprotected ones, scaled to [0, 1] in each head, and at least one slot is
    synthetic.

    Attributes:
        mode: "static" (the default) or "dynamic".
        synthetic: for "static": part of the unprotected slots that are synthetic, in (0, 1], rounded up; 0.5 by
            default.
        mass_share: for "dynamic": part of the scaled scores that exact tokens must hold, in (0, 1); 0.5 by default.
        keys: "rotated" (the default): keys are averaged as attention sees them. "unrotated": each key is first turned
            to the position of the slot, which is the same as averaging before rotation and rotating the mean.
    """

    kind: ClassVar[str] = "span-mean"
    citation: ClassVar[str | None] = "sun2026minimal"
    keeps_choice: ClassVar[bool] = False
    carries_mass: ClassVar[bool] = True

    mode: Literal["static", "dynamic"] = "static"
    synthetic: Annotated[float, Gt(0), Le(1)] = 0.5
    mass_share: Annotated[float, Gt(0), Lt(1)] = 0.5
    keys: Literal["rotated", "unrotated"] = "rotated"

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse to un-rotate keys if the model rotates only a part of the head dimension."""
        return None if self.keys == "rotated" else unrotation_error("span-mean with unrotated keys", geometry)

    def merge_evicted(self, view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> MergeResult:
        """Return the exact slots, and the synthetic ones in the places of their spans' newest tokens.

        scores, keep: [L,E,H_kv,C]. shares: [L,E,H_kv].
        """
        mass = torch.ones_like(view.positions) if view.mass is None else view.mass
        exact = self._exact(view, scores, shares, keep)
        rest = view.valid & ~exact
        carrier = carriers(rest, mass, shares - exact.sum(dim=-1))
        slot = torch.arange(carrier.shape[-1], device=carrier.device)
        carries = carrier == slot
        target = carrier.masked_fill(carries, -1)  # a carrier is there already
        moved = view.keys if self.keys == "rotated" else turned(view, carrier)
        weights = mass.float()
        return MergeResult(
            keep=exact | carries,
            keys=torch.where(carries[..., None], averaged(moved, weights, weights, target), view.keys),
            values=averaged(view.values, weights, weights, target),
            mass=mass + counts_at(mass, target),
        )

    def _exact(self, view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> Tensor:
        """Return which slots stay as they are, [L,E,H_kv,C] bool; all of them if nothing is evicted."""
        protected = keep & view.protected
        chosen = keep & ~view.protected
        free = chosen.sum(dim=-1)
        n_exact = free - self._n_synthetic(view, scores, chosen, free)
        best = highest(scores, chosen, n_exact)
        return torch.where((shares >= view.counts)[..., None], view.valid, protected | best)

    def _n_synthetic(self, view: View, scores: Tensor, chosen: Tensor, free: Tensor) -> Tensor:
        """Return how many of the `free` [L,E,H_kv] slots are synthetic."""
        if self.mode == "static":
            return (self.synthetic * free.double() - 1e-9).ceil().long()
        fine = (scaled(scores, view.candidates) * _FINE).round().long()
        best_first = fine.masked_fill(~chosen, 0).sort(dim=-1, descending=True).values
        wanted = self.mass_share * fine.masked_fill(~view.candidates, 0).sum(dim=-1, keepdim=True).double()
        n_exact = 1 + (best_first.cumsum(dim=-1).double() < wanted).sum(dim=-1)
        return (free - n_exact).clamp(min=1).minimum(free)


def carriers(rest: Tensor, mass: Tensor, n_spans: Tensor) -> Tensor:
    """Divide the slots `rest` [L,E,H_kv,C] of each head into n_spans [L,E,H_kv] spans of nearly equal mass.

    mass: [L,E,H_kv,C], tokens per slot. n_spans is at most the number of slots in `rest`, and every span has at least
    one slot. Returns for each slot the last slot of its span, -1 outside, [L,E,H_kv,C] int64.
    """
    n_slots = rest.shape[-1]
    n_spans = n_spans[..., None]
    slot = torch.arange(n_slots, device=rest.device).expand_as(mass)
    held = mass * rest
    until = held.cumsum(dim=-1)
    total = until[..., -1:].clamp(min=1)
    # Span of a slot's middle, were spans exactly equal; a middle on the border belongs to the older span.
    ideal = -(-(2 * until - held) * n_spans // (2 * total)) - 1
    ideal = ideal.clamp(min=0).minimum((n_spans - 1).clamp(min=0))
    n_ideal = torch.zeros_like(mass).scatter_add_(-1, ideal, rest.long())
    start = n_ideal.cumsum(dim=-1) - n_ideal  # by span: the rank in `rest` of its first slot
    # Spans that came out empty take a slot from the next ones, or at the end from those before.
    spare = (start - slot).cummax(dim=-1).values.minimum(rest.sum(dim=-1, keepdim=True) - n_spans)
    start = torch.where(slot < n_spans, spare + slot, n_slots)
    starts_here = mass.new_zeros(*mass.shape[:-1], n_slots + 1).scatter_(-1, start, 1)[..., :n_slots]
    rank = (rest.cumsum(dim=-1) - 1).clamp(min=0)
    span = starts_here.cumsum(dim=-1).gather(-1, rank) - 1
    in_span = rest & (span >= 0)
    last = torch.full_like(mass, -1).scatter_reduce_(-1, span.clamp(min=0), slot.where(in_span, -1), "amax")
    return last.gather(-1, span.clamp(min=0)).where(in_span, -1)


def turned(view: View, carrier: Tensor) -> Tensor:
    """Return keys [L,E,H_kv,C,D] as they would be at the position of their carrier [L,E,H_kv,C]; others unchanged."""
    by = view.positions.gather(-1, carrier.clamp(min=0)) - view.positions
    angle = by[..., None].double() * view.geometry.frequencies().to(by.device)[:, None, None, None]
    bands = as_bands(view.keys.float()) * torch.polar(torch.ones_like(angle), angle).to(torch.complex64)
    moved = torch.cat([bands.real, bands.imag], dim=-1).to(view.keys.dtype)
    return torch.where(((carrier >= 0) & (by != 0))[..., None], moved, view.keys)
