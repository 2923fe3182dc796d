"""What gates say of tokens at their arrival stays with the tokens through events, refills and shared layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from designspace.axes import Arrival, Artefact, Budget, Gate, Mechanism, Needs, Request, Scoring, Selector, View
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.engine.hook import EngineHook
from designspace.engine.prefill import Prefill
from designspace.engine.row import RowState
from designspace.errors import DeclarationError
from designspace.models.loading import LoadedModel
from families.cadence.every_k import EveryK
from families.decoding.greedy import Greedy
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.selectors.top_k import TopK
from tests.conftest import toy_model

WEIGHTS = {"made-up": Artefact("made-up", {"by_layer": torch.tensor([3.0, 5.0])})}


@dataclass(frozen=True)
class Sums(Gate):
    """The layer's number times the mean input, and the sums of key and value."""

    artefact: str = "made-up"

    def open(self, weights: Artefact, arrival: Arrival) -> Tensor:
        """Return one number for each KV head and token."""
        scale = weights["by_layer"][arrival.layer]
        return scale * arrival.inputs.mean(dim=-1)[:, None] + arrival.keys.sum(dim=-1) + 2 * arrival.values.sum(dim=-1)


@dataclass(frozen=True)
class BySums(Scoring):
    """Prefer tokens of which the gate said much."""

    kind: ClassVar[str] = "by-sums"
    selector: Selector = field(default=TopK())

    def needs(self) -> Needs:
        """Return the need for the gate."""
        return Needs(gates=(Sums(),))

    def score(self, view: View) -> Tensor:
        """Return what the gate said."""
        return view.gated(Sums())


def arm() -> Mechanism:
    """Return a mechanism whose heads keep different tokens."""
    return Mechanism("sums", BySums(), Uniform(), EveryK(k=4), FullPrecision(), Greedy())


class Seen(EngineHook):
    """Compares every slot's number with the inputs that the model's own projections were called with."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.inputs = engine, {}
        self.means: defaultdict[int, dict[tuple[int, int], float]] = defaultdict(dict)
        self.n_checked = self.n_ragged = 0
        layers = engine.loaded.model.model.layers
        self.handles = [
            layer.self_attn.q_proj.register_forward_pre_hook(self._noter(n)) for n, layer in enumerate(layers)
        ]

    def _noter(self, layer: int) -> Any:
        def note(_: object, arguments: tuple[Tensor, ...]) -> None:
            self.inputs[layer] = arguments[0]

        return note

    def on_start(self, state: RowState) -> None:
        """Forget what the row held."""
        self.means[state.index] = {}

    def on_step(self, states: Collection[RowState]) -> None:
        """Note the means of the new tokens' inputs, and check all slots of generated tokens."""
        for state in states:
            newest = int(self.engine.cache.positions[:, state.index].max())
            for layer, inputs in self.inputs.items():
                self.means[state.index][layer, newest] = float(inputs[state.index, 0].mean())
        self._check(states)

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Check again what has been moved."""
        self._check(states)

    def _check(self, states: Collection[RowState]) -> None:
        cache = self.engine.cache
        held = cache.observers.tracked[Sums()][..., 0]
        layers = range(cache.geometry.n_layers) if cache.geometry.layers is None else cache.geometry.layers
        for state in states:
            for index, layer in enumerate(layers):
                keys, values, positions = (x[state.index] for x in cache.read(index))
                self.n_ragged += int(not torch.equal(positions[0], positions[1]))
                for head, slot in (positions >= len(state.request.prompt_ids)).nonzero().tolist():
                    mean = self.means[state.index].get((layer, int(positions[head, slot])))
                    if mean is None:  # of a step within a burst that nobody was told of
                        continue
                    said = (3.0, 5.0)[layer] * mean + keys[head, slot].sum() + 2 * values[head, slot].sum()
                    assert float(held[index, state.index, head, slot]) == pytest.approx(float(said), abs=1e-4)
                    self.n_checked += 1


@pytest.mark.parametrize("owners", [None, [0, 0]])
def test_a_number_stays_with_its_token(owners: list[int] | None) -> None:
    """In more texts than rows, whose heads keep different tokens; also where the second layer reads the first one's cache."""
    loaded = toy_model("llama", **({} if owners is None else {"kv_owners": owners}))
    engine = Engine(
        loaded, arm(), Budget(10), rows=2, max_new_tokens=24, max_prompt_tokens=20, artefacts=WEIGHTS, burst=1
    )
    engine.hook = seen = Seen(engine)
    random = torch.Generator().manual_seed(0)
    prompts = [tuple(torch.randint(2, 97, (n,), generator=random).tolist()) for n in (5, 12, 20)]
    list(engine.generate(Request(str(n), ids, stream_key(0, str(n), 0)) for n, ids in enumerate(prompts)))
    for handle in seen.handles:
        handle.remove()
    assert seen.n_checked > 200
    assert seen.n_ragged > 0


