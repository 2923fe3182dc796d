"""Compression after every decode step: the cache stays at its budget, and one token leaves per step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from designspace.axes import Budget, Cadence, Schedule
from designspace.errors import InfeasibleBudget
from families.cadence.every_k import EveryKSchedule
from families.cadence.prompt_cuts import check_prompt_block


@dataclass(frozen=True)
class EveryStep(Cadence):
    """Compress after every decode step, so that one token leaves for each new one.

    An event leaves c tokens per layer and KV head. In the steady state every step attends to c + 1 tokens. For a budget
    of b tokens c is b - 1 (mean or peak) or b (nominal).

    Attributes:
        prefill: compress right after the prompt too (the default); if off, the first compression comes after the first
            decode step.
        prompt_block: read prompts in blocks of so many tokens and cut after each block, so that no more of a prompt is held
            than c tokens per layer and head and a block; None (the default): a prompt is read whole and cut once.
    """

    kind: ClassVar[str] = "every-step"
    added: ClassVar[Mapping[str, Any]] = {"prompt_block": None}

    prefill: bool = True
    prompt_block: Annotated[int, Ge(1)] | None = None

    def __post_init__(self) -> None:
        """Check that prompts are cut at all if they are cut block by block."""
        super().__post_init__()
        check_prompt_block(self.prefill, self.prompt_block)

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule: c = b - 1 for a mean or a peak of b, c = b for a nominal b."""
        target = budget.tokens if budget.of == "nominal" else budget.tokens - 1
        if target < 1:
            raise InfeasibleBudget(
                f"cadence 'every-step' needs a {budget.of} budget of at least 2 tokens, got {budget.tokens}"
            )
        return EveryKSchedule(
            low=target, high=target, max_growth=1, steady_mean=target + 1.0, interval=1, prefill=self.prefill
        )
