"""Scissorhands: tokens that were often above average in a recent history stay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, Tracker, View
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class PivotalHistory(Tracker):
    """A ring of bits per slot: was its attention at least average in each of the last `history` queries?

    The bit of the query at position p is number p mod `history`, eight to a byte.
    """

    dtype: ClassVar[torch.dtype] = torch.uint8

    history: int

    @property
    def channels(self) -> int:
        """One byte for eight queries."""
        return -(-self.history // 8)

    def observe(self, state: Tensor, weights: Tensor, positions: Tensor, now: Tensor) -> Tensor:
        """Write this query's bit of every slot it sees; the bit of the query `history` steps ago is lost."""
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
    """How often a token's attention was at least average while it could be: c / age [liu2023scissorhands].

    c counts the last `history` queries whose attention to the token, group mean, was at least 1/n, n the number of tokens
    that the head held then, the query's own included. age is the number of those queries that could see the token: a
    newer token is judged by fewer. The source counts the complement and drops the largest, which is the same order. The
    query's own token counts: a token's first row is its own. Prompt queries count like decoded ones. Bits take
    ceil(history / 8) bytes per token and head.

    Published with a bulk cadence that drops half of a full cache at once: `hysteresis`, whose "auto" slack is the largest
    power of two within half the budget (and its `longest`). Published with more budget in later layers; here the head
    routing decides. Not the variant that averages the last prompt queries' attention, without a threshold.

    Attributes:
        history: queries that count. recent: protected recent tokens. Both as in a public re-implementation.
    """

    kind: ClassVar[str] = "scissorhands"
    citation: ClassVar[str | None] = "liu2023scissorhands"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())
    history: Annotated[int, Ge(1)] = 400
    recent: int = field(default=10, kw_only=True)

    def needs(self) -> Needs:
        """Return the ring of bits."""
        return Needs(trackers=(self._tracker,))

    def score(self, view: View) -> Tensor:
        """Return the share of queries in which each token was pivotal, [L,E,H_kv,C]."""
        age = view.next_position[None, :, None, None] - view.positions
        return n_bits(view.tracked(self._tracker)) / age.clamp(1, self.history)

    @property
    def _tracker(self) -> PivotalHistory:
        return PivotalHistory(self.history)


def n_bits(packed: Tensor) -> Tensor:
    """Return how many bits are set over the last dimension of a uint8 tensor, float32."""
    pairs = packed - (torch.bitwise_right_shift(packed, 1) & 0x55)
    fours = (pairs & 0x33) + (torch.bitwise_right_shift(pairs, 2) & 0x33)
    bytes_ = (fours + torch.bitwise_right_shift(fours, 4)) & 0x0F
    return bytes_.sum(dim=-1, dtype=torch.int32).float()
