"""LagKV: tokens that stand out when they are compared with the block after them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, View
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class LagKV(Scoring):
    """Prefer tokens whose keys and values vary most on the scale of the block after them [liang2025lagkv].

    After the sinks, the held tokens form blocks of `lag` tokens. Each channel of a block is scaled by the minimum and
    maximum of the next block. The standard deviation of a token over its channels goes through a softmax over its
    block. The results of keys and values are averaged and turned into ranks within the block. The last full block and
    the tokens after it have no block to be compared with; they score above all others.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        lag: block length in tokens; 16 by default. The released code uses 128; small budgets need shorter blocks.
        sinks: number of first tokens that are always kept; 4 by default.
        recent: number of newest tokens that are always kept; 0 by default.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "lag-kv"
    citation: ClassVar[str | None] = "liang2025lagkv"

    selector: Selector = field(default=TopK())
    lag: Annotated[int, Ge(2)] = 16
    sinks: int = field(default=4, kw_only=True)

    def needs(self) -> Needs:
        """Return the need for keys and values."""
        return Needs(keys=True, values=True)

    def score(self, view: View) -> Tensor:
        """Return ranks within blocks in [0, 1), and 1 for tokens that cannot be compared yet, [L,E,H_kv,C]."""
        keys, values = view.keys, view.values
        scores = torch.ones(view.positions.shape, device=keys.device)
        n_blocks = (view.positions.shape[-1] - self.sinks) // self.lag
        if n_blocks < 2:
            return scores
        spread = (self.block_spread(keys, n_blocks) + self.block_spread(values, n_blocks)) / 2
        rank = spread.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True).float() / self.lag
        next_end = self.sinks + self.lag * torch.arange(2, n_blocks + 1, device=scores.device)
        comparable = (next_end <= view.counts[..., None])[..., None]  # is the block after this one full?
        end = self.sinks + self.lag * (n_blocks - 1)
        scores[..., self.sinks : end] = torch.where(comparable, rank, torch.ones_like(rank)).flatten(-2)
        return scores

    def block_spread(self, x: Tensor, n_blocks: int) -> Tensor:
        """Return how far each token's channels spread, as a softmax over its block, for all blocks but the last.

        x: keys or values [L,E,H_kv,C,D]. Returns [L,E,H_kv,n_blocks-1,lag].
        """
        body = x.float()[..., self.sinks : self.sinks + n_blocks * self.lag, :].unflatten(-2, (n_blocks, self.lag))
        after = body[..., 1:, :, :]
        low, high = after.amin(dim=-2, keepdim=True), after.amax(dim=-2, keepdim=True)
        scaled = (body[..., :-1, :, :] - low) / (high - low).clamp(min=1e-12)
        return scaled.std(dim=-1).softmax(dim=-1)
