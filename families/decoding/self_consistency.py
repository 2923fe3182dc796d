"""Self-consistency: several samples of each problem, of which the commonest answer is returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from annotated_types import Ge

from designspace.axes import Budget, Generation
from designspace.axes.voting import Matched, combine
from designspace.errors import DeclarationError, InfeasibleBudget
from families.decoding.wrapped_decoding import Wrapping, is_greedy


@dataclass(frozen=True)
class SelfConsistency(Wrapping):
    """Sample each problem `samples` times and take a majority over the answers [wang2023selfconsistency].

    `designspace.axes.voting` says how votes are counted and what they cost. Every sample has a cache of its own, the prompt's
    included: none is shared.

    Attributes:
        samples: how many; 1 is the chooser alone.
        matched: `peak`: all run at the same time and share the budget, each having the whole tokens of its part; `integral`:
            one after the other, each at the full budget, at `samples` times the cost.
    """

    kind: ClassVar[str] = "self-consistency"
    citation: ClassVar[str | None] = "wang2023selfconsistency"

    samples: Annotated[int, Ge(1)] = 8
    matched: Matched = "peak"

    def __post_init__(self) -> None:
        """Check that samples can differ.

        Raises:
            DeclarationError: the chooser is greedy, so all samples would be the same.
        """
        super().__post_init__()
        if self.samples > 1 and is_greedy(self.decoding):
            raise DeclarationError(
                "decoding inside 'self-consistency' must draw random numbers, or all samples are the same, "
                "got decoding='greedy'"
            )

    def sample_budget(self, budget: Budget) -> Budget:
        """Return what one sample may hold.

        Raises:
            InfeasibleBudget: less than a token.
        """
        if self.matched == "integral":
            return budget
        if budget.tokens < self.samples:
            raise InfeasibleBudget(f"{self.samples} samples cannot share a budget of {budget} tokens")
        return replace(budget, tokens=budget.tokens // self.samples)

    def combine(self, problem_id: str, generations: Sequence[Generation], answers: Sequence[str | None]) -> Generation:
        """Return the sample whose answer wins the vote, with the account of all."""
        return combine(problem_id, generations, answers, self.matched)