def test_prompts(toy_llama: LoadedModel) -> None:
    """A prompt's tokens have the numbers of the model run without padding, and padding has none."""
    ids = (5, 9, 31, 7, 80)
    inputs: list[Tensor] = []
    handles = [
        layer.self_attn.q_proj.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        for layer in toy_llama.model.model.layers
    ]
    prompt, _ = Prefill(toy_llama, Needs(gates=(Sums(),)), None, None, WEIGHTS).encode(ids)
    for handle in handles:
        handle.remove()
    found = prompt.observed.tracked[Sums()][:, 0, :, :, 0]
    for layer, scale in enumerate((3.0, 5.0)):
        mean = inputs[layer][0].mean(dim=-1)
        sums = prompt.keys[layer, 0].sum(dim=-1) + 2 * prompt.values[layer, 0].sum(dim=-1)
        torch.testing.assert_close(found[layer, :, :5], (scale * mean + sums)[:, :5])
    assert not found[..., 5:].any()


def test_a_declared_gate_brings_its_calibration() -> None:
    """So a sweep looks for it, and its content is part of a cell's identity."""
    needs = Needs(calibrations=("q-stats",)) | Needs(gates=(Sums(),))
    assert needs.calibrations == ("made-up", "q-stats")
    assert needs.gates == (Sums(),)
    assert not needs.weights


def test_bytes_are_charged(toy_llama: LoadedModel) -> None:
    """Four for each slot that is filled."""
    plain = Mechanism("plain", TopSums(), Uniform(), EveryK(k=4), FullPrecision(), Greedy())
    sizes = []
    for mechanism in (plain, arm()):
        engine = Engine(
            toy_llama, mechanism, Budget(10), rows=1, max_new_tokens=4, max_prompt_tokens=8, artefacts=WEIGHTS
        )
        counts = torch.full_like(engine.cache.counts, 3)
        sizes.append(int(engine.cache.aux_bytes(counts)))
    assert sizes[1] - sizes[0] == 4 * 3 * toy_llama.geometry.n_heads_total


@dataclass(frozen=True)
class TopSums(Scoring):
    """Prefer tokens whose keys sum to much: the same without a gate."""

    kind: ClassVar[str] = "top-sums"
    selector: Selector = field(default=TopK())

    def needs(self) -> Needs:
        """Return the need for the keys."""
        return Needs(keys=True)

    def score(self, view: View) -> Tensor:
        """Return the sums."""
        return view.keys.sum(dim=-1).float()


def test_what_cannot_feed_a_gate_is_refused(toy_llama: LoadedModel) -> None:
    """Compiled steps, and models whose attention reads the residual stream without a norm of its own."""
    sizes: dict[str, Any] = {"rows": 1, "max_new_tokens": 4, "max_prompt_tokens": 8, "artefacts": WEIGHTS}
    with pytest.raises(DeclarationError, match="step 'compiled' does not hand out what gates read"):
        Engine(toy_llama, arm(), Budget(10), step="compiled", **sizes)
    with pytest.raises(DeclarationError, match=r"gates read the input of attention after a norm, .*'olmo2'"):
        Engine(toy_model("olmo2"), arm(), Budget(10), **sizes)
