"""A small cache of random tokens on the CPU on which an arm really runs: for the bytes that it needs, not for its numbers."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from designspace.axes import Geometry, Needs, Observed, RunContext
from designspace.cache.attention import DecodePass
from designspace.cache.layer_call import LayerCall
from designspace.cache.packing import Prompt, keep_all
from designspace.engine.cache_plan import CachePlan
from designspace.engine.compress import compress

_CPU = torch.device("cpu")


class ProbeCache:
    """`rows` full rows of one arm in the first `layers` of a model's layers with a cache."""

    def __init__(
        self,
        plan: CachePlan,
        *,
        rows: int,
        layers: int,
        slots: int,
        target: int,
        hidden: int,
    ) -> None:
        """Fill all slots but two. `target`: mean size after an event. `hidden`: width of the residual stream."""
        self.mechanism, self.needs, self.target = plan.mechanism, plan.mechanism.needs(), target
        self.geometry = geometry = _first(layers, plan.cache_geometry)
        self.random, self.dtype, self.hidden = torch.Generator().manual_seed(0), plan.dtype, hidden
        n_slots, self.n_tokens = max(slots, 2), max(slots - 2, 1)
        small = replace(plan, geometry=geometry, owners=None, capacity=n_slots, width=n_slots)
        self.cache = small.allocate(rows, _CPU)
        self.cache.fused = self.cache.move_in_place = None  # the bytes must not depend on whether there is a compiler
        shape = (geometry.n_layers, geometry.n_query_heads, geometry.head_dim, hidden)
        projection = self._normal(*shape) if plan.reads_projection else None
        prompt_slots = -(-plan.prompt_slots * target // plan.schedule.low)  # as in the whole cache, in proportion
        self.context = RunContext.of(
            self.mechanism.scoring, geometry, n_slots, plan.artefacts, projection, self.target, prompt_slots
        )
        self.text = self._text()
        for row in range(rows):
            self.cache.load(row, self.text, keep_all(self.text), row)

    def load(self) -> None:
        """Load a whole text into the first row."""
        self.cache.load(0, self.text, keep_all(self.text), 0)

    def step(self) -> None:
        """Decode one token of every row, without the model around attention."""
        geometry, decode = self.geometry, DecodePass(self.cache)
        self.cache.begin_step()
        for layer in range(geometry.n_layers):
            query = self._normal(self.cache.rows, geometry.n_query_heads, 1, geometry.head_dim)
            key, value = self._normal(2, self.cache.rows, geometry.n_kv_heads, 1, geometry.head_dim)
            decode.attend(LayerCall(layer, geometry.head_dim**-0.5), query, key, value)
        self.cache.end_step()

    def event(self) -> None:
        """Cut all rows."""
        rows = torch.arange(self.cache.rows)
        view = self.cache.view(rows, self.context, torch.full_like(rows, self.target))
        if self.needs.foresight:
            view.observed.foreseen = torch.rand(view.positions.shape, generator=self.random)
        self.cache.compact(rows, len(rows), view, compress(self.mechanism, view))

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random).to(self.dtype)

    def _text(self) -> Prompt:
        """Return a text as a forward pass leaves it: keys and values [L,1,H_kv,P,D]."""
        geometry, n = self.geometry, self.n_tokens
        heads = (geometry.n_layers, 1, geometry.n_kv_heads, n)
        keys, values = self._normal(2, *heads, geometry.head_dim)
        positions = torch.arange(n).expand(heads)
        return Prompt(keys, values, positions, self._observed(self.needs, heads), n)

    def _observed(self, needs: Needs, heads: tuple[int, ...]) -> Observed:
        n_layers, _, _, n = heads
        n_query, dim = self.geometry.n_query_heads, self.geometry.head_dim
        window = torch.arange(n - needs.queries, n).clamp(min=-1)[None]
        ends = range(7, n, 8)
        return Observed(
            self._normal(n_layers, 1, n_query, needs.queries, dim) if needs.queries else None,
            window if needs.queries else None,
            torch.rand(heads, generator=self.random) if needs.accumulated else None,
            torch.rand(n_layers, 1, n_query, n, generator=self.random) if needs.last else None,
            {one: torch.zeros(*heads, one.channels, dtype=one.dtype) for one in needs.per_slot},
            torch.rand(n_layers, 1, generator=self.random) if needs.layer_cosine else None,
            sentence_ends=torch.tensor([[*ends, -1]]) if needs.sentences else None,
            sentence_sums=torch.randn(1, len(ends) + 1, self.hidden, generator=self.random)
            if needs.sentences
            else None,
        )


def _first(n_layers: int, geometry: Geometry) -> Geometry:
    """Return the geometry of the first layers; `layers` says which they are to everything that is measured per layer."""
    layers = geometry.layers or tuple(range(geometry.n_layers))
    return replace(geometry, n_layers=n_layers, layers=layers[:n_layers])
