"""The artefact "kvquant": ranges of each key channel, and codebooks of each layer's keys and values."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.axes.rotary import as_bands, unrotate, unrotation_error
from designspace.cache.attention import Pass
from designspace.cache.causal import causal_attention
from designspace.cache.layer_call import LayerCall
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from families.representation.kvquant import BITS, FRACTIONS
from families.representation.range_codes import centre_and_half, row_ranges

MAX_TOKENS = 32768  # 16 texts of 2048 tokens, as published; what comes later is left out
_ROUNDS = 200


class StatesPass(Pass):
    """Plain causal attention that keeps each layer's un-rotated keys and its values, [H_kv,T,D] per text, on the CPU."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.keys: list[list[Tensor]] = [[] for _ in range(geometry.n_layers)]
        self.values: list[list[Tensor]] = [[] for _ in range(geometry.n_layers)]

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store the layer's keys at positions 0 … T-1 and its values [1,H_kv,T,D], and attend."""
        positions = torch.arange(key.shape[2], device=key.device)
        bands = unrotate(as_bands(key[0].float()), positions, self.geometry.of_layer(call.layer))
        self.keys[call.layer].append(torch.cat([bands.real, bands.imag], dim=-1).to(key.dtype).cpu())
        self.values[call.layer].append(value[0].cpu())
        return causal_attention(query, key, value, call).transpose(1, 2)


def measure(loaded: LoadedModel, corpus: Corpus) -> dict[str, Tensor]:
    """Return, for each fraction of outliers P, key_low and key_high [L,P,H_kv,D], and per width codebooks [L,P,2^bits].

    Codebooks are unweighted 1-D k-means over all channels and heads of a layer, of what lies within the ranges.

    Raises:
        CalibrationError: a model that rotates only part of its head dimension.
    """
    refused = unrotation_error("calibration 'kvquant'", loaded.geometry)
    if refused is not None:
        raise CalibrationError(refused)
    seen, n_left = StatesPass(loaded.geometry), MAX_TOKENS
    for ids in corpus.texts:
        if n_left:
            tokens = torch.tensor([ids[:n_left]], device=loaded.device)
            loaded.forward(seen, input_ids=tokens, logits_to_keep=1)
            n_left -= tokens.shape[1]
    layers = [_of_layer(torch.cat(k, 1), torch.cat(v, 1)) for k, v in zip(seen.keys, seen.values, strict=True)]
    return {name: torch.stack([layer[name] for layer in layers]) for name in layers[0]}


def _of_layer(keys: Tensor, values: Tensor) -> dict[str, Tensor]:
    """Return one layer's tensors from its keys and values [H_kv,N,D]."""
    keys, values = keys.float(), values.float()
    ordered, position = keys.sort(dim=1).values, torch.arange(values.shape[1]).expand(1, *values.shape[:2])
    found: dict[str, list[Tensor]] = {}
    for fraction in FRACTIONS:
        low, high = quantile(ordered, fraction / 2), quantile(ordered, 1 - fraction / 2)  # [H,D]
        found.setdefault("key_low", []).append(low)
        found.setdefault("key_high", []).append(high)
        scaled = _inside(keys, low[:, None], high[:, None])
        token_low, token_high = row_ranges(values[None], position, fraction)
        scaled_values = _inside(values, token_low[0, ..., None], token_high[0, ..., None])
        for bits in BITS:
            found.setdefault(f"key_book_{bits}", []).append(k_means(scaled, 2**bits))
            found.setdefault(f"value_book_{bits}", []).append(k_means(scaled_values, 2**bits))
    return {name: torch.stack(parts) for name, parts in found.items()}


def _inside(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return the normalised elements within the ranges, sorted, [n] float32."""
    centre, half = centre_and_half(low, high)
    return ((x - centre) / half)[(x >= low) & (x <= high)].sort().values


def quantile(ordered: Tensor, q: float) -> Tensor:
    """Return the linearly interpolated quantile over dimension 1 of x [H,N,D], sorted along it; torch's is limited in size."""
    at = q * (ordered.shape[1] - 1)
    below = min(int(at), ordered.shape[1] - 1)
    above = min(below + 1, ordered.shape[1] - 1)
    return torch.lerp(ordered[:, below], ordered[:, above], at - below)


def k_means(ordered: Tensor, n_centroids: int) -> Tensor:
    """Return the centroids [k] float32, ascending, of sorted numbers [n].

    Lloyd's algorithm starts from evenly spaced quantiles. Sums are differences of a running sum, so a round costs k
    searches. A centroid to which no number is nearest stays.
    """
    ordered = ordered.double()
    running = torch.nn.functional.pad(ordered.cumsum(0), (1, 0))
    start = ((torch.arange(n_centroids) + 0.5) / n_centroids * ordered.numel()).long()
    centroids = ordered[start]
    for _ in range(_ROUNDS):
        inner = torch.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2, right=True)
        edges = torch.cat([torch.zeros(1, dtype=torch.long), inner, torch.tensor([ordered.numel()])])
        n_members = edges.diff()
        means = (running[edges[1:]] - running[edges[:-1]]) / n_members.clamp(min=1)
        new = torch.where(n_members > 0, means, centroids).sort().values
        if torch.equal(new, centroids):
            break
        centroids = new
    return centroids.float()
