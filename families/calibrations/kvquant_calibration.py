"""The artefact "kvquant": ranges of each key channel, and codebooks of each layer's keys and values."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.axes.rotary import as_bands, unrotate, unrotation_error
from designspace.cache.layer_call import LayerCall
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.calibration_stages import stage
from designspace.models.loading import LoadedModel
from designspace.models.one_look import Reading, one_pass
from families.representation.kvquant import BITS, FRACTIONS
from families.representation.range_codes import centre_and_half, row_ranges

MAX_TOKENS = 32768  # 16 texts of 2048 tokens, as published; what comes later is left out
_ROUNDS = 200


class StatesPass(Reading):
    """Keeps each layer's un-rotated keys and its values, [H_kv,T,D] per text, on the CPU."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry, self.n_left = geometry, MAX_TOKENS
        self.keys: list[list[Tensor]] = [[] for _ in range(geometry.n_layers)]
        self.values: list[list[Tensor]] = [[] for _ in range(geometry.n_layers)]

    def takes(self, n_tokens: int) -> bool:
        """Return whether any tokens are left to take."""
        return self.n_left > 0

    def see(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Store the layer's keys at positions 0 … T-1 and its values [1,H_kv,T,D], of as many tokens as are left to take."""
        key, value = key[:, :, : self.n_left], value[:, :, : self.n_left]
        positions = torch.arange(key.shape[2], device=key.device)
        bands = unrotate(as_bands(key[0].float()), positions, self.geometry.of_layer(call.layer))
        self.keys[call.layer].append(torch.cat([bands.real, bands.imag], dim=-1).to(key.dtype).cpu())
        self.values[call.layer].append(value[0].cpu())

    def ended(self, n_tokens: int) -> None:
        """Count the tokens that were taken."""
        self.n_left -= min(n_tokens, self.n_left)

    def tensors(self) -> dict[str, Tensor]:
        """Return the ranges and codebooks of all layers; each layer's states are given up once they have been looked at."""
        layers = []
        with stage("codebooks", len(self.keys), "layers") as done:
            while self.keys:
                layers.append(_of_layer(torch.cat(self.keys.pop(0), 1), torch.cat(self.values.pop(0), 1)))
                done(1)
        return {name: torch.stack([layer[name] for layer in layers]) for name in layers[0]}


def _held(loaded: LoadedModel, corpus: Corpus) -> int:
    """Return the bytes of the keys and values of all tokens, and of one layer's sorted in float64."""
    geometry, n_tokens = loaded.geometry, min(corpus.n_tokens, MAX_TOKENS)
    of_layer = 2 * geometry.n_kv_heads * geometry.head_dim * n_tokens
    return of_layer * (geometry.n_layers * loaded.dtype.itemsize + 6 * 8)


@one_pass(passes=1.5, held=_held)
def measure(loaded: LoadedModel) -> StatesPass:
    """Measure, for each fraction of outliers P, key_low and key_high [L,P,H_kv,D], and per width codebooks [L,P,2^bits].

    Codebooks are unweighted 1-D k-means over all channels and heads of a layer, of what lies within the ranges.

    Raises:
        CalibrationError: a model that rotates only part of its head dimension.
    """
    refused = unrotation_error("calibration 'kvquant'", loaded.geometry)
    if refused is not None:
        raise CalibrationError(refused)
    return StatesPass(loaded.geometry)


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
