"""The attention function registered with transformers, and the two passes that own what it writes to.

Every model call hands a pass in as the forward keyword `slots`; the function does nothing but give it the layer's post-RoPE
queries, keys and values. No `Cache` subclass, no hooks, no patched forward.

Shapes: B rows, H_q query heads, H_kv KV heads, G = H_q / H_kv, C slots, P padded prompt length, D head dimension.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from designspace.axes import Needs
from designspace.geometry import Geometry
from designspace.observers import group_mean
from designspace.slots import Prompt, SlotCache
from designspace.view import Observed

IMPLEMENTATION = "designspace"
_QUERY_BLOCK = 256  # queries per block where prompt attention is formed explicitly, to bound its memory


class Pass(Protocol):
    """One forward pass over the model's layers."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Return the attention output [B,T,H_q,D] of post-RoPE query [B,H_q,T,D], key and value [B,H_kv,T,D]."""


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    scaling: float,
    slots: Pass,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend through the pass given to the model call; transformers' own mask is not used."""
    return slots.attend(int(module.layer_idx), query, key, value, scaling, sliding_window), None  # type: ignore[arg-type]


def register() -> None:
    """Make the function known to transformers under the name "designspace". Idempotent."""
    from transformers import AttentionInterface

    AttentionInterface.register(IMPLEMENTATION, attention)


class DecodePass:
    """One new token per row against the slot cache."""

    def __init__(self, cache: SlotCache) -> None:
        self.cache = cache

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Write the token, then attend to everything held, the token included."""
        cache, group = self.cache, self.cache.geometry.group
        keys, values, positions = cache.append(layer, key[:, :, 0], value[:, :, 0])
        visible = positions >= 0
        if window is not None:
            visible = visible & (positions > (cache.next_position - window)[:, None, None])
        # Not -inf: a row without any held token must stay finite, and exp() of this is zero all the same.
        hidden = ~visible[:, :, None]  # [B,H_kv,1,C]
        bias = torch.zeros_like(hidden, dtype=query.dtype).masked_fill(hidden, torch.finfo(query.dtype).min)
        grouped = query.unflatten(1, (-1, group)).squeeze(3)  # [B,H_kv,G,D]: the group's heads as queries of one head
        if cache.observers.wants_weights:
            logits = grouped.float() @ keys.float().mT * scaling + bias.float()
            weights = torch.softmax(logits, dim=-1)  # [B,H_kv,G,C]
            output = weights.to(values.dtype) @ values
            cache.observers.record(layer, query, weights.flatten(1, 2))
        else:
            output = functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=bias, scale=scaling)
            cache.observers.record(layer, query, None)
        return output.flatten(1, 2).unsqueeze(1)  # [B,1,H_q,D]


class PrefillPass:
    """Full causal attention over one prompt, padded on the right to its length bucket."""

    def __init__(self, needs: Needs, geometry: Geometry, n_tokens: int) -> None:
        self.needs, self.geometry, self.n_tokens = needs, geometry, n_tokens
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._queries: list[Tensor] = []
        self._accumulated: list[Tensor] = []
        self._last: list[Tensor] = []

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None
    ) -> Tensor:
        """Attend causally and keep the layer's keys, values and what is needed of queries and attention."""
        self._keys.append(key)
        self._values.append(value)
        if self.needs.queries:
            self._queries.append(query[:, :, max(self.n_tokens - self.needs.queries, 0) : self.n_tokens])
        if self.needs.accumulated or self.needs.last:
            output = self._attend_observed(query, key, value, scaling, window)
        elif window is None:
            output = functional.scaled_dot_product_attention(
                query, key, value, is_causal=True, scale=scaling, enable_gqa=True
            )
        else:
            mask = _causal(query.shape[2], 0, query.shape[2], window, query.device)
            output = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, scale=scaling, enable_gqa=True
            )
        return output.transpose(1, 2)

    def _attend_observed(self, query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None) -> Tensor:
        """Form attention in blocks of queries, summing the columns over the real (unpadded) queries."""
        length, group = query.shape[2], self.geometry.group
        keys, values = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
        total = torch.zeros(*query.shape[:2], length, device=query.device)
        outputs = []
        for start in range(0, length, _QUERY_BLOCK):
            block = query[:, :, start : start + _QUERY_BLOCK]
            mask = _causal(length, start, block.shape[2], window, query.device)
            logits = (block.float() @ keys.float().mT * scaling).masked_fill(~mask, torch.finfo(torch.float32).min)
            weights = torch.softmax(logits, dim=-1)
            outputs.append(weights.to(values.dtype) @ values)
            total += weights[:, :, : max(self.n_tokens - start, 0)].sum(dim=2)
            if start < self.n_tokens <= start + block.shape[2]:
                self._last.append(weights[:, :, self.n_tokens - 1 - start])
        self._accumulated.append(group_mean(total, self.geometry))
        return torch.cat(outputs, dim=2)

    def prompt(self) -> Prompt:
        """Return what the pass has seen, stacked over layers."""
        keys = torch.stack(self._keys)  # [L,1,H_kv,P,D]
        slot = torch.arange(keys.shape[3], device=keys.device)
        positions = torch.where(slot < self.n_tokens, slot, -1).expand(keys.shape[:4])
        return Prompt(keys, torch.stack(self._values), positions, self._observed(), self.n_tokens)

    def _observed(self) -> Observed:
        observed = Observed()
        if self.needs.queries:
            seen = torch.stack(self._queries)
            missing = self.needs.queries - seen.shape[3]
            observed.queries = functional.pad(seen, (0, 0, missing, 0))
            newest = torch.arange(self.n_tokens - self.needs.queries, self.n_tokens, device=seen.device)
            observed.query_positions = newest.clamp(min=-1)[None]
        if self.needs.accumulated:
            observed.accumulated = torch.stack(self._accumulated)
        if self.needs.last:
            observed.last = torch.stack(self._last)
        return observed


def _causal(length: int, start: int, n_queries: int, window: int | None, device: torch.device) -> Tensor:
    """Return [n_queries, length] bool: which keys the queries start … start+n_queries-1 may see."""
    query = torch.arange(start, start + n_queries, device=device)[:, None]
    key = torch.arange(length, device=device)[None]
    visible = key <= query
    return visible if window is None else visible & (key > query - window)
