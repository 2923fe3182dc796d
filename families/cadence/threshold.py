"""Eviction of whatever scores below a threshold once it has left a window: the size of the cache follows from the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from designspace.axes import Budget, Cadence, IntOrTensor, Schedule

_NO_BOUND = 2**62  # tokens: no event cuts to a size


@dataclass(frozen=True)
class ThresholdSchedule(Schedule):
    """Compress right after the prompt, then at every step that is a multiple of `max_growth`. There is no size to cut to."""

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether this step is one at which tokens are judged."""
        due: IntOrTensor = step % self.max_growth == 0
        return due

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the whole text: it may be that every token passes."""
        return n_prompt + n_steps


@dataclass(frozen=True)
class Threshold(Cadence):
    """Evict every token that has left the window and scores below tau, in each layer and KV head [lancucki2025dms].

    After the prompt and after every k-th decode step a head keeps its protected tokens and those whose score is at least tau,
    whatever their number. The window is the scoring's `recent`: so a token is judged by its score alone once `recent` newer
    ones have come, and at most k - 1 steps later. Its `sinks`, and with `protect: prompt` the prompt, are kept whatever they
    score. Where scores are given to a token once and for all (gates), one that has passed stays until the end of the text, as
    in the sources. Other scores change, and then a token that has passed is judged again at each event. In kvpress each
    token is judged once.

    The cache has as many tokens as pass. So it has no budget: an arm runs once, without one, whatever the sweep's budgets;
    the ledger says what it held at every step, and tables show the mean, unmatched. No study compares it; declare several
    values of tau to see accuracy against the measured cache. Each head has slots for the longest text, as all of its
    tokens might pass: nothing is ever evicted for want of room, and less memory is held, not allocated. Head routing,
    which divides a size, must be `uniform` or `kv-sharer`, and the selector, which chooses within one, `top-k`.

    Attributes:
        tau: the least score that a token outside the window keeps its slot with, on the scale of the scoring; -4 by
            default, as in kvpress' example of `kvzap`, a logarithm.
        k: decode steps between events; 1 by default, as released.
    """

    kind: ClassVar[str] = "threshold"
    citation: ClassVar[str | None] = "lancucki2025dms"
    bounded: ClassVar[bool] = False
    is_matched: ClassVar[bool] = False

    tau: float = -4.0
    k: Annotated[int, Ge(1)] = 1

    @property
    def least_score(self) -> float:
        """Tau."""
        return self.tau

    def schedule(self, budget: Budget) -> ThresholdSchedule:
        """Return the schedule, the same whatever the budget."""
        return ThresholdSchedule(low=_NO_BOUND, high=_NO_BOUND, max_growth=self.k, steady_mean=None)
