"""Self-consistency: several samples of each problem, and the most common answer is returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from designspace.axes import Budget, Generation
from designspace.axes.voting import Matched, combine
from designspace.errors import DeclarationError, InfeasibleBudget
from families.decoding.wrapped_decoding import Wrapping, is_greedy


@dataclass(frozen=True)
class SelfConsistency(Wrapping):
    """Sample each problem several times and return the most common answer [wang2023selfconsistency].

    `designspace.axes.voting` defines how votes are counted and what they cost. Each sample has a cache of its own,
    including the prompt: no cache is shared.

    Attributes:
        samples: number of samples per problem; 8 by default. 1 is the chooser alone.
        matched: "peak" (the default): all samples run at the same time and share the budget, each with a whole number
            of tokens. "integral": one after the other, each with the full budget, at `samples` times the cost.
        decoding: the chooser, the decoding that chooses the tokens; None (the default): the one of the sweep's
            generation settings.
    """

    kind: ClassVar[str] = "self-consistency"
    citation: ClassVar[str | None] = "wang2023selfconsistency"

    samples: Annotated[int, Ge(1)] = 8
    matched: Matched = "peak"

    def __post_init__(self) -> None:
        """Check that the samples can differ.

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
        """Return the budget of one sample.

        Raises:
            InfeasibleBudget: it is less than one token.
        """
        if self.matched == "integral":
            return budget
        if min(budget.trace, budget.prompt or budget.trace) < self.samples:
            raise InfeasibleBudget(f"{self.samples} samples cannot share a budget of {budget} tokens")
        return budget.share(self.samples)

    def combine(self, problem_id: str, generations: Sequence[Generation], answers: Sequence[str | None]) -> Generation:
        """Return the sample whose answer wins the vote, with the costs of all samples."""
        return combine(problem_id, generations, answers, self.matched)
