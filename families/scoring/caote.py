"""CAOTE: how far the attention output moves if one token is evicted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from designspace.axes import Scoring, View
from designspace.axes.view import masked_softmax_
from designspace.errors import DeclarationError
from families.scoring.h2o import H2O
from families.scoring.snapkv import SnapKV
from families.scoring.tova import TOVA
from families.scoring.wrapped_scoring import ValueWeighted

_REST = 1e-5  # below this, 1 - a is rounding noise of float32


@dataclass(frozen=True)
class CAOTE(ValueWeighted):
    """Prefer tokens without which the attention output would move far [goel2025caote].

    The score is a / (1 - a) * |o - v|. a is the probability of the token, v its value, and o = sum of a v the attention
    output of the head. This is the distance by which o moves if the token is removed and the other probabilities are
    scaled to a sum of one. It is exact for one eviction and a heuristic for many. If a token has all the probability (1
    - a < 1e-5), nothing is left to scale; its score is then the distance to the mean of the held values.

    The paper does not say how query heads that share a KV head combine. Here a base score is one distribution per KV
    head; with `probabilities="attention"` the distance is computed for each query head and averaged over the group.

    Attributes:
        scoring: the base, whose scores must be attention probabilities up to a factor; `h2o` by default.
        probabilities: "score" (the default): the scores of the base divided by their sum over the held tokens, the
            published meta form (all zero if the sum is zero). "attention": the attention that the base observes: of the
            newest query for base `tova`; of the window's queries, averaged but not pooled, for base `snapkv`.
        centre: "output" (the default): o. "mean": the mean of the held values instead of o, the published fast variant.
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks, recent: numbers of first and newest tokens that are always kept; 0 (the default) takes over those of the
            base.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "caote"
    citation: ClassVar[str | None] = "goel2025caote"

    scoring: Scoring = field(default=H2O(), kw_only=True)
    probabilities: Literal["score", "attention"] = "score"
    centre: Literal["output", "mean"] = "output"

    def __post_init__(self) -> None:
        """Check that the base observes the attention of each query head if that is asked for."""
        super().__post_init__()
        if self.probabilities == "attention" and not isinstance(self.scoring, (TOVA, SnapKV)):
            raise DeclarationError(
                "probabilities='attention' must have a base that observes attention of single queries (tova or snapkv), "
                f"got scoring={self.scoring.kind!r}"
            )

    def score(self, view: View) -> Tensor:
        """Return the distance that the output moves, averaged over the group, [L,E,H_kv,C]."""
        values = view.values.float().masked_fill(~view.valid[..., None], 0.0)
        mean = values.sum(dim=-2) / view.counts[..., None].clamp(min=1)
        heads = self.distributions(view).unbind(dim=3)
        # One query head after the other: together the differences would take G times the memory of the values.
        return torch.stack([self._error(head, values, mean) for head in heads]).mean(dim=0)

    def distributions(self, view: View) -> Tensor:
        """Return the probabilities of the held tokens, zero at free slots, [L,E,H_kv,G,C]; G is 1 for a base score."""
        if self.probabilities == "score":
            scores = self.base_scores(view)
            return (scores / scores.sum(dim=-1, keepdim=True).clamp(min=1e-30))[:, :, :, None]
        weights = newest_attention(view) if isinstance(self.scoring, TOVA) else window_attention_by_head(view)
        return weights.masked_fill(~view.valid[:, :, :, None], 0.0)

    def _error(self, alpha: Tensor, values: Tensor, mean: Tensor) -> Tensor:
        """Return the distances [L,E,H,C] for probabilities [L,E,H,C], values [L,E,H,C,D] and their mean [L,E,H,D]."""
        output = torch.einsum("lehc,lehcd->lehd", alpha, values) if self.centre == "output" else mean
        rest = 1 - alpha
        moved = alpha / rest.clamp(min=_REST) * (output[..., None, :] - values).norm(dim=-1)
        return torch.where(rest < _REST, (mean[..., None, :] - values).norm(dim=-1), moved)


def newest_attention(view: View) -> Tensor:
    """Return the attention of the newest query, grouped by KV head, [L,E,H_kv,G,C]."""
    return view.last.unflatten(2, (view.geometry.n_kv_heads, view.geometry.group))


def window_attention_by_head(view: View) -> Tensor:
    """Return the window queries' causal attention over held tokens, averaged over queries, [L,E,H_kv,G,C]."""
    logits = torch.einsum("lehgwd,lehcd->lehgwc", view.grouped_queries().float(), view.keys.float())
    queries = view.query_positions[None, :, None, :, None]  # -1 where fewer were seen: such a query sees nothing
    visible = view.valid[..., None, :] & (view.positions[..., None, :] <= queries)  # [L,E,H_kv,w,C]
    logits = logits.div_(view.geometry.head_dim**0.5)
    if (log_mass := view.log_mass()) is not None:
        logits = logits + log_mass[:, :, :, None, None]
    weights = masked_softmax_(logits, visible[:, :, :, None])
    n_seen = (view.query_positions >= 0).sum(dim=-1).clamp(min=1)
    return weights.sum(dim=-2) / n_seen[None, :, None, None, None]
