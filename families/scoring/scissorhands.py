"""Scissorhands: tokens that recent queries seldom gave less than average attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, Tracker, View, Window
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class PivotalHistory(Tracker):
    """Remember for each slot whether each of the last `history` queries gave it at least average attention.

    The answers are bits in a ring: the bit of the query at position p is number p mod `history`, eight bits to a byte.
    """

    dtype: ClassVar[torch.dtype] = torch.uint8

    history: int

    @property
    def channels(self) -> int:
        """Number of bytes per slot; a byte holds the bits of eight queries."""
        return -(-self.history // 8)

    def observe(self, state: Tensor, weights: Tensor, positions: Tensor, now: Tensor) -> Tensor:
        """Write the bit of this query for every slot it sees; it replaces the bit of `history` steps ago."""
        seen = (positions >= 0) & (positions <= now[:, None, None])
        mean = weights.unflatten(1, (positions.shape[1], -1)).mean(dim=2)  # [B,H_kv,C]
        average = 1.0 / seen.sum(dim=-1, keepdim=True).clamp(min=1)
        pivotal = (seen & (mean >= average)).to(torch.uint8)
        place = now % self.history  # [B]
        byte = (place // 8)[:, None, None, None].expand(*positions.shape, 1)
        bit = torch.bitwise_left_shift(torch.ones_like(place), place % 8).to(torch.uint8)[:, None, None]
        others = state.gather(-1, byte)[..., 0] & ~bit
        return state.scatter(-1, byte, (others | bit * pivotal)[..., None])


@dataclass(frozen=True)
class Scissorhands(Scoring):
    """Prefer tokens to which few recent queries gave less than average attention [liu2023scissorhands].

    Of the last `history` queries, u is the number of those that could see the token and gave it less than 1/n of their
    attention, averaged over the query heads that share a KV head; n is the number of tokens that the head held then, the
    query's own included. The tokens of the largest u are dropped: the score is history - u. A new token has had few
    queries that could count against it, so u favours new tokens. Prompt queries count like decoded ones, and the first
    query of a token is its own. The bits take ceil(history / 8) bytes per token and head.

    Published with a cadence that drops half of a full cache at once: use `hysteresis`, whose "auto" slack is the
    largest power of two within half of the budget. Published with more budget in later layers; here the head routing
    decides that. This is not the variant that averages the attention of the last prompt queries without a threshold.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        history: number of newest queries that count; 400 by default, as in a public re-implementation.
        normalise: "count" as published (the default), or "rate": the score is the share of the queries that could see
            the token and gave it at least average attention, so that a new token is judged by its few queries alone.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: number of newest tokens that are always kept; 10 by default, as in the same re-implementation.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "scissorhands"
    citation: ClassVar[str | None] = "liu2023scissorhands"
    comparable: ClassVar[bool] = True
    added: ClassVar[Mapping[str, Any]] = {"normalise": "rate"}

    selector: Selector = field(default=TopK())
    history: Annotated[int, Ge(1)] = 400
    normalise: Literal["count", "rate"] = "count"
    recent: Window = field(default=10, kw_only=True)

    def needs(self) -> Needs:
        """Return the need for the ring of bits."""
        return Needs(trackers=(self._tracker,))

    def score(self, view: View) -> Tensor:
        """Return the history without the queries that count against each token, or the share of those for it, [L,E,H_kv,C]."""
        age = (view.next_position[None, :, None, None] - view.positions).clamp(1, self.history)
        count = n_bits(view.tracked(self._tracker))
        return count / age if self.normalise == "rate" else self.history - (age - count)

    @property
    def _tracker(self) -> PivotalHistory:
        return PivotalHistory(self.history)


def n_bits(packed: Tensor) -> Tensor:
    """Return the number of set bits over the last dimension of a uint8 tensor [...,n], float32 [...]."""
    pairs = packed - (torch.bitwise_right_shift(packed, 1) & 0x55)
    fours = (pairs & 0x33) + (torch.bitwise_right_shift(pairs, 2) & 0x33)
    bytes_ = (fours + torch.bitwise_right_shift(fours, 4)) & 0x0F
    return bytes_.sum(dim=-1, dtype=torch.int32).float()
