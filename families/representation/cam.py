"""CaM: the value of an evicted token is spread over the tokens after it, at random by its attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import pad

from designspace.axes import MergeResult, Needs, View
from designspace.axes.randomness import hash_uniform
from designspace.axes.ranking import packing_order
from designspace.axes.slot_store import take_slots
from families.representation.merging import Merging, sums_at


@dataclass(frozen=True)
class CaM(Merging):
    """Spread the value of an evicted token over the kept tokens that follow it, with some probability [zhang2024cam].

    With probability clip(a_e / mean a of the next m kept tokens, 0, 1), v_e / m is added to the value of each of these.
    a is the attention mass received so far, averaged over the query heads that share a KV head. Keys stay as they are.
    The original evicts one token at a time; of several evicted tokens, here each is drawn for by itself, and only kept
    tokens are "next". If fewer than m tokens are kept after it, a token is shared among those, as in kvpress; after the
    last kept token it is dropped. As in the released code, the mean is the divisor; a widespread port divides by the
    maximum.

    The draw is a hash of the row's random stream, layer, head, position, and the position of the event.

    Attributes:
        spread: m, the number of kept tokens that share an evicted value; 32 by default.
    """

    kind: ClassVar[str] = "cam"
    citation: ClassVar[str | None] = "zhang2024cam"

    spread: Annotated[int, Ge(1)] = 32

    def needs(self) -> Needs:
        """Return the need for the running sum of attention probabilities."""
        return Needs(accumulated=True)

    def merge_evicted(self, view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> MergeResult:
        """Return the selector's choice with values that carry a part of the tokens evicted before them.

        scores, keep: [L,E,H_kv,C]. shares: [L,E,H_kv].
        """
        following = keep.cumsum(dim=-1)  # of an evicted token: the rank among kept tokens of the next one
        n_sharing = (shares[..., None] - following).clamp(0, self.spread)
        chance = self._chance(view, keep, following, n_sharing)
        merged = view.valid & ~keep & (n_sharing > 0) & (_draws(view) < chance)
        parts = view.values.float() / n_sharing.clamp(min=1)[..., None]
        starting = sums_at(parts, following.where(merged, -1))  # by the rank of the first token that takes a part
        taken = pad(starting, (0, 0, self.spread - 1, 0)).unfold(-2, self.spread, 1).sum(dim=-1)
        by_slot = take_slots(taken, (following - 1).clamp(min=0))
        values = torch.where(keep[..., None], (view.values.float() + by_slot).to(view.values.dtype), view.values)
        return MergeResult(keep, view.keys, values)

    def _chance(self, view: View, keep: Tensor, following: Tensor, n_sharing: Tensor) -> Tensor:
        """Return the probability [L,E,H_kv,C] that an evicted token is merged."""
        received = view.accumulated.masked_fill(~keep, 0.0).gather(-1, packing_order(keep))
        ahead = pad(received, (0, self.spread)).unfold(-1, self.spread, 1).sum(dim=-1)  # [...,C+1], by rank
        mean = ahead.gather(-1, following) / n_sharing.clamp(min=1)
        return (view.accumulated / mean.clamp(min=1e-30)).clamp(0.0, 1.0)


def _draws(view: View) -> Tensor:
    """Return one number in [0, 1) per (layer, row, head, slot), new at every event."""
    n_layers, _, n_heads, _ = view.positions.shape
    layer = torch.arange(n_layers, device=view.positions.device)[:, None, None, None]
    head = torch.arange(n_heads, device=view.positions.device)[None, None, :, None]
    event = view.next_position[None, :, None, None]
    return hash_uniform(view.streams[None, :, None, None], layer, head, view.positions, event)
