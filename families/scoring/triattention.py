"""TriAttention: the attention of future queries, estimated from the mean of each head's pre-RoPE queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Geometry, Needs, Scoring, Selector, View
from designspace.axes.across_heads import gather_heads
from designspace.axes.artefact import Q_STATISTICS, centres
from designspace.axes.randomness import hash_uniform
from designspace.axes.rotary import unrotation_error
from designspace.errors import DeclarationError
from designspace.kernels.band_scores import band_scores
from families.scoring.selectors.top_k import TopK

_LARGEST_TABLE = 2**22  # numbers: beyond, hashing costs less than keeping all of them


@dataclass(frozen=True)
class TriAttention(Scoring):
    """Prefer keys that future queries are likely to attend to, judged by each head's mean query [triattention2026].

    The score is a trigonometric series in the distance to the key, plus a norm term for heads whose queries do not
    concentrate around their mean. m_f is the mean of a head's complex pre-RoPE query bands, n_f the mean of their
    moduli, w_f the rotary frequency of band f, a the attention scaling of the rotary embedding, k a held key at
    position p, and t the position of the next token:

        S(k) = mean (or max) over offsets d of  sum_f a^2 |m_f||k_f| cos(w_f (t - p + d) + arg(m_f conj k_f))
               + sum_f a^2 (n_f - |m_f|) |k_f|

    Scores are z-normalised for each query head over the tokens that may be evicted, then reduced to the rankings of
    `scope`. The calibration "q-stats" measures m_f and n_f.

    The released code compresses in decode steps alone, whenever the cache has grown by 128 tokens; that is the cadence
    `hysteresis` with a slack of 128 and without prefill. Its own runner has the scope "kv-head".

    Attributes:
        selector: turns scores into the set of kept tokens; `top-k` by default.
        scope: "global" (the default): one ranking for all layers and heads, the maximum over all heads. "kv-head": one
            ranking per KV head, the mean over layers of the maximum over the group. "layer-head": one per layer and KV
            head.
        offset_max: largest offset d in tokens; offsets are 1, 2, 4, … up to it. 65536 by default.
        aggregate: "mean" (the default) or "max" over the offsets.
        normalise: z-normalise the scores of each query head; on by default.
        trig, norm: use the trigonometric series, use the norm term; both are on by default, and one of them must be.
        concentration: use n_f - |m_f| in the norm term (the default); if off, n_f.
        group: "max" (the default) or "mean" over the query heads that share a KV head, for the scope "layer-head".
        noise: scale of a fixed noise that breaks ties, a hash of layer, head and position; 1e-6 by default, 0 switches
            it off.
        sinks: number of first tokens that are always kept; 0 by default.
        recent: number of newest tokens that are always kept; 0 by default.
        protect: "none" (the default), or "prompt": every head keeps the whole prompt too, within the budget.
    """

    kind: ClassVar[str] = "triattention"
    citation: ClassVar[str | None] = "triattention2026"
    statistics: ClassVar[str] = Q_STATISTICS

    selector: Selector = field(default=TopK())
    scope: Literal["global", "kv-head", "layer-head"] = "global"
    offset_max: Annotated[int, Ge(1)] = 65536
    aggregate: Literal["mean", "max"] = "mean"
    normalise: bool = True
    trig: bool = True
    norm: bool = True
    concentration: bool = True
    group: Literal["max", "mean"] = "max"
    noise: Annotated[float, Ge(0)] = 1e-6

    def __post_init__(self) -> None:
        """Check that at least one of the two terms is used."""
        super().__post_init__()
        if not (self.trig or self.norm):
            raise DeclarationError("at least one of trig and norm must be on, got trig=False, norm=False")

    def needs(self) -> Needs:
        """Return the calibration that measured the query statistics, and the need for the keys."""
        return Needs(calibrations=(self.statistics,), keys=True)

    @property
    def one_ranking(self) -> bool:
        """Whether the scope gives one ranking for all layers and heads."""
        return self.scope == "global"

    def score(self, view: View) -> Tensor:
        """Return the reduced score of each held token, [L,E,H_kv,C]."""
        z = self.head_scores(view)
        if self.normalise:
            z = z_normalise(z, view.candidates[:, :, :, None])
        if self.noise:
            z = z.add(_head_noise(view, z), alpha=self.noise)
        return self.reduce(view, z)

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse models that rotate only a part of the head dimension."""
        return unrotation_error(f"scoring {self.kind!r}", geometry)

    def offsets(self) -> Tensor:
        """Return the sampled distances to future queries, float64 [n_offsets]."""
        return 2.0 ** torch.arange(self.offset_max.bit_length(), dtype=torch.float64)

    def head_scores(self, view: View) -> Tensor:
        """Return S for every query head, [L,E,H_kv,G,C] float32, from rotated keys: RoPE need not be inverted."""
        geometry = view.geometry
        mean, modulus = (geometry.held(x) for x in centres(view.artefact(self.statistics)))
        # A held key was rotated by a cos, a sin, so it carries one a of a^2 already.
        scale = geometry.scalings().float().to(view.keys.device).view(-1, 1, 1, 1, 1)
        shape = (geometry.n_layers, 1, geometry.n_kv_heads, geometry.group, -1)
        keys = view.keys
        centre = mean.to(keys.device).view(shape)  # [L,1,H,G,F] complex
        excess = modulus.to(keys.device).view(shape)
        excess = scale * (excess - centre.abs() if self.concentration else excess)
        if not self.norm:
            excess = torch.zeros_like(excess)
        queries = self._future_queries(view, centre * scale if self.trig else torch.zeros_like(centre))
        if self.aggregate == "mean" and (fused := band_scores(keys, queries[..., 0, :], excess)) is not None:
            return fused
        keys = keys.float()
        real, imaginary = keys.chunk(2, dim=-1)
        moduli = real.square().addcmul_(imaginary, imaginary).sqrt_()  # [L,E,H,C,F]
        # Re(q conj k), summed over the bands, is the dot product of the halves that a rotary vector keeps them in.
        sampled = (queries.flatten(3, 4) @ keys.mT).unflatten(3, queries.shape[3:5])  # [L,E,H,G,offsets,C]
        return sampled.amax(dim=4).add_(excess @ moduli.mT)

    def _future_queries(self, view: View, centre: Tensor) -> Tensor:
        """Return the centre's bands [L,1,H,G,F] turned to the offsets, or their mean, as rotated halves [L,E,H,G,offsets,D]."""
        frequency = view.geometry.frequencies().to(centre.device)[:, None]  # [L|1, 1, F]
        # Phases in float64: at offsets of 65,536 float32 phases are wrong by 1e-3.
        ahead = _phase(self.offsets().to(centre.device)[:, None] * frequency)  # [L|1, offsets, F]
        ahead = ahead.mean(dim=1, keepdim=True) if self.aggregate == "mean" else ahead
        now = _phase(view.next_position.double()[:, None, None] * frequency[:, None])  # [L|1, E, 1, F]
        turn = now * ahead[:, None]  # [L|1, E, offsets, F]
        query = (centre[:, :, :, :, None].to(torch.complex128) * turn[:, :, None, None]).to(torch.complex64)
        return torch.cat([query.real, query.imag], dim=-1)

    def reduce(self, view: View, z: Tensor) -> Tensor:
        """Reduce head scores [L,E,H_kv,G,C] to the scope's ranking, given per slot [L,E,H_kv,C]."""
        if self.scope == "layer-head":
            return z.amax(dim=3) if self.group == "max" else z.mean(dim=3)
        best = z.amax(dim=3)
        if self.scope == "global":
            return gather_heads(best, view.positions, view.candidates, view.width, over="both", how="amax")
        return gather_heads(best, view.positions, view.candidates, view.width, over="layers", how="mean")


