"""SnapKV: what the last few queries attend to, pooled over neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from designspace.axes import Needs, Scoring, Selector, View
from designspace.axes.view import masked_softmax
from designspace.errors import DeclarationError
from families.scoring.selectors.top_k import TopK

Pool = Literal["max", "avg", "none"]


def pool_slots(scores: Tensor, mask: Tensor, kernel: int, pool: Pool) -> Tensor:
    """Pool scores [L,E,H,C] over `kernel` neighbouring slots, stride 1, where `mask`; others take no part.

    "avg" divides by the kernel size also at the borders, as the released code does (its padding zeros are counted).
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
    """Check that a pooling kernel has a middle.

    Raises:
        DeclarationError: the kernel is even, so it would shift scores by half a slot.
    """
    if kernel % 2 == 0:
        raise DeclarationError(f"kernel must be odd, got kernel={kernel}")


@dataclass(frozen=True)
class SnapKV(Scoring):
    """Mean attention of the last `recent` queries over all keys, pooled over neighbouring slots [li2024snapkv].

    Group mean before pooling, as in Ada-KV's order. Queries are the stored post-RoPE ones of their own positions.

    Attributes:
        recent: observation window; these tokens are protected too. 8 while decoding, 32 in the original's prompts.
        kernel, pool: pooling over slots; the published configurations use 7 and max, or 5 and avg.
    """

    kind: ClassVar[str] = "snapkv"
    citation: ClassVar[str | None] = "li2024snapkv"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())
    kernel: Annotated[int, Ge(1)] = 7
    pool: Pool = "max"
    recent: Annotated[int, Ge(1)] = field(default=8, kw_only=True)

    def __post_init__(self) -> None:
        """Check the kernel."""
        super().__post_init__()
        check_kernel(self.kernel)

    def needs(self) -> Needs:
        """Return the window's queries."""
        return Needs(queries=self.recent)

    def score(self, view: View) -> Tensor:
        """Return pooled window attention for the tokens before the window, [L,E,H_kv,C]."""
        before = view.positions < (view.next_position - self.recent)[None, :, None, None]
        past = view.valid & before
        return pool_slots(window_attention(view).masked_fill(~past, 0.0), past, self.kernel, self.pool)


def window_attention(view: View) -> Tensor:
    """Return the window queries' causal attention over the held tokens, mean over queries and group. [L,E,H_kv,C]."""
    logits = torch.einsum("lehgwd,lehcd->lehgwc", view.grouped_queries().float(), view.keys.float())
    logits = logits / view.geometry.head_dim**0.5
    if (log_mass := view.log_mass()) is not None:
        logits = logits + log_mass[:, :, :, None, None]
    seen = view.query_positions >= 0  # [E,w]
    visible = view.valid[:, :, :, None, :] & (
        view.positions[:, :, :, None, :] <= view.query_positions[None, :, None, :, None]
    )
    weights = masked_softmax(logits, visible[:, :, :, None])
    return weights.mean(dim=3).sum(dim=3) / seen.sum(dim=-1).clamp(min=1)[None, :, None, None]
