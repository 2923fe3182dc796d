"""LazyEviction: tokens that are likely to be attended to again, judged by their longest pause so far."""

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
    """Remember when each slot last received attention, and its longest pause between two such times.

    These are channels 0 and 1. Times are positions of queries. A slot counts as attended to if any query head of the
    group gives it more than `threshold`. The arrival of a token counts as such a time, whatever its first attention row
    is.
    """

    dtype: ClassVar[torch.dtype] = torch.int32

    threshold: float

    @property
    def channels(self) -> int:
        """Two numbers per slot: the last time and the longest pause."""
        return 2

    def observe(self, state: Tensor, weights: Tensor, positions: Tensor, now: Tensor) -> Tensor:
        """Update both numbers of the slots that this query attends to."""
        time = now[:, None, None].to(torch.int32).expand(positions.shape)
        strongest = weights.unflatten(1, (positions.shape[1], -1)).amax(dim=2)  # [B,H_kv,C]
        active = (strongest > self.threshold) & (positions >= 0) & (positions <= time)
        last, longest = state.unbind(dim=-1)
        arrived = positions == time
        paused = torch.where(active & ~arrived, torch.maximum(longest, time - last), longest)
        return torch.stack([torch.where(active | arrived, time, last), paused], dim=-1)


@dataclass(frozen=True)
class LazyEviction(Scoring):
    """Prefer tokens that are likely to be attended to again, judged by their longest pause [zhang2025lazyeviction].

    The score is H1 + H2. t is the position of the newest query, TS the last time that the token was attended to, and
    MRI its longest pause between two such times. H1 = 2 sigmoid(-(t - TS) / MRI) is high while the next attention is
    still to come. H2, which depends on `h2_mode`, is meant to favour tokens that are attended to often. A token that
    was attended to only once (MRI = 0) has H1 alone: 1 if that is now, else 0. The source does not say what precedes
    the first time; here the arrival of a token is its first. Thresholds apply to query heads, times to KV heads: one
    head of the group is enough.

    Published with an event every W steps and W protected recent tokens. Here the interval is a parameter of the cadence
    `every-k`, because `recent` must fit into small budgets.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        threshold: attention probability above which a token counts as attended to; 5e-4 by default. Published are 5e-4
            (Llama) and 1e-4 (Qwen), chosen on test problems; choose yours on other problems.
        h2_mode: "decreasing" (the default): H2 = 2 sigmoid(-MRI / W), so that short pauses rank higher, as the text of
            the source says. "literal": H2 = 2 sigmoid(-1 / MRI), the likely meaning of its formula, which does the
            opposite. "off": H2 = 0.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: W, the number of newest tokens that are always kept; 16 by default. Published: the 80th percentile of
            MRI on a sample, about 175 on MATH-500.
    """

    kind: ClassVar[str] = "lazy-eviction"
    citation: ClassVar[str | None] = "zhang2025lazyeviction"

    selector: Selector = field(default=TopK())
    threshold: Annotated[float, Ge(0), Lt(1)] = 5e-4
    h2_mode: Literal["decreasing", "literal", "off"] = "decreasing"
    recent: int = field(default=16, kw_only=True)

    def __post_init__(self) -> None:
        """Check that H2 has a window to divide by."""
        super().__post_init__()
        if self.h2_mode == "decreasing" and self.recent < 1:
            raise DeclarationError(f"recent must be at least 1 where H2 divides by it, got recent={self.recent}")

    def needs(self) -> Needs:
        """Return the need for times and pauses."""
        return Needs(trackers=(self._tracker,))

    def score(self, view: View) -> Tensor:
        """Return H1 + H2, [L,E,H_kv,C]."""
        last, longest = view.tracked(self._tracker).unbind(dim=-1)
        idle = (view.next_position[None, :, None, None] - 1 - last).float()
        pause = longest.float().clamp(min=1.0)
        recurring = 2 * torch.sigmoid(-idle / pause) + self._rate(pause)
        return torch.where(longest > 0, recurring, (idle == 0).float())

    def _rate(self, pause: Tensor) -> Tensor:
        """Return H2 for pauses [L,E,H_kv,C]."""
        if self.h2_mode == "off":
            return torch.zeros_like(pause)
        return 2 * torch.sigmoid(-pause / self.recent if self.h2_mode == "decreasing" else -1 / pause)

    @property
    def _tracker(self) -> Recurrence:
        return Recurrence(self.threshold)
