"""What a text is going to attend to: the text that the full cache writes, and one causal pass over it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from designspace.axes import Geometry
from designspace.cache.attention import Pass
from designspace.cache.causal import causal_attention, causal_mask
from designspace.cache.layer_call import LayerCall
from designspace.engine.ending import Ending
from designspace.models.loading import LoadedModel

_HIDDEN = torch.finfo(torch.float32).min


class LargestAttention(Pass, ABC):
    """Plain causal attention over one text, told layer by layer as the largest of each KV head's query heads."""

    def __init__(self, geometry: Geometry, owners: tuple[int, ...] | None) -> None:
        layers = range(geometry.n_layers) if geometry.layers is None else geometry.layers
        self._place = {layer: idx for idx, layer in enumerate(layers)}
        self._owners = owners

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend with query [1,H_q,T,D] over key and value [1,H_kv,T,D]; layers that share a cache are one."""
        owner = call.layer if self._owners is None else self._owners[call.layer]
        n_tokens, group = query.shape[2], query.shape[1] // key.shape[1]
        visible = causal_mask(n_tokens, 0, n_tokens, call.window, query.device)
        weights = call.weights(call.logits(query, key.repeat_interleave(group, 1)).masked_fill(~visible, _HIDDEN))
        largest = weights[0].unflatten(0, (-1, group)).amax(dim=1)  # [H_kv,T,T]
        self.keep(self._place[owner], largest.float().cpu())
        return causal_attention(query, key, value, call).transpose(1, 2)

    @abstractmethod
    def keep(self, place: int, largest: Tensor) -> None:
        """Keep what is wanted of a layer's attention [H_kv,T queries,T keys]; `place`: of its cache among the L."""


class _Recording(LargestAttention):
    """Keeps all of it."""

    def __init__(self, geometry: Geometry, owners: tuple[int, ...] | None, n_tokens: int) -> None:
        super().__init__(geometry, owners)
        self.largest = torch.zeros(geometry.n_layers, geometry.n_kv_heads, n_tokens, n_tokens)

    def keep(self, place: int, largest: Tensor) -> None:
        """Take the largest over the layers that share a cache."""
        self.largest[place] = torch.maximum(self.largest[place], largest)


class _FullCache(Pass):
    """Attention of one text that comes in parts, over all that has come."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[Tensor, Tensor]] = {}  # by layer, [1,H_kv,T,D] each

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend with the newest queries [1,H_q,n,D], whose keys and values [1,H_kv,n,D] are held from here on."""
        if call.layer in self._held:
            keys, values = self._held[call.layer]
            key, value = torch.cat([keys, key], dim=2), torch.cat([values, value], dim=2)
        self._held[call.layer] = key, value
        n_queries, n_tokens, group = query.shape[2], key.shape[2], query.shape[1] // key.shape[1]
        visible = causal_mask(n_tokens, n_tokens - n_queries, n_queries, call.window, query.device)
        logits = call.logits(query, key.repeat_interleave(group, 1)).masked_fill(~visible, _HIDDEN)
        return (call.weights(logits).to(value.dtype) @ value.repeat_interleave(group, 1)).transpose(1, 2)


def full_cache_text(
    loaded: LoadedModel, prompt_ids: tuple[int, ...], max_new_tokens: int, ending: Ending | None = None
) -> tuple[int, ...]:
    """Return the tokens that the model writes greedily after a prompt with its full cache, one text at a time."""
    cache, text, feed, ends = _FullCache(), list[int](), prompt_ids, sorted(loaded.eos_ids)
    ending = ending or Ending()
    while len(text) < max_new_tokens and (not text or text[-1] not in loaded.eos_ids):
        if text and ending.n_until_stop(loaded.decode, text, 1) is not None:
            break
        begin = len(prompt_ids) + len(text) - len(feed)
        places = torch.arange(begin, begin + len(feed), device=loaded.device)[None]
        ids = torch.tensor([feed], device=loaded.device)
        output = loaded.forward(cache, input_ids=ids, position_ids=places, logits_to_keep=1)
        logits = output.logits[0, -1]
        if len(text) < ending.min_new_tokens:
            logits[ends] = float("-inf")
        feed = (int(logits.argmax()),)
        text += feed
    return tuple(text)


def future_attention(
    loaded: LoadedModel, geometry: Geometry, owners: tuple[int, ...] | None, token_ids: tuple[int, ...]
) -> Tensor:
    """Return the most that any query from a position on pays to each token, [L,H_kv,T+1,T] float32 on the CPU.

    Entry [l,h,t,i] is the largest attention weight that token i gets in layer l from the queries at positions t … T-1, over
    these queries and the query heads of KV head h; zero for t = T. geometry: of the layers that own a cache. The tensor has
    4 L H_kv T (T + 1) bytes: this is an instrument for short texts.
    """
    recording = _Recording(geometry, owners, len(token_ids))
    ids = torch.tensor([token_ids], device=loaded.device)
    loaded.forward(recording, input_ids=ids, logits_to_keep=1)
    from_the_end = recording.largest.flip(2).cummax(dim=2).values.flip(2)
    return torch.cat([from_the_end, torch.zeros_like(from_the_end[:, :, :1])], dim=2)


def at_positions(future: Tensor, next_position: int, positions: Tensor) -> Tensor:
    """Return what held tokens at positions [L,H_kv,C] still get from `next_position` on, [L,H_kv,C].

    Zero for free slots (position -1) and for what lies beyond the text that `future` [L,H_kv,T+1,T] was made of.
    """
    n_tokens = future.shape[-1]
    known = (positions >= 0) & (positions < n_tokens)
    row = future[:, :, min(next_position, n_tokens)].to(positions.device)  # [L,H_kv,T]
    return row.gather(-1, positions.clamp(0, n_tokens - 1)).masked_fill(~known, 0.0)
