"""Passes over prompts: causal attention over whole texts or over one block of a text after another, and what is seen of it.

Shapes: L layers, H_q query heads, H_kv KV heads, P padded length of a text or block, S slots that hold what came before it,
K = S + P keys that a block attends to, D head dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from designspace.axes import Arrival, Artefact, Gate, Geometry, Needs, Observed, Tracker
from designspace.cache.attention import Pass
from designspace.cache.causal import causal_attention, causal_mask, masked_attention
from designspace.cache.layer_call import LayerCall
from designspace.cache.observers import group_mean
from designspace.cache.packing import Prompt
from designspace.cache.sentence_log import joined, summed

_QUERY_BLOCK = 256  # queries per block where prompt attention is formed explicitly, to bound its memory …
_MOST_LOGITS = _QUERY_BLOCK * 2048  # … and as many of a block with something before it as have so many logits per head


class PrefillPass(Pass):
    """Causal attention over one text, or over the next block of one, padded on the right to its length bucket."""

    def __init__(
        self,
        needs: Needs,
        geometry: Geometry,
        n_tokens: int,
        owners: tuple[int, ...] | None = None,
        before: Prompt | None = None,
    ) -> None:
        """Begin a pass over `n_tokens` tokens.

        owners: for each layer the layer whose keys and values it attends to; None: each its own. before: what is held of
        the text so far, None at its beginning; its slots are filled from the front, in position order.
        """
        self.needs, self.geometry, self.n_tokens, self.owners = needs, geometry, n_tokens, owners
        self._before, self._start = before, 0 if before is None else before.n_tokens
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
            return self._kept_output(layer, self._attend(call, query, owner))
        self._keys[layer], self._values[layer] = key, value
        if self.needs.queries:
            self._queries.append(query[:, :, max(self.n_tokens - self.needs.queries, 0) : self.n_tokens])
        if self.needs.weights:
            return self._kept_output(layer, self._attend_observed(call, query))
        return self._kept_output(layer, self._attend(call, query, layer))

    def _context(self, owner: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values [1,H_kv,K,D] that queries may attend to, of a layer that has its own."""
        key, value = self._keys[owner], self._values[owner]
        if self._before is None:
            return key, value
        place = list(self._keys).index(owner)
        return torch.cat([self._before.keys[place], key], dim=2), torch.cat([self._before.values[place], value], dim=2)

    def _positions(self, place: int, n_new: int, device: torch.device) -> Tensor:
        """Return the positions [1,H_kv or 1,K] of those keys, -1 in free slots; 1: all heads hold the same."""
        new = torch.arange(self._start, self._start + n_new, device=device)
        if self._before is None:
            return new.view(1, 1, -1)
        held = self._before.positions[place]
        held = held[:, :1] if self._before.is_whole else held
        return torch.cat([held, new.expand(*held.shape[:2], -1)], dim=-1)

    def _visible(self, place: int, first: int, n_queries: int, n_new: int, window: int | None, like: Tensor) -> Tensor:
        """Return which keys the pass's queries first … first+n_queries-1 may see, bool [n_queries,K] or [1,H_q,n_queries,K]."""
        if self._before is None:
            return causal_mask(n_new, first, n_queries, window, like.device)
        key = self._positions(place, n_new, like.device)[:, :, None]
        query = torch.arange(self._start + first, self._start + first + n_queries, device=like.device)[:, None]
        visible = (key >= 0) & (key <= query)
        visible = visible if window is None else visible & (key > query - window)
        return visible if visible.shape[1] == 1 else visible.repeat_interleave(self.geometry.group, 1)

    def _attend(self, call: LayerCall, query: Tensor, owner: int) -> Tensor:
        key, value = self._context(owner)
        if self._before is None:
            return causal_attention(query, key, value, call)
        n_queries, place = query.shape[2], list(self._keys).index(owner)
        return masked_attention(
            query, key, value, self._visible(place, 0, n_queries, n_queries, call.window, query), call
        )

    def _kept_output(self, layer: int, output: Tensor) -> Tensor:
        output = output.transpose(1, 2)
        if self.needs.layer_cosine:
            self._outputs[layer] = output
        return output

    def _attend_observed(self, call: LayerCall, query: Tensor) -> Tensor:
        """Form attention in blocks of queries, summing the columns over the real (unpadded) queries."""
        n_queries, group, place = query.shape[2], self.geometry.group, len(self._keys) - 1
        key, value = self._context(call.layer)
        keys, values = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
        total = torch.zeros(*query.shape[:2], keys.shape[2], device=query.device)
        tracks = {tracker: self._track_begun(tracker, place, key) for tracker in self._tracked}
        step = _QUERY_BLOCK if self._before is None else max(1, min(_QUERY_BLOCK, _MOST_LOGITS // keys.shape[2]))
        outputs = []
        for start in range(0, n_queries, step):
            block = query[:, :, start : start + step]
            visible = self._visible(place, start, block.shape[2], n_queries, call.window, query)
            logits = call.logits(block, keys).masked_fill(~visible, torch.finfo(torch.float32).min)
            weights = call.weights(logits)
            outputs.append(weights.to(values.dtype) @ values)
            real = weights[:, :, : max(self.n_tokens - start, 0)]
            total += real.sum(dim=2)
            if start < self.n_tokens <= start + block.shape[2]:
                self._last.append(weights[:, :, self.n_tokens - 1 - start])
            self._track(tracks, real, place, start)
        self._accumulated.append(self._with_accumulated(group_mean(total, self.geometry), place))
        for tracker, state in tracks.items():
            self._tracked[tracker].append(state)
        return torch.cat(outputs, dim=2)

    def _with_accumulated(self, of_block: Tensor, place: int) -> Tensor:
        """Add what earlier blocks gave to what this one gave, [1,H_kv,K]."""
        if self._before is None or self._before.observed.accumulated is None:
            return of_block
        earlier = self._before.observed.accumulated[place]
        return of_block + functional.pad(earlier, (0, of_block.shape[-1] - earlier.shape[-1]))

    def _track_begun(self, tracker: Tracker, place: int, key: Tensor) -> Tensor:
        """Return a tracker's state [1,H_kv,K,channels] before the pass: what it is of held tokens, and zero."""
        state = torch.zeros(*key.shape[:3], tracker.channels, dtype=tracker.dtype, device=key.device)
        if self._before is not None:
            state[:, :, : self._before.keys.shape[3]] = self._before.observed.tracked[tracker][place]
        return state

    def _track(self, tracks: dict[Tracker, Tensor], weights: Tensor, place: int, start: int) -> None:
        """Show the trackers one query after the other, as decoding would; weights: [1,H_q,n,K], of queries start …"""
        if not tracks:
            return
        n_new = weights.shape[-1] - (0 if self._before is None else self._before.keys.shape[3])
        positions = self._positions(place, n_new, weights.device)
        end = self._start + self.n_tokens
        positions = torch.where(positions < end, positions, -1).expand(1, self.geometry.n_kv_heads, -1)
        for offset in range(weights.shape[2]):
            now = torch.tensor([self._start + start + offset], device=weights.device)
            for tracker, state in tracks.items():
                unseen = ((positions < 0) | (positions > now))[..., None]
                seen = tracker.observe_prompt(
                    state, weights[:, :, offset], positions.masked_fill(unseen[..., 0], -1), now
                )
                tracks[tracker] = seen.masked_fill(unseen, 0)

    def record_layer_cosines(self, inputs: tuple[Tensor, ...], projections: Tensor) -> None:
        """Measure how little attention turned the residual stream, in the mean over the text so far.

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
        if self._before is not None and self._before.observed.layer_cosine is not None:
            share = self.n_tokens / (self._start + self.n_tokens)
            self._cosine = self._before.observed.layer_cosine.lerp(self._cosine, share)

    def record_gates(self, inputs: Sequence[Tensor], artefacts: Mapping[str, Artefact]) -> None:
        """Note what the gates say of the tokens; inputs: [1,P,hidden] of every layer of the model."""
        for gate in self.needs.gates:
            opened = [
                gate.open(
                    artefacts[gate.artefact], Arrival(layer, inputs[layer], self._keys[layer], self._values[layer])
                )
                for layer in self._keys
            ]
            said = torch.stack(opened)  # [L,1,H_kv,P]
            position, first = torch.arange(said.shape[-1], device=said.device), said[..., :1]
            if gate.of_previous:
                said = said.roll(-1, dims=-1).masked_fill(position == self.n_tokens - 1, torch.inf)
            said = said.masked_fill(position >= self.n_tokens, 0).to(gate.dtype)[..., None]
            self._gated[gate] = self._with_gated(gate, said, first)

    def _with_gated(self, gate: Gate, said: Tensor, first: Tensor) -> Tensor:
        """Put what a gate said of held tokens before what it says now, [L,1,H_kv,K,1].

        first: what it says at this block's first token, [L,1,H_kv,1]: with `of_previous`, of the one before, if it is held.
        """
        if self._before is None:
            return said
        held = self._before.observed.tracked[gate]
        if gate.of_previous:
            newest = self._before.positions == self._start - 1
            held = torch.where(newest[..., None], first.to(gate.dtype)[..., None], held)
        return torch.cat([held, said], dim=3)

    def record_sentences(self, hidden: Tensor, ends: list[int]) -> None:
        """Sum up sentences, which end at these places of the pass; hidden: [1,P,hidden], what the model's head reads."""
        new = summed(hidden[0, : self.n_tokens], ends)
        observed = None if self._before is None else self._before.observed
        if observed is None or observed.sentence_ends is None or observed.sentence_sums is None:
            self._sentences = new
        else:
            self._sentences = joined((observed.sentence_ends, observed.sentence_sums), new, self._start)

    def prompt(self) -> Prompt:
        """Return what the pass has seen of the text and what was held before, stacked over the layers that own a cache."""
        keys, values = (
            torch.stack(list(self._keys.values())),
            torch.stack(list(self._values.values())),
        )  # [L,1,H_kv,P,D]
        slot = torch.arange(keys.shape[3], device=keys.device)
        positions = torch.where(slot < self.n_tokens, self._start + slot, -1).expand(keys.shape[:4])
        n_tokens, before = self._start + self.n_tokens, self._before
        if before is None:
            return Prompt(keys, values, positions, self._observed(keys.shape[:4]), n_tokens)
        keys, values = torch.cat([before.keys, keys], dim=3), torch.cat([before.values, values], dim=3)
        positions = torch.cat([before.positions, positions], dim=3)
        return Prompt(keys, values, positions, self._observed(keys.shape[:4]), n_tokens, before.is_whole)

    def _states(self, slots: Sequence[int]) -> dict[Tracker | Gate, Tensor]:
        """Return the trackers' states [L,1,H_kv,K,channels]; new tokens of those that wait for an event have none yet."""
        states: dict[Tracker | Gate, Tensor] = {one: torch.stack(states) for one, states in self._tracked.items()}
        for tracker in self.needs.trackers:
            if tracker not in states:
                device = next(iter(self._keys.values())).device
                state = torch.zeros(*slots, tracker.channels, dtype=tracker.dtype, device=device)
                if self._before is not None:
                    state[..., : self._before.keys.shape[3], :] = self._before.observed.tracked[tracker]
                states[tracker] = state
        return states

    def _observed(self, slots: Sequence[int]) -> Observed:
        observed = Observed(tracked={**self._states(slots), **self._gated}, layer_cosine=self._cosine)
        if self._sentences is not None:
            observed.sentence_ends, observed.sentence_sums = self._sentences
        if self.needs.queries:
            seen = torch.stack(self._queries)
            if self._before is not None and self._before.observed.queries is not None:
                seen = torch.cat([self._before.observed.queries, seen], dim=3)[:, :, :, -self.needs.queries :]
            missing = self.needs.queries - seen.shape[3]
            observed.queries = functional.pad(seen, (0, 0, missing, 0))
            end = self._start + self.n_tokens
            newest = torch.arange(end - self.needs.queries, end, device=seen.device)
            observed.query_positions = newest.clamp(min=-1)[None]
        if self.needs.accumulated:
            observed.accumulated = torch.stack(self._accumulated)
        if self.needs.last:
            observed.last = torch.stack(self._last)
        return observed


class PrefillPasses(Pass):
    """Several texts through the model together, each attending by itself; rows beyond them repeat the first."""

    def __init__(self, passes: list[PrefillPass]) -> None:
        self.passes = passes

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Hand each row [1,...] of the batch to its own pass."""
        outputs = [
            one.attend(call, query[i : i + 1], key[i : i + 1], value[i : i + 1]) for i, one in enumerate(self.passes)
        ]
        return torch.cat([*outputs, *outputs[:1] * (len(query) - len(outputs))])
