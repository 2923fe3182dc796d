"""The numbers of a model that the cache and the strategies need."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """Layer and head counts, head dimension and rotary frequencies of one model.

    inv_freq: [D_rot/2] float32, the model's own (so llama3 and YaRN scaling are included). Band f pairs components f and
    f + D_rot/2 of a head. layer_inv_freq: [L_model, D_rot/2] where layers differ in their frequencies, zeros in a layer that
    turns nothing, found by trying the model out; layer_scaling: their attention scaling. None: in every layer as `inv_freq`
    and `attention_scaling` say. rotation_note: in what layers, if any, keys are turned in another way still; strategies
    that turn keys back must refuse such a model. layers: where layers share a cache, the model's layers that own one; all
    per-layer shapes of cache and strategies then count owners only.
    """

    n_layers: int
    n_query_heads: int
    n_kv_heads: int
    head_dim: int
    inv_freq: Tensor
    attention_scaling: float = 1.0
    rotation_note: str = ""
    layers: tuple[int, ...] | None = None
    layer_inv_freq: Tensor | None = None
    layer_scaling: tuple[float, ...] | None = None

    @property
    def group(self) -> int:
        """Query heads per KV head; query head h uses KV head h // group."""
        return self.n_query_heads // self.n_kv_heads

    @property
    def n_heads_total(self) -> int:
        """KV heads of all layers together."""
        return self.n_layers * self.n_kv_heads

    def held(self, per_layer: Tensor) -> Tensor:
        """Return the rows of a tensor over all layers of the model [L_model,...] that belong to layers with a cache."""
        return per_layer if self.layers is None else per_layer[list(self.layers)]

    def of_layer(self, layer: int) -> Geometry:
        """Return the same with the frequencies and scaling of one of the model's layers for all."""
        if self.layer_inv_freq is None or self.layer_scaling is None:
            return self
        inv_freq, scaling = self.layer_inv_freq[layer], self.layer_scaling[layer]
        return replace(self, inv_freq=inv_freq, attention_scaling=scaling, layer_inv_freq=None, layer_scaling=None)

    def frequencies(self) -> Tensor:
        """Return the rotary frequencies of the layers with a cache, [L, D_rot/2] float64, or [1, D_rot/2] where they agree."""
        return (self.inv_freq[None] if self.layer_inv_freq is None else self.held(self.layer_inv_freq)).double()

    def scalings(self) -> Tensor:
        """Return the attention scaling of the layers with a cache, [L] float64, or [1] where they agree."""
        if self.layer_scaling is None:
            return torch.tensor([self.attention_scaling], dtype=torch.float64)
        return self.held(torch.tensor(self.layer_scaling, dtype=torch.float64))

    def owning(self, owners: tuple[int, ...]) -> Geometry:
        """Return the geometry of the caches where layer l reads the cache of layer `owners[l]`."""
        layers = tuple(layer for layer, owner in enumerate(owners) if layer == owner)
        return replace(self, n_layers=len(layers), layers=layers)
