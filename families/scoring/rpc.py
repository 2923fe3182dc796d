"""RPC: tokens that the newest queries attend to, ranked alike in all heads of a layer, with their neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Needs, Protect, Scoring, Selector, View
from designspace.axes.across_heads import gather_heads
from designspace.axes.view import masked_softmax_
from families.scoring.selectors.top_k import TopK
from families.scoring.snapkv import check_kernel, pool_slots, window_logits


@dataclass(frozen=True)
class RPC(Scoring):
    """Prefer tokens that the newest queries attend to, their attention averaged over all heads of a layer [song2025rpc].

    Candidates are the tokens between prompt and window; without `protect: prompt` those of the prompt as well. Each query's
    attention is a softmax over the candidates alone. It is summed over the queries, averaged over heads, and pooled over
    slots last. Heads that hold different tokens, under a head routing that gives them different shares, are averaged by
    token.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        newest: "twice" as released (the default): the newest recent - 1 queries, of which the very newest counts twice, as
            the release appends it to a list that has it already. "once": the newest `recent` queries.
        heads: "all" (the default): one ranking for all KV heads of a layer. "group": one for each KV head.
        reduce: "mean" (the default) or "amax" over those heads.
        kernel: number of slots that are pooled, an odd number; 7 by default, 1 switches pooling off.
        pool: "avg" (the default), with zeros beyond the ends, or "max".
        sinks: number of first tokens that are always kept; 0 by default.
        recent: number of newest tokens that are always kept, whose queries score the others; 32 by default.
        protect: "prompt" as published (the default): every head keeps the whole prompt, within the size. Or "none".
    """

    kind: ClassVar[str] = "rpc"
    citation: ClassVar[str | None] = "song2025rpc"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())
    newest: Literal["twice", "once"] = "twice"
    heads: Literal["all", "group"] = "all"
    reduce: Literal["mean", "amax"] = "mean"
    kernel: Annotated[int, Ge(1)] = 7
    pool: Literal["avg", "max"] = "avg"
    recent: Annotated[int, Ge(1)] = field(default=32, kw_only=True)
    protect: Protect = field(default="prompt", kw_only=True)

    def __post_init__(self) -> None:
        """Check the kernel."""
        super().__post_init__()
        check_kernel(self.kernel)

    def needs(self) -> Needs:
        """Return the need for the newest queries and the keys."""
        return Needs(queries=self.recent if self.newest == "once" else max(self.recent - 1, 1), keys=True)

    def score(self, view: View) -> Tensor:
        """Return the pooled attention of the candidates, [L,E,H_kv,C]."""
        past = view.valid & (view.positions < (view.next_position - self.recent)[None, :, None, None])
        if view.context.protects_prompt:
            past = past & ~view.of_prompt
        attention = self._attention(view, past)
        summed = attention.mean(dim=3) if self.reduce == "mean" else attention.amax(dim=3)
        if self.heads == "all":
            summed = gather_heads(summed, view.positions, past, view.width, over="heads", how=self.reduce)
        return pool_slots(summed, past, self.kernel, self.pool)

    def _attention(self, view: View, past: Tensor) -> Tensor:
        """Return the attention to `past` [L,E,H_kv,C], summed over the queries, [L,E,H_kv,G,C]."""
        logits = window_logits(view)
        weights = masked_softmax_(logits, past[:, :, :, None, None].expand_as(logits))
        counts = (view.query_positions >= 0).float()  # [E,w]
        if self.newest == "twice" and self.recent > 1:
            counts[:, -1] *= 2
        return torch.einsum("lehgwc,ew->lehgc", weights, counts)
