"""What decodings share that add something around another one: the chooser inside does the choosing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from designspace.axes import Composition, Decoding, Geometry, Needs
from designspace.errors import DeclarationError
from families.decoding.greedy import Greedy


@dataclass(frozen=True)
class Wrapping(Decoding):
    """A decoding around a chooser.

    Attributes:
        decoding: what chooses the tokens; None: as the sweep's generation settings say. It must neither steer nor sample
            several times itself; one that only adds to the prompt may stand here.
    """

    decoding: Decoding | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check the chooser.

        Raises:
            DeclarationError: it steers, or makes several samples.
        """
        super().__post_init__()
        inner = self.decoding
        if inner is not None and (inner.samples != 1 or type(inner).controller is not Decoding.controller):
            raise DeclarationError(
                f"decoding inside {self.kind!r} must be a plain chooser, with one sample and no steering of its own, "
                f"got decoding={inner.kind!r}"
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

    def with_default_chooser(self, default: Decoding) -> Decoding:
        """Return this decoding with `default` as the innermost chooser, if that was left out."""
        inner = default if self.decoding is None else self.decoding.with_default_chooser(default)
        return self if inner is self.decoding else replace(self, decoding=inner)

    def draws(self, max_new_tokens: int) -> int:
        """Return what the chooser uses."""
        return max_new_tokens if self.decoding is None else self.decoding.draws(max_new_tokens)

    def format_prompt(self, prompt: str) -> str:
        """Return what the chooser makes of the prompt."""
        return prompt if self.decoding is None else self.decoding.format_prompt(prompt)

    def needs(self) -> Needs:
        """Return what the chooser needs."""
        return Needs() if self.decoding is None else self.decoding.needs()

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Return why the chooser cannot work on a model of this geometry, or None."""
        return None if self.decoding is None else self.decoding.unsupported_reason(geometry)

    def conflict_reason(self, mechanism: Composition) -> str | None:
        """Return the chooser's objection to a composition, or None."""
        return None if self.decoding is None else self.decoding.conflict_reason(mechanism)


def is_greedy(decoding: Decoding | None) -> bool:
    """Return whether a second attempt would give the same text: the innermost chooser draws no random numbers."""
    while isinstance(decoding, Wrapping):
        decoding = decoding.decoding
    return isinstance(decoding, Greedy)
