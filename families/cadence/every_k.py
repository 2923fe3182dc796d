"""Compression every k decode steps: block-wise, lagged eviction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from designspace.axes import Budget, Cadence, IntOrTensor, Schedule, split_half
from families.cadence.interval import after_event_size, resolve_interval
from families.cadence.prompt_cuts import check_prompt_block


@dataclass(frozen=True)
class EveryKSchedule(Schedule):
    """Compress when the row's own step count is a multiple of `interval` and there is something to evict."""

    interval: int
    prefill: bool

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether the row is compressed at this step. The count starts again with each sample."""
        due: IntOrTensor = (step % self.interval == 0) & (size > self.target(n_events))
        return due if self.prefill else due & (step > 0)

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the largest attended size; an uncut prompt may exceed the steady peak until the first event."""
        settled = self.high if self.prefill else max(self.high, n_prompt)
        return min(settled + self.max_growth, n_prompt + n_steps)


@dataclass(frozen=True)
class EveryK(Cadence):
    """Compress every k decode steps to a fixed number of tokens [cai2025rkv].

    An event leaves c tokens per layer and KV head. The mean attended size is c + (k+1)/2 tokens and the peak c + k; c
    follows from the budget. If the mean asks for half a token, c alternates between two sizes one apart, so that the
    mean is exact.

    Attributes:
        k: interval in decode steps, or "auto" (the default): the largest power of two that is at most half of the
            budget and at most `longest`; under a nominal budget, `longest`.
        longest: upper bound for "auto" in decode steps, the published interval; 128 by default.
        prefill: compress right after the prompt too, if it has more than c tokens; on by default.
        prompt_block: read prompts in blocks of so many tokens and cut after each block, so that no more of a prompt is held
            than c tokens per layer and head and a block; None (the default): a prompt is read whole and cut once.
    """

    kind: ClassVar[str] = "every-k"
    citation: ClassVar[str | None] = "cai2025rkv"
    added: ClassVar[Mapping[str, Any]] = {"prompt_block": None}

    k: Annotated[int, Ge(1)] | Literal["auto"] = "auto"
    longest: Annotated[int, Ge(1)] = 128
    prefill: bool = True
    prompt_block: Annotated[int, Ge(1)] | None = None

    def __post_init__(self) -> None:
        """Check that prompts are cut at all if they are cut block by block."""
        super().__post_init__()
        check_prompt_block(self.prefill, self.prompt_block)

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule; half-integer sizes alternate between events so that the mean is exact."""
        k = resolve_interval(self.k, self.longest, budget)
        size = after_event_size(self.kind, "k", k, budget)
        low, high = split_half(size)
        return EveryKSchedule(
            low=low, high=high, max_growth=k, steady_mean=size + (k + 1) / 2, interval=k, prefill=self.prefill
        )
