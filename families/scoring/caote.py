"""CAOTE: how far the attention output moves when one token is evicted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from designspace.axes import Scoring, View
from designspace.axes.view import masked_softmax
from designspace.errors import DeclarationError
from families.scoring.h2o import H2O
from families.scoring.snapkv import SnapKV
from families.scoring.tova import TOVA
from families.scoring.wrapped_scoring import ValueWeighted

_REST = 1e-5  # below this, 1 - a is rounding noise of float32


@dataclass(frozen=True)
class CAOTE(ValueWeighted):
    """a / (1 - a) * |o - v|, with a the token's probability and o = sum of a v the attention output [goel2025caote].

    This is the distance by which o moves when the token is taken out and the other probabilities are scaled up to sum to
    one: exact for one eviction, a heuristic for many. A token with all the probability (1 - a < 1e-5) leaves nothing to
    scale up; its distance to the mean of the held values is taken.

    The text leaves open how query heads that share a KV head combine. Here a base score is one distribution per KV head;
    with `probabilities="attention"` the error is formed per query head and averaged over the group.

    Attributes:
        scoring: an attention-like base.
        probabilities: "score": the base's scores over their sum over the held tokens, the published meta form (all zero
            where the sum is); "attention": the attention that the base observes, of the newest query for base `tova`, of
            the window's queries (mean over them, not pooled) for base `snapkv`.
        centre: "output": o, or "mean": the mean of the held values in its place, the published fast variant.
    """

    kind: ClassVar[str] = "caote"
    citation: ClassVar[str | None] = "goel2025caote"

    scoring: Scoring = field(default=H2O(), kw_only=True)
    probabilities: Literal["score", "attention"] = "score"
    centre: Literal["output", "mean"] = "output"

    def __post_init__(self) -> None:
        """Check that the base observes attention per query head where that is asked for."""
        super().__post_init__()
        if self.probabilities == "attention" and not isinstance(self.scoring, (TOVA, SnapKV)):
            raise DeclarationError(
                "probabilities='attention' must have a base that observes attention of single queries (tova or snapkv), "
                f"got scoring={self.scoring.kind!r}"
            )

    def score(self, view: View) -> Tensor:
        """Return the eviction error, mean over the group, [L,E,H_kv,C]."""
        values = view.values.float().masked_fill(~view.valid[..., None], 0.0)
        mean = values.sum(dim=-2) / view.counts[..., None].clamp(min=1)
        heads = self.distributions(view).unbind(dim=3)
        # One query head after the other: together the differences would take G times the memory of the values.
        return torch.stack([self._error(head, values, mean) for head in heads]).mean(dim=0)

    def distributions(self, view: View) -> Tensor:
        """Return the probabilities of the held tokens, [L,E,H_kv,G,C], zero at free slots; G is 1 for a base score."""
        if self.probabilities == "score":
            scores = self.base_scores(view)
            return (scores / scores.sum(dim=-1, keepdim=True).clamp(min=1e-30))[:, :, :, None]
        weights = newest_attention(view) if isinstance(self.scoring, TOVA) else window_attention_by_head(view)
        return weights.masked_fill(~view.valid[:, :, :, None], 0.0)

    def _error(self, alpha: Tensor, values: Tensor, mean: Tensor) -> Tensor:
        """Return the error [L,E,H,C] of probabilities [L,E,H,C], values [L,E,H,C,D] and their mean [L,E,H,D]."""
        output = torch.einsum("lehc,lehcd->lehd", alpha, values) if self.centre == "output" else mean
        rest = 1 - alpha
        moved = alpha / rest.clamp(min=_REST) * (output[..., None, :] - values).norm(dim=-1)
        return torch.where(rest < _REST, (mean[..., None, :] - values).norm(dim=-1), moved)


def newest_attention(view: View) -> Tensor:
    """Return the newest query's attention by KV head, [L,E,H_kv,G,C]."""
    return view.last.unflatten(2, (view.geometry.n_kv_heads, view.geometry.group))


def window_attention_by_head(view: View) -> Tensor:
    """Return the window queries' causal attention over the held tokens, mean over queries, [L,E,H_kv,G,C]."""
    logits = torch.einsum("lehgwd,lehcd->lehgwc", view.grouped_queries().float(), view.keys.float())
    queries = view.query_positions[None, :, None, :, None]  # -1 where fewer were seen: such a query sees nothing
    visible = view.valid[..., None, :] & (view.positions[..., None, :] <= queries)  # [L,E,H_kv,w,C]
    logits = logits / view.geometry.head_dim**0.5
    if (log_mass := view.log_mass()) is not None:
        logits = logits + log_mass[:, :, :, None, None]
    weights = masked_softmax(logits, visible[:, :, :, None])
    n_seen = (view.query_positions >= 0).sum(dim=-1).clamp(min=1)
    return weights.sum(dim=-2) / n_seen[None, :, None, None, None]
