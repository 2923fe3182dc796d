"""Decodings that add something to another decoding, the chooser, which chooses the tokens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from designspace.axes import Composition, Decoding, Geometry, Needs
from designspace.errors import DeclarationError
from families.decoding.greedy import Greedy


@dataclass(frozen=True)
class Wrapping(Decoding):
    """A decoding around a chooser, another decoding that chooses the tokens.

    Attributes:
        decoding: the chooser; None (the default): the one of the sweep's generation settings. It must neither steer the
            text nor make several samples itself; a decoding that only adds to the prompt is allowed.
    """

    decoding: Decoding | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check the chooser.

        Raises:
            DeclarationError: the chooser steers the text, makes several samples, or is given a text.
        """
        super().__post_init__()
        inner = self.decoding
        if inner is not None and (inner.samples != 1 or inner.steers):
            raise DeclarationError(
                f"decoding inside {self.kind!r} must be a plain chooser, with one sample and no steering of its own, "
                f"got decoding={inner.kind!r}"
            )
        if inner is not None and inner.scores_tokens:
            raise DeclarationError(
                f"decoding inside {self.kind!r} must choose the text, got decoding={inner.kind!r}, which is given one"
            )

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Return the chooser's tokens [B] for logits [B,V] and uniforms [B].

        Raises:
            DeclarationError: the chooser was left out and never filled in.
        """
        if self.decoding is None:
            raise DeclarationError(
                f"decoding {self.kind!r} needs a chooser, got decoding=None (see `with_default_chooser`)"
            )
        return self.decoding.choose(logits, uniforms)

    @property
    def repetition_penalty(self) -> float:
        """Return the chooser's."""
        return 1.0 if self.decoding is None else self.decoding.repetition_penalty

    def with_default_chooser(self, default: Decoding) -> Decoding:
        """Return this decoding with `default` as the innermost chooser, if that was left out."""
        inner = default if self.decoding is None else self.decoding.with_default_chooser(default)
        return self if inner is self.decoding else replace(self, decoding=inner)

    def draws(self, max_new_tokens: int) -> int:
        """Return the number of random numbers that the chooser may use."""
        return max_new_tokens if self.decoding is None else self.decoding.draws(max_new_tokens)

    def format_prompt(self, prompt: str) -> str:
        """Return the prompt as the chooser formats it."""
        return prompt if self.decoding is None else self.decoding.format_prompt(prompt)

    def needs(self) -> Needs:
        """Return the needs of the chooser."""
        return Needs() if self.decoding is None else self.decoding.needs()

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Return why the chooser cannot work on a model of this geometry, or None."""
        return None if self.decoding is None else self.decoding.unsupported_reason(geometry)

    def conflict_reason(self, mechanism: Composition) -> str | None:
        """Return why the chooser has no meaning in this composition, or None."""
        return None if self.decoding is None else self.decoding.conflict_reason(mechanism)


def is_greedy(decoding: Decoding | None) -> bool:
    """Return whether a second attempt would give the same text: the innermost chooser draws no random numbers."""
    while isinstance(decoding, Wrapping):
        decoding = decoding.decoding
    return isinstance(decoding, Greedy)
