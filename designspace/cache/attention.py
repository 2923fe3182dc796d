"""The attention function registered with transformers, and the two passes that own what it writes to.

Every model call hands a pass in as the forward keyword `slots`; the function does nothing but give it the layer's post-RoPE
queries, keys and values. No `Cache` subclass, no hooks, no patched forward.

Shapes: B rows, H_q query heads, H_kv KV heads, G = H_q / H_kv, C slots, P padded prompt length, D head dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from designspace.axes import Arrival, Artefact, Gate, Geometry, Needs, Observed, Tracker
from designspace.cache.attend_operator import attend
from designspace.cache.causal import causal_attention, causal_mask
from designspace.cache.layer_call import LayerCall, refuse_unknown
from designspace.cache.observers import group_mean
from designspace.cache.packing import Prompt
from designspace.cache.region import Region, no_region
from designspace.cache.sentence_log import summed
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


class PrefillPass(Pass):
    """Full causal attention over one text, padded on the right to its length bucket."""

    def __init__(self, needs: Needs, geometry: Geometry, n_tokens: int, owners: tuple[int, ...] | None = None) -> None:
        """`owners`: for each layer the layer whose keys and values it attends to; None: each its own."""
        self.needs, self.geometry, self.n_tokens, self.owners = needs, geometry, n_tokens, owners
        self._keys: dict[int, Tensor] = {}
        self._values: dict[int, Tensor] = {}
        self._outputs: dict[int, Tensor] = {}
        self._queries: list[Tensor] = []
        self._accumulated: list[Tensor] = []
        self._last: list[Tensor] = []
        self._tracked: dict[Tracker, list[Tensor]] = {tracker: [] for tracker in needs.trackers if tracker.observes}
        self._gated: dict[Tracker | Gate, Tensor] = {}
        self._cosine: Tensor | None = None
        self._sentences: tuple[Tensor, Tensor] | None = None

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend causally and keep the layer's keys, values and what is needed of queries and attention."""
        layer = call.layer
        owner = layer if self.owners is None else self.owners[layer]
        if owner != layer:
            return self._kept_output(layer, self._attend(call, query, self._keys[owner], self._values[owner]))
        self._keys[layer], self._values[layer] = key, value
        if self.needs.queries:
            self._queries.append(query[:, :, max(self.n_tokens - self.needs.queries, 0) : self.n_tokens])
        if self.needs.weights:
            return self._kept_output(layer, self._attend_observed(call, query, key, value))
        return self._kept_output(layer, self._attend(call, query, key, value))

    def _attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return causal_attention(query, key, value, call)

    def _kept_output(self, layer: int, output: Tensor) -> Tensor:
        output = output.transpose(1, 2)
        if self.needs.layer_cosine:
            self._outputs[layer] = output
        return output

    def _attend_observed(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Form attention in blocks of queries, summing the columns over the real (unpadded) queries."""
        length, group = query.shape[2], self.geometry.group
        keys, values = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
        total = torch.zeros(*query.shape[:2], length, device=query.device)
        tracks = {t: torch.zeros(*key.shape[:3], t.channels, dtype=t.dtype, device=key.device) for t in self._tracked}
        outputs = []
        for start in range(0, length, _QUERY_BLOCK):
            block = query[:, :, start : start + _QUERY_BLOCK]
            mask = causal_mask(length, start, block.shape[2], call.window, query.device)
            logits = call.logits(block, keys).masked_fill(~mask, torch.finfo(torch.float32).min)
            weights = call.weights(logits)
            outputs.append(weights.to(values.dtype) @ values)
            real = weights[:, :, : max(self.n_tokens - start, 0)]
            total += real.sum(dim=2)
            if start < self.n_tokens <= start + block.shape[2]:
                self._last.append(weights[:, :, self.n_tokens - 1 - start])
            self._track(tracks, real, start)
        self._accumulated.append(group_mean(total, self.geometry))
        for tracker, state in tracks.items():
            self._tracked[tracker].append(state)
        return torch.cat(outputs, dim=2)

    def _track(self, tracks: dict[Tracker, Tensor], weights: Tensor, start: int) -> None:
        """Show the trackers one query after the other, as decoding would; weights: [1,H_q,n,P], of queries start …"""
        if not tracks:
            return
        positions = torch.arange(weights.shape[-1], device=weights.device)
        positions = torch.where(positions < self.n_tokens, positions, -1).expand(1, self.geometry.n_kv_heads, -1)
        for offset in range(weights.shape[2]):
            now = torch.tensor([start + offset], device=weights.device)
            for tracker, state in tracks.items():
                unseen = ((positions < 0) | (positions > now))[..., None]
                seen = tracker.observe_prompt(
                    state, weights[:, :, offset], positions.masked_fill(unseen[..., 0], -1), now
                )
                tracks[tracker] = seen.masked_fill(unseen, 0)

    def record_layer_cosines(self, inputs: tuple[Tensor, ...], projections: Tensor) -> None:
        """Measure how little attention turned the residual stream.

        inputs: per layer of the model the residual stream [1,P,hidden] before attention. projections: [L,H_q,D,hidden].
        """
        cosines = []
        for layer in self._keys:
            before = inputs[layer][0, : self.n_tokens].float()
            added = torch.einsum(
                "thd,hdm->tm", self._outputs[layer][0, : self.n_tokens].float(), projections[layer].float()
            )
            cosines.append(functional.cosine_similarity(before, before + added, dim=-1).mean())
        self._cosine = torch.stack(cosines)[:, None]

    def record_gates(self, inputs: Sequence[Tensor], artefacts: Mapping[str, Artefact]) -> None:
        """Note what the gates say of the prompt's tokens; inputs: [1,P,hidden] of every layer of the model."""
        for gate in self.needs.gates:
            opened = [
                gate.open(
                    artefacts[gate.artefact], Arrival(layer, inputs[layer], self._keys[layer], self._values[layer])
                )
                for layer in self._keys
            ]
            said = torch.stack(opened)  # [L,1,H_kv,P]
            position = torch.arange(said.shape[-1], device=said.device)
            if gate.of_previous:
                said = said.roll(-1, dims=-1).masked_fill(position == self.n_tokens - 1, torch.inf)
            self._gated[gate] = said.masked_fill(position >= self.n_tokens, 0).to(gate.dtype)[..., None]

    def record_sentences(self, hidden: Tensor, ends: list[int]) -> None:
        """Sum up the text's sentences, which end at these positions; hidden: [1,P,hidden], what the model's head reads."""
        self._sentences = summed(hidden[0, : self.n_tokens], ends)

    def prompt(self) -> Prompt:
        """Return what the pass has seen, stacked over the layers that own a cache."""
        keys = torch.stack(list(self._keys.values()))  # [L,1,H_kv,P,D]
        slot = torch.arange(keys.shape[3], device=keys.device)
        positions = torch.where(slot < self.n_tokens, slot, -1).expand(keys.shape[:4])
        return Prompt(keys, torch.stack(list(self._values.values())), positions, self._observed(), self.n_tokens)

    def _states(self) -> dict[Tracker | Gate, Tensor]:
        """Return the trackers' states [L,1,H_kv,P,channels]; those that wait for an event have none yet."""
        states: dict[Tracker | Gate, Tensor] = {one: torch.stack(states) for one, states in self._tracked.items()}
        heads, device = next(iter(self._keys.values())).shape[:3], next(iter(self._keys.values())).device
        for tracker in self.needs.trackers:
            if tracker not in states:
                shape = (len(self._keys), *heads, tracker.channels)
                states[tracker] = torch.zeros(shape, dtype=tracker.dtype, device=device)
        return states

    def _observed(self) -> Observed:
        observed = Observed(tracked={**self._states(), **self._gated}, layer_cosine=self._cosine)
        if self._sentences is not None:
            observed.sentence_ends, observed.sentence_sums = self._sentences
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


class PrefillPasses(Pass):
    """Several prompts through the model together, each attending by itself; rows beyond them repeat the first."""

    def __init__(self, passes: list[PrefillPass]) -> None:
        self.passes = passes

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Hand each row [1,...] of the batch to its own pass."""
        outputs = [
            one.attend(call, query[i : i + 1], key[i : i + 1], value[i : i + 1]) for i, one in enumerate(self.passes)
        ]
        return torch.cat([*outputs, *outputs[:1] * (len(query) - len(outputs))])
