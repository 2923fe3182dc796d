"""CriticalKV: the best tokens by attention, the rest by what their values do to the residual stream."""

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
    """Two stages: the top of each head by the base, then the rest by (base + epsilon) * u [feng2025criticalkv].

    u is the group mean of |v W|_1, W the slice of the output projection that belongs to the query head. The first
    floor(alpha * b) places of a head go to the base's best tokens, b being the event's mean target per head. Both stages
    are one ranking: stage one scores above everything in its row, in the base's order, so that any selector can use it.

    Deviations: a head routing other than uniform sees this ranking and the same number of stage-one tokens in every head
    (the published Ada-KV form shares the budget out by the base's scores first).

    Attributes:
        scoring: an attention-like base, without a value norm of its own.
        alpha: share of stage one; 1 is the base.
        epsilon: added to the base's scores in stage two, so that unattended tokens differ.
        share_of: what alpha is a share of: "target": all b places, in which protected tokens come first, as in kvpress; or
            "free": the places that protected tokens leave.
    """

    kind: ClassVar[str] = "critical-kv"
    citation: ClassVar[str | None] = "feng2025criticalkv"

    scoring: Scoring = field(default=SnapKV(), kw_only=True)
    alpha: Annotated[float, Ge(0), Le(1)] = 0.5
    epsilon: Annotated[float, Ge(0)] = 1e-4
    share_of: Literal["target", "free"] = "target"

    def needs(self) -> Needs:
        """Return what the base needs, and the output projection."""
        return super().needs() | Needs(output_projection=True)

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
        """Return how many unprotected tokens each head keeps by the base alone, [L,E,H_kv] int64."""
        target = view.target[None, :, None]
        protected = view.protected.sum(dim=-1)
        if self.share_of == "free":
            return self._share((target - protected).clamp(min=0))
        return (self._share(target) - protected).clamp(min=0)

    def _share(self, places: Tensor) -> Tensor:
        return (self.alpha * places.double() + 1e-9).floor().long()


def projected_norm(view: View) -> Tensor:
    """Return the group mean of |v W|_1 for each held token, [L,E,H_kv,C] float32; free slots hold what they may.

    Formed for a few query heads at a time: values [E*C,D] of one head times its [D,hidden].
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
