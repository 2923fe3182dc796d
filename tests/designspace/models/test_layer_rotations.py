"""Models whose layers turn their keys each in its own way: found by trying, and followed by all that turns keys back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from designspace.axes import Artefact, Budget, Geometry, Scoring, View
from designspace.axes.randomness import stream_key
from designspace.axes.rotary import as_bands, unrotate, unrotate_layers
from designspace.cache.attention import Pass
from designspace.cache.causal import causal_attention
from designspace.cache.layer_call import LayerCall
from designspace.engine import Engine, Request
from designspace.models.loading import LoadedModel, prepare
from designspace.models.query_statistics import statistics_of
from designspace.registry import mechanism
from designspace.testing.model_families import SUPPORTED, random_model
from designspace.testing.views import view_of
from families.calibrations.duo_calibration import Means, last_row_logits
from families.decoding.greedy import Greedy
from families.representation.span_mean import turned
from families.scoring.expected_attention import ExpectedAttention
from families.scoring.triattention import TriAttention
from tests.conftest import toy_model

FAMILIES = ("Gemma 3", "SmolLM3")
DIM, LAYERS = 8, 3
FREQUENCIES = torch.tensor([[1.0, 0.3, 0.1, 0.01], [0.0] * 4, [2.0, 0.5, 0.02, 0.001]])
SCALINGS = (1.0, 1.0, 1.25)


@pytest.fixture(params=FAMILIES)
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    """A random model of a family with several kinds of layers."""
    kind, changes = SUPPORTED[request.param]
    return prepare(random_model(kind, changes))


class Heard(Pass):
    """Plain attention that remembers what every layer was handed."""

    def __init__(self) -> None:
        self.queries: list[Tensor] = []
        self.keys: list[Tensor] = []

    def attend(self, call: LayerCall, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Remember and attend."""
        self.queries.append(query[0])
        self.keys.append(key[0])
        return causal_attention(query, key, value, call).transpose(1, 2)


def keys_at(loaded: LoadedModel, start: int) -> list[Tensor]:
    """Return the keys [H,T,D] of every layer of one text that begins at a position."""
    ids = torch.tensor([[5, 9, 2, 7, 3, 11]])
    heard = Heard()
    loaded.forward(heard, input_ids=ids, position_ids=torch.arange(start, start + 6)[None])
    return heard.keys


def test_keys_turned_back_do_not_depend_on_their_place(loaded: LoadedModel) -> None:
    """In every layer, by what the geometry says of it; by what it says of another one they would."""
    assert loaded.geometry.layer_inv_freq is not None
    assert not loaded.geometry.rotation_note
    plain = []
    for start in (0, 40):
        positions = torch.arange(start, start + 6)
        bands = torch.stack([as_bands(keys.float()) for keys in keys_at(loaded, start)])
        plain.append(unrotate_layers(bands, positions, loaded.geometry))
        for layer in range(loaded.geometry.n_layers):
            alone = unrotate(bands[layer], positions, loaded.geometry.of_layer(layer))
            assert torch.equal(plain[-1][layer], alone)
    torch.testing.assert_close(plain[0], plain[1], atol=1e-4, rtol=1e-4)
    own = loaded.geometry.layer_inv_freq
    layer, other = next(
        (a, b) for a in range(len(own)) for b in range(len(own)) if own[a].any() and own[a].ne(own[b]).any()
    )
    wrong = unrotate(bands[layer], positions, loaded.geometry.of_layer(other))
    assert (wrong - plain[0][layer]).abs().max() > 1e-2


def test_query_statistics_are_of_each_layers_own_rotation(loaded: LoadedModel) -> None:
    """Next to a loop over layers and tokens."""
    text = (5, 9, 2, 7, 3, 11, 4)
    found = statistics_of(loaded, [text])
    heard = Heard()
    loaded.forward(heard, input_ids=torch.tensor([text]))
    for layer, query in enumerate(heard.queries):
        assert loaded.geometry.layer_inv_freq is not None and loaded.geometry.layer_scaling is not None
        half = query.shape[-1] // 2
        for head in range(query.shape[0]):
            total = torch.zeros(half, dtype=torch.complex128)
            for place in range(len(text)):
                band = torch.complex(query[head, place, :half].double(), query[head, place, half:].double())
                angle = place * loaded.geometry.layer_inv_freq[layer].double()
                total += band * torch.polar(torch.ones_like(angle), -angle) / loaded.geometry.layer_scaling[layer]
            torch.testing.assert_close(
                found["q_mean_real"][layer, head].double(), total.real / len(text), atol=1e-5, rtol=1e-4
            )


