"""CriticalKV: the best tokens by attention, then the best by their effect on the residual stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from designspace.axes import Needs, Scoring, View
from designspace.axes.ranking import rank_descending
from families.scoring.snapkv import SnapKV
from families.scoring.wrapped_scoring import ValueWeighted

_CHUNK = 1 << 26  # projected numbers formed at a time (256 MiB)


@dataclass(frozen=True)
class CriticalKV(ValueWeighted):
    """Keep the best tokens by attention, then those whose values change the residual stream most [feng2025criticalkv].

    The first floor(alpha * b) places of a head go to the best tokens of the base; b is the mean target per head of the
    event. The other places go to the tokens with the largest (base + epsilon) * u. u is |v W|_1 averaged over the query
    heads that share a KV head, where W is the part of the output projection that belongs to the query head. Both stages
    form one ranking: tokens of stage one score above all others in their row, in the order of the base. So any selector
    can use it.

    Deviation: a head routing other than `uniform` sees this ranking, with the same number of stage-one tokens in every
    head. The published form for Ada-KV first shares the budget out by the scores of the base.

    Attributes:
        scoring: the base, whose scores must be attention probabilities up to a factor, without a value norm of its own;
            `snapkv` by default.
        alpha: share of stage one, in [0, 1]; 0.5 by default. 1 is the base alone.
        epsilon: number added to the scores of the base in stage two, so that tokens without attention differ; 1e-4 by
            default.
        share_of: the number of places that alpha is a share of. "target" (the default): all b places, which protected
            tokens take first, as in kvpress. "free": the places that protected tokens leave.
        selector: turns scores into the set of kept tokens; `top-k` by default.
        sinks, recent: numbers of first and newest tokens that are always kept; 0 (the default) takes over those of the
            base.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "critical-kv"
    citation: ClassVar[str | None] = "feng2025criticalkv"

    scoring: Scoring = field(default=SnapKV(), kw_only=True)
    alpha: Annotated[float, Ge(0), Le(1)] = 0.5
    epsilon: Annotated[float, Ge(0)] = 1e-4
    share_of: Literal["target", "free"] = "target"

    def needs(self) -> Needs:
        """Return the needs of the base, and the output projection."""
        return super().needs() | Needs(output_projection=True)

    @property
    def follows_target(self) -> bool:
        """How many tokens the first stage ranks is a share of the size."""
        return True

    def score(self, view: View) -> Tensor:
        """Return the ranking of both stages, [L,E,H_kv,C]."""
        base = self.base_scores(view)
        second = ((base + self.epsilon) * projected_norm(view)).masked_fill(~view.valid, 0.0)
        places = self.first_places(view)[..., None]
        rank = rank_descending(base, view.candidates)
        top = second.amax(dim=(0, 2, 3), keepdim=True).clamp(min=1e-30)
        first = top * (1 + (places - rank) / places.clamp(min=1))  # within (top, 2 top], one step per rank
        return torch.where(view.candidates & (rank < places), first, second)

    def first_places(self, view: View) -> Tensor:
        """Return the number of unprotected tokens that each head keeps by the base alone, [L,E,H_kv] int64."""
        target = view.target[None, :, None]
        protected = view.protected.sum(dim=-1)
        if self.share_of == "free":
            return self._share((target - protected).clamp(min=0))
        return (self._share(target) - protected).clamp(min=0)

    def _share(self, places: Tensor) -> Tensor:
        return (self.alpha * places.double() + 1e-9).floor().long()


def projected_norm(view: View) -> Tensor:
    """Return |v W|_1 of each held token, averaged over the group, [L,E,H_kv,C] float32.

    Free slots may hold any number. Computed for a few query heads at a time: values [E*C,D] of one head times its
    weights [D,hidden].
    """
    weights = view.output_projection  # [L,H_q,D,hidden]
    n_layers, n_rows, n_heads, n_slots, dim = view.values.shape
    group = view.geometry.group
    values = view.values.transpose(1, 2).reshape(n_layers * n_heads, n_rows * n_slots, dim)
    weights = weights.reshape(n_layers * n_heads * group, dim, -1)
    step = max(1, _CHUNK // (n_rows * n_slots * weights.shape[-1]))
    norms = []
    for start in range(0, weights.shape[0], step):
        heads = torch.arange(start, min(start + step, weights.shape[0]), device=values.device)
        norms.append((values[heads // group].float() @ weights[heads].float()).abs().sum(dim=-1))
    by_head = torch.cat(norms).view(n_layers, n_heads, group, n_rows, n_slots)
    return by_head.mean(dim=2).transpose(1, 2)
