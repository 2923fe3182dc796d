"""Attention over one text or a block of one, without any cache."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from designspace.cache.layer_call import LayerCall

_QUERY_BLOCK = 256  # queries of a block of a text for which attention is formed at once, to bound its memory


def causal_attention(query: Tensor, key: Tensor, value: Tensor, call: LayerCall) -> Tensor:
    """Return the attention output [B,H_q,T,D] of query [B,H_q,T,D] over key and value [B,H_kv,T,D]."""
    length = query.shape[2]
    mask = None if call.window is None else causal_mask(length, 0, length, call.window, query.device)
    if call.is_plain:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=mask is None, scale=call.scaling, enable_gqa=True
        )
    return _explicit(query, key, value, causal_mask(length, 0, length, call.window, query.device), call)


def masked_attention(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, call: LayerCall) -> Tensor:
    """Return the attention output [B,H_q,T,D] of query [B,H_q,T,D] over key and value [B,H_kv,K,D].

    visible: bool, [B,H_q or 1,T,K], which keys a query sees: the layer's window is in it.
    """
    if call.is_plain:
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=visible, scale=call.scaling, enable_gqa=True
        )
    parts = zip(query.split(_QUERY_BLOCK, dim=2), visible.split(_QUERY_BLOCK, dim=2), strict=True)
    return torch.cat([_explicit(queries, key, value, seen, call) for queries, seen in parts], dim=2)


def _explicit(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, call: LayerCall) -> Tensor:
    group = query.shape[1] // key.shape[1]
    keys, values = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    logits = call.logits(query, keys).masked_fill(~visible, torch.finfo(torch.float32).min)
    return call.weights(logits).to(values.dtype) @ values


def causal_mask(length: int, start: int, n_queries: int, window: int | None, device: torch.device) -> Tensor:
    """Return [n_queries, length] bool: which keys the queries start … start+n_queries-1 may see."""
    query = torch.arange(start, start + n_queries, device=device)[:, None]
    key = torch.arange(length, device=device)[None]
    visible = key <= query
    return visible if window is None else visible & (key > query - window)
