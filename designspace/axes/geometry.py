"""The numbers of a model that the cache and the strategies need."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """Layer and head counts, head dimension and rotary frequencies of one model.

    inv_freq: [D_rot/2] float32, the model's own (so llama3 and YaRN scaling are included). Band f pairs components f and
    f + D_rot/2 of a head. rotation_note: in what layers, if any, keys are turned by their positions in another way, found by
    trying the model out; strategies that turn keys back must refuse such a model. layers: where layers share a cache, the
    model's layers that own one; all per-layer shapes of cache and strategies then count owners only.
    """

    n_layers: int
    n_query_heads: int
    n_kv_heads: int
    head_dim: int
    inv_freq: Tensor
    attention_scaling: float = 1.0
    rotation_note: str = ""
    layers: tuple[int, ...] | None = None

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

    def owning(self, owners: tuple[int, ...]) -> Geometry:
        """Return the geometry of the caches where layer l reads the cache of layer `owners[l]`."""
        layers = tuple(layer for layer, owner in enumerate(owners) if layer == owner)
        return replace(self, n_layers=len(layers), layers=layers)
