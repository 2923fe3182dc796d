"""Compression when the cache has grown by a fixed number of tokens above its size after the last compression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge
from torch import Tensor

from designspace.axes import Budget, Cadence, IntOrTensor, Schedule, split_half
from families.cadence.interval import after_event_size, resolve_interval
from families.cadence.prompt_cuts import check_prompt_block


@dataclass(frozen=True)
class HysteresisSchedule(Schedule):
    """Compress when the attended size has reached the size after the last event plus the slack."""

    prefill: bool

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether the row is full. The first event may come right after a long prompt."""
        last = n_events - 1
        last = last.clamp(min=0) if isinstance(last, Tensor) else max(last, 0)
        due: IntOrTensor = size >= self.target(last) + self.max_growth
        return due if self.prefill else due & (step > 0)

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the largest attended size; an uncut prompt is attended with the first new token."""
        settled = self.high + self.max_growth
        return min(settled if self.prefill else max(settled, n_prompt + 1), n_prompt + n_steps)


@dataclass(frozen=True)
class Hysteresis(Cadence):
    """Compress when the cache has grown by `slack` tokens since the last compression [triattention2026].

    An event leaves c tokens per layer and KV head. The mean attended size is c + (slack+1)/2 tokens and the peak c +
    slack; c follows from the budget. This is the staging buffer of R-KV and, with prefill off, the "slack" trigger of
    TriAttention: at a size of 64 and a slack of 128, a prompt of 150 tokens stays whole until 192 are held. Unlike
    `every-k` it counts tokens in the cache, not decode steps.

    Attributes:
        slack: growth between events in tokens, or "auto" (the default): chosen as k of `every-k`.
        longest: upper bound for "auto" in tokens, the published slack; 128 by default.
        prefill: the first event may come right after the prompt (the default); if off, it comes after the first decode
            step at the earliest.
        prompt_block: read prompts in blocks of so many tokens and cut after each block once the prompt is long enough for it,
            so that no more of it is held than c + slack tokens per layer and head and a block; None (the default): a prompt
            is read whole and cut once.
    """

    kind: ClassVar[str] = "hysteresis"
    citation: ClassVar[str | None] = "triattention2026"
    added: ClassVar[Mapping[str, Any]] = {"prompt_block": None}

    slack: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    longest: Annotated[int, Ge(1)] = 128
    prefill: bool = True
    prompt_block: Annotated[int, Ge(1)] | None = None

    def __post_init__(self) -> None:
        """Check that prompts are cut at all if they are cut block by block."""
        super().__post_init__()
        check_prompt_block(self.prefill, self.prompt_block)

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule; half-integer sizes alternate between events so that the mean is exact."""
        slack = resolve_interval(self.slack, self.longest, budget)
        size = after_event_size(self.kind, "slack", slack, budget)
        low, high = split_half(size)
        return HysteresisSchedule(
            low=low, high=high, max_growth=slack, steady_mean=size + (slack + 1) / 2, prefill=self.prefill
        )
