"""SnapKV: tokens that the last few queries attend to, with their neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from designspace.axes import Needs, Scoring, Selector, View
from designspace.axes.view import masked_softmax_
from designspace.errors import DeclarationError
from families.scoring.selectors.top_k import TopK

Pool = Literal["max", "avg", "none"]
Group = Literal["mean", "max"]


def pool_slots(scores: Tensor, mask: Tensor, kernel: int, pool: Pool) -> Tensor:
    """Pool scores [L,E,H,C] over `kernel` neighbouring slots; slots outside `mask` [L,E,H,C] are left out.

    The stride is 1. "avg" divides by the kernel size at the borders too, as the released code does (its padding zeros
    are counted).
    """
    if pool == "none" or kernel == 1:
        return scores
    flat = scores.flatten(0, 1)
    hidden = ~mask.flatten(0, 1)
    if pool == "max":
        pooled = functional.max_pool1d(flat.masked_fill(hidden, -torch.inf), kernel, stride=1, padding=kernel // 2)
    else:
        pooled = functional.avg_pool1d(flat.masked_fill(hidden, 0.0), kernel, stride=1, padding=kernel // 2)
    return pooled.view_as(scores).masked_fill(~mask, 0.0)


def check_kernel(kernel: int) -> None:
    """Check that a pooling kernel has a middle slot.

    Raises:
        DeclarationError: the kernel is even, so it would shift scores by half a slot.
    """
    if kernel % 2 == 0:
        raise DeclarationError(f"kernel must be odd, got kernel={kernel}")


@dataclass(frozen=True)
class SnapKV(Scoring):
    """Prefer tokens that the last `recent` queries attend to; attention is pooled over neighbours [li2024snapkv].

    Attention probabilities are averaged over the queries of this observation window, then over the query heads that
    share a KV head. Pooling comes last, as in Ada-KV. The queries are the stored post-RoPE ones, each at its own
    position. Deviation: the authors' code keeps another set of tokens for each query head.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        kernel: number of slots that are pooled, an odd number; 7 by default, 1 switches pooling off.
        pool: "max" (the default), "avg" or "none". Published configurations use 7 slots with "max" or 5 with "avg".
        group: "mean" (the default) or "max" over the query heads that share a KV head, the two choices of a released
            code for grouped queries.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: length of the observation window in tokens; these newest tokens are always kept. The authors use 32, and
            so does the system `snapkv`. 8 by default, for small budgets, as where R-KV's released code runs SnapKV while
            decoding.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "snapkv"
    citation: ClassVar[str | None] = "li2024snapkv"
    comparable: ClassVar[bool] = True
    added: ClassVar[Mapping[str, Any]] = {"group": "mean"}

    selector: Selector = field(default=TopK())
    kernel: Annotated[int, Ge(1)] = 7
    pool: Pool = "max"
    group: Group = "mean"
    recent: Annotated[int, Ge(1)] = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        """Check the kernel."""
        super().__post_init__()
        check_kernel(self.kernel)

    def needs(self) -> Needs:
        """Return the need for the queries of the observation window and the keys."""
        return Needs(queries=self.recent, keys=True)

    def score(self, view: View) -> Tensor:
        """Return the pooled attention of the window for the tokens before it, [L,E,H_kv,C]."""
        before = view.positions < (view.next_position - self.recent)[None, :, None, None]
        past = view.valid & before
        attention = window_attention(view, self.group).masked_fill(~past, 0.0)
        return pool_slots(attention, past, self.kernel, self.pool)


def window_logits(view: View, temperature: float = 1.0) -> Tensor:
    """Return the logits of the window's queries for held tokens, whatever may see what, [L,E,H_kv,G,w,C]."""
    logits = torch.einsum("lehgwd,lehcd->lehgwc", view.grouped_queries().float(), view.keys.float())
    # In place: at many queries and slots, fresh memory for each step costs more than the step.
    logits.div_(view.geometry.head_dim**0.5 * temperature)
    log_mass = view.log_mass()
    return logits if log_mass is None else logits.add_(log_mass[:, :, :, None, None])


def window_attention(view: View, group: Group = "mean") -> Tensor:
    """Return the window's causal attention over held tokens: its mean over queries, reduced over the group, [L,E,H_kv,C]."""
    logits = window_logits(view)
    seen = view.query_positions >= 0  # [E,w]
    visible = view.valid[:, :, :, None, :] & (
        view.positions[:, :, :, None, :] <= view.query_positions[None, :, None, :, None]
    )
    weights = masked_softmax_(logits, visible[:, :, :, None])
    # The sum over the window comes first for a maximum; for a mean the order makes no difference but to the last bit.
    total = weights.sum(dim=4).amax(dim=3) if group == "max" else weights.mean(dim=3).sum(dim=3)
    return total / seen.sum(dim=-1).clamp(min=1)[None, :, None, None]
