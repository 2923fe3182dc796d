"""Scissorhands: tokens whose attention was often at least average among recent queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

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
    """Prefer tokens whose attention was at least average for a large share of recent queries [liu2023scissorhands].

    The score is c / age. c counts those of the last `history` queries that gave the token at least 1/n of their
    attention, averaged over the query heads that share a KV head; n is the number of tokens that the head held then,
    the query's own included. age is the number of those queries that could see the token, so a newer token is judged by
    fewer queries. The source counts the complement and drops the largest, which gives the same order. Prompt queries
    count like decoded ones, and the first query of a token is its own. The bits take ceil(history / 8) bytes per token
    and head.

    Published with a cadence that drops half of a full cache at once: use `hysteresis`, whose "auto" slack is the
    largest power of two within half of the budget. Published with more budget in later layers; here the head routing
    decides that. This is not the variant that averages the attention of the last prompt queries without a threshold.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        history: number of newest queries that count; 400 by default, as in a public re-implementation.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: number of newest tokens that are always kept; 10 by default, as in the same re-implementation.
    """

    kind: ClassVar[str] = "scissorhands"
    citation: ClassVar[str | None] = "liu2023scissorhands"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())
    history: Annotated[int, Ge(1)] = 400
    recent: Window = field(default=10, kw_only=True)

    def needs(self) -> Needs:
        """Return the need for the ring of bits."""
        return Needs(trackers=(self._tracker,))

    def score(self, view: View) -> Tensor:
        """Return the share of queries that gave each token at least average attention, [L,E,H_kv,C]."""
        age = view.next_position[None, :, None, None] - view.positions
        return n_bits(view.tracked(self._tracker)) / age.clamp(1, self.history)

    @property
    def _tracker(self) -> PivotalHistory:
        return PivotalHistory(self.history)


def n_bits(packed: Tensor) -> Tensor:
    """Return the number of set bits over the last dimension of a uint8 tensor [...,n], float32 [...]."""
    pairs = packed - (torch.bitwise_right_shift(packed, 1) & 0x55)
    fours = (pairs & 0x33) + (torch.bitwise_right_shift(pairs, 2) & 0x33)
    bytes_ = (fours + torch.bitwise_right_shift(fours, 4)) & 0x0F
    return bytes_.sum(dim=-1, dtype=torch.int32).float()