@pytest.mark.parametrize("name", ["triattention", "alpha", "expected-attention"])
def test_systems_run_on_such_models(loaded: LoadedModel, name: str) -> None:
    """With statistics of their own, cut many times, the batch's rows the same whoever is beside them."""
    found = statistics_of(loaded, [(5, 9, 2, 7, 3, 11, 4)])
    artefacts = {need: Artefact(need, found) for need in mechanism(name).needs().calibrations}
    arm = mechanism(name).override(name, decoding=Greedy())
    engine = Engine(
        replace(loaded, eos_ids=frozenset()), arm, Budget(48), rows=2, max_new_tokens=60, max_prompt_tokens=12,
        artefacts=artefacts,
    )  # fmt: skip
    requests = [Request(f"p{n}", (5, 9, 2, 7, 3 + n), stream_key(1, f"p{n}", 0)) for n in range(3)]
    texts = {g.problem_id: g for g in engine.generate(requests)}
    assert all(g.n_events for g in texts.values())
    (alone,) = engine.generate(requests[2:])
    assert alone.token_ids == texts["p2"].token_ids


def mixed() -> Geometry:
    """A geometry of three layers: two kinds of rotation, and none."""
    return Geometry(
        LAYERS, 4, 2, DIM, FREQUENCIES[0], layer_inv_freq=FREQUENCIES, layer_scaling=SCALINGS,
    )  # fmt: skip


def view_with(geometry: Geometry, layers: slice, artefact: Artefact | None = None) -> View:
    """A random event of some of three layers."""
    generator = torch.Generator().manual_seed(7)
    keys, values = (torch.randn(LAYERS, 2, 2, 11, DIM, generator=generator) for _ in range(2))
    queries = torch.randn(LAYERS, 2, 4, 5, DIM, generator=generator)
    view = view_of(keys[layers], values[layers], queries=queries[layers], next_position=30)
    artefacts = {} if artefact is None else {artefact.name: artefact}
    return replace(view, context=replace(view.context, geometry=geometry, artefacts=artefacts))


def statistics(layers: slice) -> Artefact:
    """Random query statistics of some of three layers."""
    generator = torch.Generator().manual_seed(9)
    whole = {name: torch.randn(LAYERS, 4, DIM // 2, generator=generator) for name in ("q_mean_real", "q_mean_imag")} | {
        "q_abs_mean": 3 + torch.rand(LAYERS, 4, DIM // 2, generator=generator)
    }
    return Artefact("q-stats", {name: tensor[layers] for name, tensor in whole.items()})


@pytest.mark.parametrize(
    "scoring",
    [
        TriAttention(scope="layer-head", noise=0.0),
        TriAttention(scope="layer-head", noise=0.0, aggregate="max"),
        ExpectedAttention(window=5),
    ],
    ids=["triattention", "triattention max", "expected-attention"],
)
def test_scores_are_those_of_each_layer_alone(scoring: Scoring) -> None:
    """All layers at once, next to one after the other with a plain geometry of that layer."""
    together = scoring.score(view_with(mixed(), slice(None), statistics(slice(None))))
    for layer in range(LAYERS):
        only = slice(layer, layer + 1)
        geometry = replace(mixed().of_layer(layer), n_layers=1)
        alone = scoring.score(view_with(geometry, only, statistics(only)))
        torch.testing.assert_close(together[only], alone, atol=1e-5, rtol=1e-5)


def test_carried_keys_are_those_of_each_layer_alone() -> None:
    """Keys moved to the position of another slot."""
    carrier = torch.full((LAYERS, 2, 2, 11), -1)
    carrier[..., 2], carrier[..., 3] = 8, 8
    together = turned(view_with(mixed(), slice(None)), carrier)
    for layer in range(LAYERS):
        only = slice(layer, layer + 1)
        geometry = replace(mixed().of_layer(layer), n_layers=1)
        torch.testing.assert_close(together[only], turned(view_with(geometry, only), carrier[only]))
    assert torch.equal(together[1], view_with(mixed(), slice(1, 2)).keys[0]), "a layer that turns nothing"


def test_duo_logits_are_those_of_each_layer_alone() -> None:
    """The mean query and key of a head, placed at many positions."""
    generator = torch.Generator().manual_seed(3)

    def means(n_heads: int) -> Means:
        bands = torch.randn(LAYERS, n_heads, DIM // 2, dtype=torch.complex128, generator=generator)
        return Means(bands, torch.zeros(LAYERS, n_heads, 0, dtype=torch.float64))

    queries, keys = means(4), means(2)
    together = last_row_logits(queries, keys, mixed(), 20)
    for layer in range(LAYERS):
        only = slice(layer, layer + 1)
        geometry = replace(mixed().of_layer(layer), n_layers=1)
        alone = last_row_logits(Means(*(x[only] for x in queries)), Means(*(x[only] for x in keys)), geometry, 20)
        torch.testing.assert_close(together[only], alone)


def test_a_plain_model_has_one_rotation_for_all_layers() -> None:
    """So nothing changes for it, to the bit."""
    geometry = toy_model().geometry
    assert geometry.layer_inv_freq is None and geometry.layer_scaling is None
    assert geometry.of_layer(1) is geometry
    assert geometry.frequencies().shape[0] == geometry.scalings().shape[0] == 1
