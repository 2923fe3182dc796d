"""Rollback: a line is written again if the model was unsure of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le, MinLen

from designspace.axes import Action, Controller, TextCodec
from designspace.errors import DeclarationError
from families.decoding.wrapped_decoding import Wrapping, is_greedy


@dataclass(frozen=True)
class Rollback(Wrapping):
    """Return to the last checkpoint and write the line again if the model was unsure of it.

    This method is ours. Checkpoints are the first token and every token that contains the boundary. At each boundary
    the confidence is computed from the model's own probability of its most probable token at every step since the last
    checkpoint. Text after the last boundary is never judged. A second attempt uses fresh random numbers, at the
    chooser's temperature times `heat`; the next checkpoint restores the temperature. Charged are the tokens written
    twice, as extra ones, and at every step the tokens evicted since the checkpoint, because they must be kept for a
    return.

    Attributes:
        threshold: confidence below which the line is written again, in [0, 1]; 0.3 by default. 0 is the chooser alone.
        confidence: "min" (the default) or "mean" of the probabilities since the last checkpoint.
        boundary: text that ends a line; a line end by default.
        retries: largest number of returns in one generation; 4 by default.
        per_checkpoint: largest number of returns to the same checkpoint; 1 by default.
        heat: factor of the temperature in a second attempt, at least 1; 1.5 by default.
        decoding: the chooser, the decoding that chooses the tokens; None (the default): the one of the sweep's
            generation settings.
    """

    kind: ClassVar[str] = "rollback"

    threshold: Annotated[float, Ge(0), Le(1)] = 0.3
    confidence: Literal["min", "mean"] = "min"
    boundary: Annotated[str, MinLen(1)] = "\n"
    retries: Annotated[int, Ge(0)] = 4
    per_checkpoint: Annotated[int, Ge(0)] = 1
    heat: Annotated[float, Ge(1)] = 1.5

    def __post_init__(self) -> None:
        """Check that a second attempt can differ from the first.

        Raises:
            DeclarationError: the chooser is greedy, so it would write the same line again.
        """
        super().__post_init__()
        if self._acts and is_greedy(self.decoding):
            raise DeclarationError(
                "decoding inside 'rollback' must draw random numbers, or every retry is the same, got decoding='greedy'"
            )

    @property
    def _acts(self) -> bool:
        return self.threshold > 0 and self.retries > 0 and self.per_checkpoint > 0

    def draws(self, max_new_tokens: int) -> int:
        """Return room for every retry to write the whole text again."""
        return super().draws(max_new_tokens) * (1 + self.retries)

    def controller(self, text: TextCodec) -> Controller | None:
        """Return a controller that judges lines, or None if no line can be rejected.

        Raises:
            DeclarationError: no token of the model contains the boundary.
        """
        if not self._acts:
            return None
        boundaries = text.ids_with(self.boundary)
        if not boundaries:
            raise DeclarationError(f"boundary must be part of a token of the model, got boundary={self.boundary!r}")
        return _Judge(self, boundaries)


class _Judge(Controller):
    def __init__(self, rule: Rollback, boundaries: frozenset[int]) -> None:
        self.rule, self.boundaries = rule, boundaries
        self.has_begun = False
        self.n_retries = self.n_retries_here = 0
        self.seen: list[float] = []

    def on_token(self, token: int, probability: float) -> Action:
        """Judge the line when it ends."""
        if not self.has_begun:
            self.has_begun = True
            return Action((token,), checkpoint=True)
        self.seen.append(probability)
        if token not in self.boundaries:
            return Action((token,))
        is_rejected = self._confidence() < self.rule.threshold and self._may_retry()
        self.seen.clear()
        if is_rejected:
            self.n_retries += 1
            self.n_retries_here += 1
            return Action((token,), rollback=True, temperature_scale=self.rule.heat)
        self.n_retries_here = 0
        return Action((token,), checkpoint=True, temperature_scale=1.0)

    def _may_retry(self) -> bool:
        return self.n_retries < self.rule.retries and self.n_retries_here < self.rule.per_checkpoint

    def _confidence(self) -> float:
        return min(self.seen) if self.rule.confidence == "min" else sum(self.seen) / len(self.seen)
