"""LagKV: tokens that stand out against the block that follows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Scoring, Selector, View
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class LagKV(Scoring):
    """Rank within a block by how far keys and values spread, measured in the next block's range [liang2025lagkv].

    After the sinks the held tokens form blocks of `lag`. Each channel is scaled by minimum and maximum of the next block; a
    token's standard deviation over channels goes through a softmax over its block; keys' and values' results are averaged
    and ranked. The last full block and the remainder have no block after them and rank above all.

    Attributes:
        sinks: first tokens, always kept. lag: block length; 128 in the released code, less for small budgets.
    """

    kind: ClassVar[str] = "lag-kv"
    citation: ClassVar[str | None] = "liang2025lagkv"

    selector: Selector = field(default=TopK())
    lag: Annotated[int, Ge(2)] = 16
    sinks: int = field(default=4, kw_only=True)

    def score(self, view: View) -> Tensor:
        """Return ranks in [0, 1), 1 for what cannot be compared yet, [L,E,H_kv,C]."""
        scores = torch.ones(view.positions.shape, device=view.keys.device)
        n_blocks = (view.positions.shape[-1] - self.sinks) // self.lag
        if n_blocks < 2:
            return scores
        spread = (self.block_spread(view.keys, n_blocks) + self.block_spread(view.values, n_blocks)) / 2
        rank = spread.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True).float() / self.lag
        next_end = self.sinks + self.lag * torch.arange(2, n_blocks + 1, device=scores.device)
        comparable = (next_end <= view.counts[..., None])[..., None]  # is the block after this one full?
        end = self.sinks + self.lag * (n_blocks - 1)
        scores[..., self.sinks : end] = torch.where(comparable, rank, torch.ones_like(rank)).flatten(-2)
        return scores

    def block_spread(self, x: Tensor, n_blocks: int) -> Tensor:
        """Return the softmax over each block but the last of its tokens' spread, [L,E,H_kv,n_blocks-1,lag]."""
        body = x.float()[..., self.sinks : self.sinks + n_blocks * self.lag, :].unflatten(-2, (n_blocks, self.lag))
        after = body[..., 1:, :, :]
        low, high = after.amin(dim=-2, keepdim=True), after.amax(dim=-2, keepdim=True)
        scaled = (body[..., :-1, :, :] - low) / (high - low).clamp(min=1e-12)
        return scaled.std(dim=-1).softmax(dim=-1)
