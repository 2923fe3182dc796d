"""MorphKV: tokens that correlate with what the recent window attends to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from torch import Tensor

from designspace.axes import Needs, Scoring, Selector, View
from designspace.axes.view import masked_softmax_
from families.scoring.selectors.top_k import TopK
from families.scoring.snapkv import window_logits


@dataclass(frozen=True)
class MorphKV(Scoring):
    """Prefer tokens that the last `recent` queries attend to, by the sum or the maximum over them [ghadia2025morphkv].

    Each query of the window attends to the tokens before the window alone, so the window's own tokens take no part in its
    softmax. As in the released code the logits of the query heads that share a KV head are added up before the softmax. With
    a cadence of every step the cache is constant, which is the published form. Deviation: the queries are the newest ones;
    the released code leaves out the very newest, as it cuts within the step.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        fuse: "sum" (the default) or "max" of the attention over the queries of the window: the released `sum_fused` and
            `max_fused`.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: length of the window in tokens; these newest tokens are always kept. 8 by default, for small budgets; the
            system `morph-kv` has 32, as released for prompts.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "morph-kv"
    citation: ClassVar[str | None] = "ghadia2025morphkv"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())
    fuse: Literal["sum", "max"] = "sum"
    recent: Annotated[int, Ge(1)] = field(default=8, kw_only=True)

    def needs(self) -> Needs:
        """Return the need for the queries of the window and the keys."""
        return Needs(queries=self.recent, keys=True)

    def score(self, view: View) -> Tensor:
        """Return the fused attention of the window for the tokens before it, [L,E,H_kv,C]."""
        before = view.valid & (view.positions < (view.next_position - self.recent)[None, :, None, None])
        logits = self._logits(view)
        weights = masked_softmax_(logits, before[:, :, :, None].expand_as(logits))
        weights = weights * (view.query_positions >= 0)[None, :, None, :, None]
        return weights.sum(dim=3) if self.fuse == "sum" else weights.amax(dim=3)

    def _logits(self, view: View) -> Tensor:
        """Return the logits of the window's queries, added up over the group, [L,E,H_kv,w,C]."""
        logits = window_logits(view)
        log_mass = view.log_mass()
        if log_mass is None:
            return logits.sum(dim=3)
        # What a slot stands for counts once, not once for each query head.
        return logits.sum(dim=3) - (logits.shape[3] - 1) * log_mass[:, :, :, None]
