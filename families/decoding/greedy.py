"""Greedy decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from designspace.axes import Decoding


@dataclass(frozen=True)
class Greedy(Decoding):
    """The most probable token; ties go to the lowest id."""

    kind: ClassVar[str] = "greedy"

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Return the argmax of [B,V]."""
        return logits.argmax(dim=-1)

    def draws(self, max_new_tokens: int) -> int:
        """Return 0: nothing is left to chance."""
        return 0
