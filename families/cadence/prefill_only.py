"""Compression of the prompt only; generated tokens are never evicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from designspace.axes import Budget, Cadence, IntOrTensor, Schedule
from designspace.errors import InfeasibleBudget
from families.cadence.interval import after_event_size


class PrefillOnlySchedule(Schedule):
    """Compress right after a prompt that has more tokens than the after-event size."""

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether this is the end of the prompt and the prompt is too long."""
        return (step == 0) & (size > self.high)

    def peak_bound(self, n_prompt: int, n_steps: int) -> int:
        """Return the kept prompt and everything generated."""
        return min(self.high, n_prompt) + n_steps


@dataclass(frozen=True)
class PrefillOnly(Cadence):
    """Compress the prompt once and keep every generated token [li2024snapkv].

    This is SnapKV's native form. The event leaves c tokens of the prompt per layer and KV head. A nominal budget is c.
    Mean and peak depend on the length T of the generated text: they are c + (T+1)/2 and c + T. So they are accepted
    only for a known length, which is given as `horizon`. There is one event, so c cannot alternate between two sizes:
    it is rounded down, and the mean is at most half a token below the budget. Texts of another length have another
    mean.

    Whatever the horizon, the cache grows with the text. So there is no steady mean and no steady peak, and reports
    compare measured sizes. A horizon that was taken from finished texts is information that a running system does not
    have.

    Attributes:
        horizon: number of decode steps for which a mean or a peak holds; None (the default) if the length is not known.
        prompt_block: read prompts in blocks of so many tokens and cut after each block, so that no more of a prompt is held
            than c tokens per layer and head and a block; None (the default): a prompt is read whole and cut once.
    """

    kind: ClassVar[str] = "prefill-only"
    citation: ClassVar[str | None] = "li2024snapkv"
    bounded: ClassVar[bool] = False
    cuts_while_decoding: ClassVar[bool] = False
    added: ClassVar[Mapping[str, Any]] = {"prompt_block": None}

    horizon: Annotated[int, Ge(1)] | None = None
    prompt_block: Annotated[int, Ge(1)] | None = None

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule.

        Raises:
            InfeasibleBudget: for a mean or a peak without a horizon, or with one that leaves no token of the prompt;
                the message names the largest feasible horizon.
        """
        if budget.of == "nominal":
            size = budget.tokens
        elif self.horizon is None:
            raise InfeasibleBudget(
                f"cadence 'prefill-only' has no steady mean or peak for an unknown length, got a {budget.of} of "
                f"{budget.tokens} tokens; use {{tokens: {budget.tokens}, of: nominal}}"
            )
        else:
            size = int(after_event_size(self.kind, "horizon", self.horizon, budget))
        return PrefillOnlySchedule(low=size, high=size, max_growth=0, steady_mean=None)
