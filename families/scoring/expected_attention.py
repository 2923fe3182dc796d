"""Expected attention: the attention of future queries, which are modelled as Gaussian."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Geometry, Needs, Scoring, Selector, View, Window
from designspace.axes.rotary import as_bands, unrotate_layers, unrotation_error
from designspace.axes.view import masked_softmax
from families.scoring.selectors.top_k import TopK


@dataclass(frozen=True)
class ExpectedAttention(Scoring):
    """Prefer tokens that future queries are expected to attend to, weighted by their value norm [devoto2025expected].

    The score is (p + epsilon) |v|. Here p is the softmax over held tokens of E[exp(q k)] for future queries q ~ N(mu,
    Sigma), averaged over the query heads that share a KV head. mu and Sigma are the mean and the population covariance
    of the head's last `window` pre-RoPE queries, rotated by the average rotation over the next `n_future` positions.
    The logit of a key k is mu.k / sqrt(D) + k.Sigma k / (2 D).

    Deviation: the statistics come from the stored queries at their true positions; the released decoding wrapper takes
    positions from the length of a buffer.

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        window: number of newest queries that the statistics are taken from; 64 by default.
        n_future: number of positions ahead that rotations are averaged over; 512 by default.
        covariance: use the second term of the logit; on by default.
        value_norm: multiply by the L2 norm of the value; on by default.
        epsilon: number added to the probability; 0 by default.
        sinks: number of first tokens that are always kept; 4 by default. The softmax leaves them out.
        recent: number of newest tokens that are always kept; 8 by default.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "expected-attention"
    citation: ClassVar[str | None] = "devoto2025expected"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())
    window: Annotated[int, Ge(1)] = 64
    n_future: Annotated[int, Ge(1)] = 512
    covariance: bool = True
    value_norm: bool = True
    epsilon: float = 0.0
    sinks: int = field(default=4, kw_only=True)
    recent: Window = field(default=8, kw_only=True)

    def needs(self) -> Needs:
        """Return the need for the newest `window` queries, the keys, and the values whose norm counts."""
        return Needs(queries=self.window, keys=True, values=self.value_norm)

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse models that rotate only a part of the head dimension."""
        return unrotation_error(f"scoring {self.kind!r}", geometry)

    def score(self, view: View) -> Tensor:
        """Return the expected contribution of each held token to the attention output, [L,E,H_kv,C]."""
        pre_rope = unrotate_queries(view)  # [L,E,H_q,w,D]
        seen = (view.query_positions >= 0).float()[None, :, None, :, None]
        n_seen = seen.sum(dim=-2).clamp(min=1)
        mean = (pre_rope * seen).sum(dim=-2) / n_seen
        centred = (pre_rope - mean[..., None, :]) * seen
        covariance = centred.mT @ centred / n_seen[..., None]
        return self.from_statistics(view, mean, covariance)

    def from_statistics(self, view: View, mean: Tensor, covariance: Tensor) -> Tensor:
        """Return the score for query statistics mean [L,E,H_q,D] and covariance [L,E,H_q,D,D], both pre-RoPE."""
        rotation = average_rotation(view.next_position, self.n_future, view.geometry)[:, :, None]  # [L|1,E,1,D,D]
        heads = (view.geometry.n_kv_heads, view.geometry.group)
        mu = (rotation @ mean[..., None])[..., 0].unflatten(2, heads)
        keys, dim = view.keys.float(), view.geometry.head_dim
        logits = torch.einsum("lehgd,lehcd->lehgc", mu, keys) / dim**0.5
        if self.covariance:
            sigma = (rotation @ covariance @ rotation.mT).unflatten(2, heads)
            logits = logits + torch.einsum("lehcd,lehgdf,lehcf->lehgc", keys, sigma, keys) / (2 * dim)
        past_sinks = view.valid & (view.positions >= view.sinks)
        probability = masked_softmax(logits, past_sinks[:, :, :, None].expand_as(logits)).mean(dim=3)
        weight = view.values.float().norm(dim=-1) if self.value_norm else 1.0
        return (probability + self.epsilon) * weight


def unrotate_queries(view: View) -> Tensor:
    """Return the view's queries before RoPE, [L,E,H_q,w,D] float32."""
    bands = as_bands(view.queries.float())  # [L,E,H_q,w,D/2]
    rows = [
        unrotate_layers(bands[:, row], view.query_positions[row].clamp(min=0), view.geometry)
        for row in range(bands.shape[1])
    ]
    pre_rope = torch.stack(rows, dim=1)
    return torch.cat([pre_rope.real, pre_rope.imag], dim=-1)


def average_rotation(first: Tensor, n_future: int, geometry: Geometry) -> Tensor:
    """Return the mean rotation matrix over positions first … first + n_future - 1, [L,E,D,D] float32, or [1,E,D,D].

    first: [E]. The second where all layers rotate alike.
    """
    frequencies = geometry.frequencies().to(first.device)[:, None, None]
    angle = (first.double()[:, None, None] + torch.arange(n_future, device=first.device)[None, :, None]) * frequencies
    cos, sin = angle.cos().mean(dim=2), angle.sin().mean(dim=2)  # [L|1,E,D/2]
    cos, sin = torch.diag_embed(cos), torch.diag_embed(sin)
    return torch.cat([torch.cat([cos, -sin], dim=-1), torch.cat([sin, cos], dim=-1)], dim=-2).float()
