"""Temperature and nucleus sampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from designspace.axes import Decoding


@dataclass(frozen=True)
class Sampling(Decoding):
    """Sample from the smallest set of tokens that holds a probability mass of `top_p` [holtzman2020topp].

    Probabilities are sorted and summed up, and the token is the one at which the sum passes the row's uniform number.
    So the same number gives the same token whatever the batch.

    Attributes:
        temperature: divisor of the logits, above 0; 0.6 by default. Use `greedy` for 0.
        top_p: probability mass to sample from, in (0, 1]; 0.95 by default. At least one token always remains.
        top_k: number of most probable tokens to sample from; 0 (the default) for all. The mass of `top_p` is that share of
            their mass together.
        min_p: least probability of a token, as a share of the most probable one's, in [0, 1]; 0 (the default) for none
            [nguyen2025minp].
        repetition_penalty: divides the positive logits of tokens that stand in the prompt or the text already, and
            multiplies the negative ones, before the temperature does; 1 (the default) changes nothing [keskar2019ctrl].
    """

    kind: ClassVar[str] = "sampling"
    citation: ClassVar[str | None] = "holtzman2020topp"
    added: ClassVar[Mapping[str, Any]] = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}

    temperature: Annotated[float, Gt(0)] = 0.6
    top_p: Annotated[float, Gt(0), Le(1)] = 0.95
    top_k: Annotated[int, Ge(0)] = 0
    min_p: Annotated[float, Ge(0), Le(1)] = 0.0
    repetition_penalty: Annotated[float, Gt(0)] = 1.0

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Return one token per row for logits [B,V] and uniforms [B], [B] int64."""
        cumulative, order = self.nucleus(logits)
        drawn = torch.searchsorted(cumulative, uniforms[:, None] * cumulative[:, -1:], right=True)
        return order.gather(-1, drawn.clamp(max=order.shape[-1] - 1))[:, 0]

    def nucleus(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cumulative mass of the kept tokens, most probable first, and their ids; both [B,V]."""
        probabilities, order = torch.softmax(logits.double() / self.temperature, dim=-1).sort(
            dim=-1, descending=True, stable=True
        )
        mass: float | Tensor = self.top_p
        if 0 < self.top_k < probabilities.shape[-1]:
            probabilities[:, self.top_k :] = 0
            mass = self.top_p * probabilities.sum(dim=-1, keepdim=True)
        before = probabilities.cumsum(dim=-1) - probabilities
        kept = torch.where(before < mass, probabilities, torch.zeros_like(probabilities))
        if self.min_p:
            kept = torch.where(probabilities < self.min_p * probabilities[:, :1], torch.zeros_like(kept), kept)
        kept[:, 0] = probabilities[:, 0]
        return kept.cumsum(dim=-1), order
