"""Rollback: return to the last line and write it again where the model was unsure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le, MinLen

from designspace.axes import Action, Controller, TextCodec
from designspace.errors import DeclarationError
from families.decoding.wrapped_decoding import Wrapping, is_greedy


@dataclass(frozen=True)
class Rollback(Wrapping):
    """At each boundary, return to the one before it if the model was unsure since then, and sample hotter from there.

    Ours. Confidence is taken from the model's own probability of its likeliest token at every step since the last
    checkpoint. Checkpoints are the first token and every token with the boundary in its text; what comes after the last
    boundary is never judged. A second attempt goes on with fresh random numbers at the chooser's temperature times `heat`;
    the next checkpoint brings the temperature back. Charged: the tokens written twice as extra ones, and at every step what
    was cut since the checkpoint, because it must be kept to return.

    Attributes:
        threshold: below this the line is written again; 0 never, which is the chooser alone.
        confidence: the `min` or the `mean` of the probabilities since the last checkpoint.
        boundary: text that ends a line.
        retries: at most so many returns in one generation. per_checkpoint: and so many to one checkpoint.
        heat: what the temperature is multiplied by, at least 1.
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
        """Return a judge of lines, or None where none can be rejected.

        Raises:
            DeclarationError: the model has no token with the boundary in it.
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
