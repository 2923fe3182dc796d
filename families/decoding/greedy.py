"""Greedy decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from designspace.axes import Decoding


@dataclass(frozen=True)
class Greedy(Decoding):
    """Choose the most probable token at every step; ties go to the lowest token id.

    There are no parameters.
    """

    kind: ClassVar[str] = "greedy"

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Return the argmax of the logits [B,V], [B] int64."""
        return logits.argmax(dim=-1)

    def draws(self, max_new_tokens: int) -> int:
        """Return 0, because no random number is used."""
        return 0
