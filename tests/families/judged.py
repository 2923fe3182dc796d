"""A running engine whose scores are given to tokens once, against sets in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import Artefact, Mechanism, Request
from designspace.engine import Engine, EngineHook, RowState
from designspace.models.loading import LoadedModel

Number = Callable[[int, int, Tensor], float]  # of a layer and head, for what the layer's projections read of a token


class Judged(EngineHook):
    """Follows the positions of every head, and compares them with the cache after every step.

    Numbers are computed from the tensors that the model's own projections were called with. number: see `Number`.
    of_previous: whether it speaks of the token before the one that is read.
    """

    def __init__(self, engine: Engine, number: Number, tau: float, k: int, *, of_previous: bool) -> None:
        self.engine, self.number, self.tau, self.k, self.of_previous = engine, number, tau, k, of_previous
        self.inputs: dict[int, Tensor] = {}
        self.held: dict[tuple[int, int, int], dict[int, float]] = {}  # by layer, row and head: numbers by position
        self.n_ragged = self.n_evicted = 0
        layers = engine.loaded.model.model.layers
        self.handles = [
            layer.self_attn.q_proj.register_forward_pre_hook(self._noter(n)) for n, layer in enumerate(layers)
        ]

    def _noter(self, layer: int) -> Any:
        def note(_: object, arguments: tuple[Tensor, ...]) -> None:
            self.inputs[layer] = arguments[0]

        return note

    def on_start(self, state: RowState) -> None:
        """Judge the tokens of a prompt."""
        ids = state.request.prompt_ids
        self.engine.prefill.encode(ids)
        for layer, inputs in self.inputs.items():
            for head in range(self.engine.cache.geometry.n_kv_heads):
                held: dict[int, float] = {}
                for position in range(len(ids)):
                    self._arrive(held, position, self.number(layer, head, inputs[0, position]))
                self.held[layer, state.index, head] = self._kept(held, len(ids))
        self._compare(state)

    def _arrive(self, held: dict[int, float], position: int, number: float) -> None:
        held[position] = float("inf") if self.of_previous else number
        if self.of_previous and position - 1 in held:
            held[position - 1] = number

    def on_step(self, states: Collection[RowState]) -> None:
        """Take up the new token of each head."""
        for state in states:
            position = int(self.engine.cache.positions[:, state.index].max())
            for (layer, row, head), held in self.held.items():
                if row == state.index:
                    self._arrive(held, position, self.number(layer, head, self.inputs[layer][row, 0]))

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Judge the tokens of rows at whose step that is done, and compare."""
        for state in states:
            for place, held in self.held.items():
                if place[1] == state.index and state.step % self.k == 0:
                    self.held[place] = self._kept(held, len(state.request.prompt_ids) + state.step)
            self._compare(state)

    def _kept(self, held: dict[int, float], length: int) -> dict[int, float]:
        scoring = self.engine.mechanism.scoring
        assert isinstance(scoring.recent, int)
        kept = {
            position: number
            for position, number in held.items()
            if position < scoring.sinks or position >= length - scoring.recent or number >= self.tau
        }
        self.n_evicted += len(held) - len(kept)
        return kept

    def _compare(self, state: RowState) -> None:
        sizes = set()
        for (layer, row, head), held in self.held.items():
            if row == state.index:
                positions = self.engine.cache.positions[layer, row, head]
                assert positions[positions >= 0].tolist() == sorted(held)
                sizes.add(len(held))
        self.n_ragged += len(sizes) > 1


def follow(
    loaded: LoadedModel,
    mechanism: Mechanism,
    artefacts: dict[str, Artefact],
    number: Number,
    *,
    of_previous: bool = False,
) -> Judged:
    """Run more texts than rows, comparing after every step; the ledger must say what the sets say in the end."""
    engine = Engine(
        replace(loaded, eos_ids=frozenset()), mechanism, None, rows=2, max_new_tokens=24, max_prompt_tokens=20,
        artefacts=artefacts, burst=1,
    )  # fmt: skip
    cadence = mechanism.cadence
    assert cadence.least_score is not None
    engine.hook = judged = Judged(engine, number, cadence.least_score, cadence.k, of_previous=of_previous)  # type: ignore[attr-defined]
    random = torch.Generator().manual_seed(0)
    prompts = [tuple(torch.randint(2, 97, (n,), generator=random).tolist()) for n in (5, 12, 20, 17)]
    done = list(engine.generate(Request(str(n), ids, b"%d" % n) for n, ids in enumerate(prompts)))
    for handle in judged.handles:
        handle.remove()
    total = engine.cache.geometry.n_heads_total
    assert sum(generation.n_evicted for generation in done) == judged.n_evicted > 40
    assert all((size * total) == pytest.approx(round(size * total)) for g in done for size in g.cache_tokens_per_step)
    return judged
