"""LazyEviction: tokens that are due to be attended to again, by their longest pause so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, Tracker, View
from designspace.errors import DeclarationError
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class Recurrence(Tracker):
    """When each slot was last attended to, and its longest pause between two such times (channels 0 and 1).

    Times are positions of queries. A slot is attended to where any query head of the group gives it more than `threshold`.
    Its own arrival counts as such a time, whatever its first row says.
    """

    dtype: ClassVar[torch.dtype] = torch.int32

    threshold: float

    @property
    def channels(self) -> int:
        """Last time and longest pause."""
        return 2

    def observe(self, state: Tensor, weights: Tensor, positions: Tensor, now: Tensor) -> Tensor:
        """Note who is attended to, and how long that had not been so."""
        time = now[:, None, None].to(torch.int32).expand(positions.shape)
        strongest = weights.unflatten(1, (positions.shape[1], -1)).amax(dim=2)  # [B,H_kv,C]
        active = (strongest > self.threshold) & (positions >= 0) & (positions <= time)
        last, longest = state.unbind(dim=-1)
        arrived = positions == time
        paused = torch.where(active & ~arrived, torch.maximum(longest, time - last), longest)
        return torch.stack([torch.where(active | arrived, time, last), paused], dim=-1)


@dataclass(frozen=True)
class LazyEviction(Scoring):
    """H1 + H2: is the token's next attention still to come, and is it one that comes often? [zhang2025lazyeviction].

    With t the newest query's position, TS the last time a token was attended to and MRI its longest pause,
    H1 = 2 sigmoid(-(t - TS) / MRI), and H2 as `h2_mode` says. A token that has had no second time yet (MRI = 0) has H1
    alone: 1 if attended to now, else 0. The source leaves open what stands before the first time: here a token's arrival is
    its first. Thresholds are per query head, times per KV head: one head of the group suffices.

    Published with an event every W steps and W protected recent tokens: cadence `every-k`, whose interval is a number of
    its own here, as `recent` must fit into small budgets.

    Attributes:
        threshold: attention above which a token counts as attended to; published 5e-4 (Llama) and 1e-4 (Qwen). The numbers
            were chosen on test problems; choose on others.
        h2_mode: "decreasing": 2 sigmoid(-MRI / W), so that short pauses rank higher, as the text of the source has it;
            "literal": 2 sigmoid(-1 / MRI), what its formula most likely says, which does the opposite; "off": no H2.
        recent: W, protected. Published: the 80th percentile of MRI on a sample, about 175 on MATH-500.
    """

    kind: ClassVar[str] = "lazy-eviction"
    citation: ClassVar[str | None] = "zhang2025lazyeviction"

    selector: Selector = field(default=TopK())
    threshold: Annotated[float, Ge(0), Lt(1)] = 5e-4
    h2_mode: Literal["decreasing", "literal", "off"] = "decreasing"
    recent: int = field(default=16, kw_only=True)

    def __post_init__(self) -> None:
        """Check that the second term has a window to divide by."""
        super().__post_init__()
        if self.h2_mode == "decreasing" and self.recent < 1:
            raise DeclarationError(f"recent must be at least 1 where H2 divides by it, got recent={self.recent}")

    def needs(self) -> Needs:
        """Return times and pauses."""
        return Needs(trackers=(self._tracker,))

    def score(self, view: View) -> Tensor:
        """Return H1 + H2, [L,E,H_kv,C]."""
        last, longest = view.tracked(self._tracker).unbind(dim=-1)
        idle = (view.next_position[None, :, None, None] - 1 - last).float()
        pause = longest.float().clamp(min=1.0)
        recurring = 2 * torch.sigmoid(-idle / pause) + self._rate(pause)
        return torch.where(longest > 0, recurring, (idle == 0).float())

    def _rate(self, pause: Tensor) -> Tensor:
        """Return H2 of pauses [L,E,H_kv,C]."""
        if self.h2_mode == "off":
            return torch.zeros_like(pause)
        return 2 * torch.sigmoid(-pause / self.recent if self.h2_mode == "decreasing" else -1 / pause)

    @property
    def _tracker(self) -> Recurrence:
        return Recurrence(self.threshold)