def z_normalise(x: Tensor, mask: Tensor) -> Tensor:
    """Return (x - mean) / max(std, 1e-6) over the last dimension's masked entries, population std; others become 0."""
    mask = mask.expand_as(x)
    n = mask.sum(dim=-1, keepdim=True).clamp(min=1)
    mean = x.masked_fill(~mask, 0.0).sum(dim=-1, keepdim=True) / n
    centred = (x - mean).masked_fill(~mask, 0.0)
    std = (centred.square().sum(dim=-1, keepdim=True) / n).sqrt()
    return centred / std.clamp(min=1e-6)


def _phase(angle: Tensor) -> Tensor:
    return torch.polar(torch.ones_like(angle), angle)


def _head_noise(view: View, z: Tensor) -> Tensor:
    """Return the noise of every (layer, query head, position), shaped like z [L,E,H_kv,G,C]."""
    n_layers, n_rows, n_heads, group, _ = z.shape
    heads = (n_layers, 1, n_heads, group)
    if n_layers * n_heads * group * view.width > _LARGEST_TABLE:
        return _noise_at(view.positions[:, :, :, None], heads)
    table = _noise_table(heads, view.width, z.device).expand(-1, n_rows, -1, -1, -1)
    return table.gather(-1, view.positions.clamp(min=0)[:, :, :, None].expand(z.shape))


@lru_cache(maxsize=8)
def _noise_table(heads: tuple[int, int, int, int], width: int, device: torch.device) -> Tensor:
    return _noise_at(torch.arange(width, device=device), heads)


def _noise_at(positions: Tensor, heads: tuple[int, int, int, int]) -> Tensor:
    """Return numbers in [0, 1) for positions [...,C] in each of the query heads (L, 1, H_kv, G), [...,H_kv,G,C]."""
    layer = torch.arange(heads[0], device=positions.device).view(-1, 1, 1, 1, 1)
    head = torch.arange(heads[2] * heads[3], device=positions.device).view(1, 1, *heads[2:], 1)
    return hash_uniform(layer, head, positions)
