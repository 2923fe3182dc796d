"""Temperature and nucleus sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Le
from torch import Tensor

from designspace.axes import Decoding


@dataclass(frozen=True)
class Sampling(Decoding):
    """Sample from the smallest set of tokens with mass `top_p` at a temperature [holtzman2020topp].

    The token is where the row's uniform number falls in the cumulative distribution, sorted by probability: the same
    number gives the same token whatever the batch.

    Attributes:
        temperature: above 0; `greedy` is its limit. top_p: in (0, 1]; at least one token always stays.
    """

    kind: ClassVar[str] = "sampling"
    citation: ClassVar[str | None] = "holtzman2020topp"

    temperature: Annotated[float, Gt(0)] = 0.6
    top_p: Annotated[float, Gt(0), Le(1)] = 0.95

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Return one token per row of [B,V]."""
        cumulative, order = self.nucleus(logits)
        drawn = torch.searchsorted(cumulative, uniforms[:, None] * cumulative[:, -1:], right=True)
        return order.gather(-1, drawn.clamp(max=order.shape[-1] - 1))[:, 0]

    def nucleus(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cumulative mass of the kept tokens in falling order of probability, and their ids. Both [B,V]."""
        probabilities, order = torch.softmax(logits.double() / self.temperature, dim=-1).sort(
            dim=-1, descending=True, stable=True
        )
        before = probabilities.cumsum(dim=-1) - probabilities
        kept = torch.where(before < self.top_p, probabilities, torch.zeros_like(probabilities))
        kept[:, 0] = probabilities[:, 0]
        return kept.cumsum(dim=-1), order
