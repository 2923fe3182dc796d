"""Greedy decoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Gt
from torch import Tensor

from designspace.axes import Decoding


@dataclass(frozen=True)
class Greedy(Decoding):
    """Choose the most probable token at every step; ties go to the lowest token id.

    Attributes:
        repetition_penalty: divides the positive logits of tokens that stand in the prompt or the text already, and
            multiplies the negative ones; 1 (the default) changes nothing [keskar2019ctrl].
    """

    kind: ClassVar[str] = "greedy"
    added: ClassVar[Mapping[str, Any]] = {"repetition_penalty": 1.0}

    repetition_penalty: Annotated[float, Gt(0)] = 1.0

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Return the argmax of the logits [B,V], [B] int64."""
        return logits.argmax(dim=-1)

    def draws(self, max_new_tokens: int) -> int:
        """Return 0, because no random number is used."""
        return 0
