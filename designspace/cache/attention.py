"""The attention function registered with transformers, and the two passes that own what it writes to.

Every model call hands a pass in as the forward keyword `slots`; the function does nothing but give it the layer's post-RoPE
queries, keys and values. No `Cache` subclass, no hooks, no patched forward.

Shapes: B rows, H_q query heads, H_kv KV heads, G = H_q / H_kv, C slots, P padded prompt length, D head dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from designspace.axes import Arrival
from designspace.cache.attend_operator import attend
from designspace.cache.layer_call import LayerCall, refuse_unknown
from designspace.cache.region import Region, no_region
from designspace.cache.slots import SlotCache

IMPLEMENTATION = "designspace"
_QUERY_BLOCK = 256  # queries per block where prompt attention is formed explicitly, to bound its memory


class Pass(ABC):
    """One forward pass over the model's layers."""

    @cached_property
    def shared(self) -> dict[int, tuple[Tensor, Tensor]]:
        """Keys and values of the layers seen so far, for models in which later layers were trained to use them."""
        return {}

    @abstractmethod
    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return the attention output [B,T,H_q,D] of post-RoPE query [B,H_q,T,D], key and value [B,H_kv,T,D].

        call: which layer attends, and how.
        """


def trained_owners(config: Any) -> tuple[int, ...] | None:
    """Return for each layer the layer whose keys and values it was trained to use, None where each uses its own.

    Cross-layer attention [brandon2024cla] is a property of a checkpoint: its configuration says so as `kv_owners`.
    """
    owners = getattr(config, "kv_owners", None)
    return None if owners is None else tuple(owners)


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    scaling: float | None = None,
    slots: Pass | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend through the pass given to the model call; transformers' own mask is not used.

    Raises:
        ModelError: the layer asks for something that is not implemented.
    """
    layer: int = module.layer_idx  # type: ignore[assignment]
    refuse_unknown(layer, others)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if slots is None:  # a compiled graph, which must not know its pass; or a layer that does not hand it on
        output: Tensor = attend(query, key, value, layer, scale, sliding_window or 0, softcap or 0.0, s_aux)
        return output, None
    owners = trained_owners(module.config)
    if owners is not None:
        if owners[layer] == layer:
            slots.shared[layer] = (key, value)
        key, value = slots.shared[owners[layer]]
    return slots.attend(LayerCall(layer, scale, sliding_window, softcap, s_aux), query, key, value), None


def register() -> None:
    """Make the function known to transformers under the name "designspace". Idempotent."""
    from transformers import AttentionInterface

    AttentionInterface.register(IMPLEMENTATION, attention)


class DecodePass(Pass):
    """One new token per row against the slot cache."""

    def __init__(self, cache: SlotCache, region: Region = no_region) -> None:
        self.cache, self.region = cache, region
        self.arrived: dict[int, tuple[Tensor, Tensor]] = {}  # by layer of the model, if gates read them

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Write the token into its slot, then attend to every filled slot, the token's included.

        A layer without a cache of its own writes nothing and reads its owner's, which has the token already.
        """
        with self.region("attention"):
            return self._attend(call, query, key, value)

    def _attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        cache, index, owns = self.cache, self.cache.cache_of[call.layer], self.cache.owns(call.layer)
        if cache.fused is None or not call.is_plain:
            new = query[:, :, 0], key[:, :, 0], value[:, :, 0]
            output, weights = self._attend_plain(call, index, *new, append=owns)
            output = output.unsqueeze(1)
        else:
            wanted = owns and cache.observers.needs.weights
            if owns:
                cache.begin_mass(index)
            output, weights = cache.fused(
                index,
                query,
                key,
                value,
                call.scaling,
                call.window,
                log_mass=cache.log_mass(index),
                append=owns,
                wants_weights=wanted,
            )
        if owns:
            cache.observers.record(index, query, weights, cache.positions, cache.next_position)
            if cache.observers.needs.gates:
                self.arrived[call.layer] = (key, value)
        return output

    def record_gates(self, inputs: Sequence[Tensor]) -> None:
        """Note what the gates say of the new tokens; inputs: [B,1,hidden] of every layer of the model."""
        for layer, (key, value) in self.arrived.items():
            arrival = Arrival(layer, inputs[layer], key, value)
            for gate in self.cache.observers.needs.gates:
                opened = gate.open(self.cache.artefacts[gate.artefact], arrival)
                self.cache.record_gate(self.cache.cache_of[layer], gate, opened[..., 0])

    def _attend_plain(
        self, call: LayerCall, index: int, query: Tensor, key: Tensor, value: Tensor, *, append: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to all slots through a mask, in whatever form and place the store keeps them."""
        cache, group = self.cache, self.cache.geometry.group
        if append:
            cache.append(index, key, value)
        keys, values, positions = cache.read(index)
        visible = (positions >= 0)[:, :, None]  # [B,H_kv,1,C]
        if call.window is not None:
            visible = visible & (positions > (cache.next_position - call.window)[:, None, None])[:, :, None]
        chosen = cache.visible(index, query)
        visible = visible if chosen is None else visible & chosen
        # Not -inf: a row without a single token must stay finite, and exp() of this is zero all the same.
        bias = torch.zeros_like(visible, dtype=query.dtype).masked_fill(~visible, torch.finfo(query.dtype).min)
        log_mass = cache.log_mass(index)
        bias = bias if log_mass is None else bias + log_mass[:, :, None].to(bias.dtype)
        grouped = query.unflatten(1, (-1, group))  # [B,H_kv,G,D]: the group's heads as queries of one head
        if call.is_plain and not cache.observers.needs.weights:
            output = functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=bias, scale=call.scaling)
            return output.flatten(1, 2), None
        weights = call.weights(call.logits(grouped, keys) + bias.float())  # [B,H_kv,G,C]
        return (weights.to(values.dtype) @ values).flatten(1, 2), weights.flatten(1, 2)
