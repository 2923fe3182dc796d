"""LazyEviction: tokens that are likely to be attended to again, judged by their longest pause so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Lt
from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, Tracker, View, Window
from families.scoring.selectors.top_k import TopK

_NO_PAUSE = 1e-5  # what a pause of 0 counts as where it divides


@dataclass(frozen=True)
class Recurrence(Tracker):
    """Remember when each slot last received attention, and its longest pause between two such times.

    These are channels 0 and 1. Times are positions of queries. A slot counts as attended to if any query head of the
    group gives it at least `threshold`. Queries of the prompt count for nothing: its tokens start at its last position
    with a pause of 0. A token that comes later starts at the position before its own with a pause of 0, and its own
    query counts.
    """

    dtype: ClassVar[torch.dtype] = torch.int32

    threshold: float

    @property
    def channels(self) -> int:
        """Two numbers per slot: the last time and the longest pause."""
        return 2

    def observe(self, state: Tensor, weights: Tensor, positions: Tensor, now: Tensor) -> Tensor:
        """Update both numbers of the slots that this query attends to."""
        time = _time(positions, now)
        strongest = weights.unflatten(1, (positions.shape[1], -1)).amax(dim=2)  # [B,H_kv,C]
        active = (strongest >= self.threshold) & (positions >= 0) & (positions <= time)
        last, longest = state.unbind(dim=-1)
        last = torch.where(positions == time, time - 1, last)
        pause = torch.where(active, torch.maximum(longest, time - last), longest)
        return torch.stack([torch.where(active, time, last), pause], dim=-1)

    def observe_prompt(self, state: Tensor, weights: Tensor, positions: Tensor, now: Tensor) -> Tensor:
        """Move the start of the prompt's tokens on to this query."""
        time = _time(positions, now)
        return torch.stack([time, torch.zeros_like(time)], dim=-1)


def _time(positions: Tensor, now: Tensor) -> Tensor:
    """Return the time `now` [B] for every slot of positions [B,H_kv,C], int32."""
    return now[:, None, None].to(torch.int32).expand(positions.shape)


@dataclass(frozen=True)
class LazyEviction(Scoring):
    """Prefer tokens that are likely to be attended to again, judged by their longest pause [zhang2025lazyeviction].

    The score is H1 + H2. t is the time of the newest query, TS the last time that the token was attended to, and MRI its
    longest pause between two such times, in decode steps. H1 = 2 sigmoid(-(1 + (t - TS) / (MRI + 1e-5))) is high while
    the next attention is still to come. H2 favours tokens that are attended to often; it is 0 for a token that never was
    (MRI = 0). As in the released code, prompt queries do not count: tokens of the prompt start with TS at its end. Other
    tokens start with TS one step before they come, so that a token which attends to itself has MRI = 1 at once. In a
    text that is encoded again, all tokens are those of a prompt.

    The released code has one number W: events come at decode steps that are multiples of W, never at the prompt, and the
    newest W tokens are kept. Here the interval is a parameter of the cadence: `every-k` with k = W and without prefill.
    Deviations: the released code keeps another set of tokens for each query head; here a KV head keeps one, and times
    are noted when one query head of its group attends. Tokens that were never attended to score 0 whatever their age;
    the newest of them stay, where the released code leaves the choice to its top-k.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        threshold: attention probability from which on a token counts as attended to; 5e-4 by default. Published are 5e-4
            (Llama) and 1e-4 (Qwen), chosen on test problems for caches of about 1,400 tokens, of which each has 7e-4 on
            average. In a cache of 100 tokens nearly all pass it at every step, and the score is recency: choose a
            threshold for your budget, on other problems than those that you report.
        h2_mode: "released" (the default): H2 = 2 sigmoid(1 - MRI), so that short pauses rank higher, as the text of the
            source says. "literal": H2 = 2 sigmoid(-1 / MRI), the likely meaning of its printed formula, which does the
            opposite. "off": H2 = 0.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: W, the number of newest tokens that are always kept, or a share of the size after an event; 16 by
            default, for small budgets. Published are 27, 52 and 95 (Llama on GSM8K, MATH and AIME) and 101, 175 and 363
            (Qwen).
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "lazy-eviction"
    version: ClassVar[int] = 2  # 2: the released formulas and times
    citation: ClassVar[str | None] = "zhang2025lazyeviction"

    selector: Selector = field(default=TopK())
    threshold: Annotated[float, Ge(0), Lt(1)] = 5e-4
    h2_mode: Literal["released", "literal", "off"] = "released"
    recent: Window = field(default=16, kw_only=True)

    def needs(self) -> Needs:
        """Return the need for times and pauses."""
        return Needs(trackers=(self._tracker,))

    def score(self, view: View) -> Tensor:
        """Return H1 + H2, [L,E,H_kv,C]."""
        last, longest = view.tracked(self._tracker).unbind(dim=-1)
        idle = (view.next_position[None, :, None, None] - 1 - last).float()
        pause = longest.float()
        return 2 * torch.sigmoid(-(1 + idle / (pause + _NO_PAUSE))) + self._rate(pause)

    def _rate(self, pause: Tensor) -> Tensor:
        """Return H2 for pauses [L,E,H_kv,C]."""
        if self.h2_mode == "off":
            return torch.zeros_like(pause)
        exponent = 1 - pause if self.h2_mode == "released" else -1 / pause.clamp(min=1)
        return torch.where(pause > 0, 2 * torch.sigmoid(exponent), 0.0)

    @property
    def _tracker(self) -> Recurrence:
        return Recurrence(self.threshold)
