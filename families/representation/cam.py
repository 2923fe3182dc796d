"""CaM: the value of an evicted token is spread over the tokens after it, at random by its attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import pad

from designspace.axes import MergeResult, Needs, View
from designspace.axes.randomness import hash_uniform, slot_coordinates
from designspace.axes.ranking import packing_order
from designspace.axes.slot_store import take_slots
from families.representation.merging import Merging, sums_at


@dataclass(frozen=True)
class CaM(Merging):
    """Spread the value of an evicted token over the kept tokens that follow it, with some probability [zhang2024cam].

    With probability clip(a_e / mean a of the kept tokens after it, 0, 1), v_e / m is added to the values of the next m
    kept tokens, or of as many as there are. a is attention, averaged over the query heads that share a KV head. Keys
    stay as they are. What the event of the prompt evicts is dropped without a merge.

    The authors released two codes that differ. The default is their evaluation code: the attention of the newest query,
    compared with the mean of all that follow, and m = 32. Their streaming code is `spread=16, attention="accumulated",
    compared="next"`. kvpress chooses `attention="accumulated", compared="next", divisor="present", at_prompt=True`.

    Deviations: the evaluation code merges the token after the one that leaves, which is then attended to for another
    step, and never merges the first to leave; here the token that leaves is merged. In the streaming code, a prompt
    longer than the budget leaves attention sums beside their tokens. Of several tokens that are evicted at once, which
    the original never has, each is drawn for by itself, and only kept tokens follow; after the last kept token one is
    dropped. A widespread port divides by the maximum instead of the mean. A text that is encoded again in the course of
    decoding is no prompt.

    The draw is a hash of the row's random stream, layer, head, position, and the position of the event.

    Attributes:
        spread: m, the most kept tokens that share an evicted value; 32 by default.
        attention: "newest" (the default): the probabilities of the newest query. "accumulated": summed over all queries
            so far.
        compared: the kept tokens with whose mean a_e is compared. "all" (the default): all that follow. "next": the
            next m.
        divisor: "spread" (the default): m, though fewer tokens may share, so that a part of the value is lost.
            "present": the number of tokens that share it.
        at_prompt: whether what the event of the prompt evicts is merged too; false by default.
    """

    kind: ClassVar[str] = "cam"
    version: ClassVar[int] = 2
    citation: ClassVar[str | None] = "zhang2024cam"

    spread: Annotated[int, Ge(1)] = 32
    attention: Literal["newest", "accumulated"] = "newest"
    compared: Literal["all", "next"] = "all"
    divisor: Literal["spread", "present"] = "spread"
    at_prompt: bool = False

    def needs(self) -> Needs:
        """Return the need for the attention of the newest query, or of all so far."""
        newest = self.attention == "newest"
        return Needs(last=newest, accumulated=not newest, values=True)

    def merge_evicted(self, view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> MergeResult:
        """Return the selector's choice with values that carry a part of the tokens evicted before them.

        scores, keep: [L,E,H_kv,C]. shares: [L,E,H_kv].
        """
        following = keep.cumsum(dim=-1)  # of an evicted token: the rank among kept tokens of the next one
        n_after = shares[..., None] - following
        n_sharing = n_after.clamp(0, self.spread)
        chance = self._chance(view, keep, following, n_after)
        merges = (view.next_position > view.n_prompt_tokens) | self.at_prompt  # [E]
        merged = view.valid & ~keep & (n_sharing > 0) & (_draws(view) < chance) & merges[None, :, None, None]
        among = n_sharing.clamp(min=1)[..., None] if self.divisor == "present" else self.spread
        starting = sums_at(view.values.float() / among, following.where(merged, -1))  # by the first taker's rank
        taken = pad(starting, (0, 0, self.spread - 1, 0)).unfold(-2, self.spread, 1).sum(dim=-1)
        by_slot = take_slots(taken, (following - 1).clamp(min=0))
        values = torch.where(keep[..., None], (view.values.float() + by_slot).to(view.values.dtype), view.values)
        return MergeResult(keep, values=values)

    def _chance(self, view: View, keep: Tensor, following: Tensor, n_after: Tensor) -> Tensor:
        """Return the probability [L,E,H_kv,C] that an evicted token is merged."""
        received = self._attention(view)
        packed = received.masked_fill(~keep, 0.0).gather(-1, packing_order(keep))
        if self.compared == "next":
            ahead = pad(packed, (0, self.spread)).unfold(-1, self.spread, 1).sum(dim=-1)  # [...,C+1], by rank
            n_compared = n_after.clamp(1, self.spread)
        else:
            ahead, n_compared = pad(packed.flip(-1).cumsum(dim=-1).flip(-1), (0, 1)), n_after.clamp(min=1)
        mean = ahead.gather(-1, following) / n_compared
        return (received / mean.clamp(min=1e-30)).clamp(0.0, 1.0)

    def _attention(self, view: View) -> Tensor:
        """Return the attention that counts, [L,E,H_kv,C] float32."""
        if self.attention == "accumulated":
            return view.accumulated
        return view.last.unflatten(2, (-1, view.geometry.group)).mean(dim=3)


def _draws(view: View) -> Tensor:
    """Return one number in [0, 1) per (layer, row, head, slot), new at every event."""
    return hash_uniform(*slot_coordinates(view), view.next_position[None, :, None, None])
