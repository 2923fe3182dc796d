"""KVSharer: who owns a cache, a generation against a slow reference, and the greedy calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from designspace.axes import Artefact, Budget, Generation, Geometry, Mechanism, Request
from designspace.axes.randomness import stream_key
from designspace.cache.layer_call import LayerCall
from designspace.engine import Engine
from designspace.errors import CalibrationError, DeclarationError
from designspace.models.calibration import Corpus, save_artefact
from designspace.models.loading import LoadedModel
from families.cadence.every_k import EveryK
from families.cadence.never import Never
from families.calibrations import kv_sharer_calibration
from families.calibrations.kv_sharer_calibration import (
    distances,
    mean_cache,
    mean_cosine,
    measure,
    ranked_pairs,
    texts_of,
)
from families.decoding.greedy import Greedy
from families.head_routing.kv_sharer import ARTEFACT, KVSharer, owners_of
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.full import Full
from families.scoring.h2o import H2O
from tests.conftest import toy_model

N_NEW = 12


def artefact(*pairs: tuple[int, int]) -> dict[str, Artefact]:
    """Return a calibration that accepted these replacements."""
    return {ARTEFACT: Artefact(ARTEFACT, {"pairs": torch.tensor(pairs, dtype=torch.int64).view(-1, 2)})}


def geometry(n_layers: int) -> Geometry:
    """Return a geometry of so many layers."""
    return Geometry(n_layers, 4, 2, 16, torch.ones(8))


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], (0, 1, 2, 3, 4)),
        ([(3, 1)], (0, 1, 2, 1, 4)),
        ([(4, 2), (2, 0)], (0, 1, 0, 3, 0)),
        ([(2, 0), (4, 2)], (0, 1, 0, 3, 0)),
        ([(4, 3), (3, 1), (1, 0)], (0, 0, 2, 0, 0)),
        ([(1, 0), (2, 1), (3, 2), (4, 3)], (0, 0, 0, 0, 0)),
    ],
    ids=str,
)
def test_owners_follow_chains(pairs: list[tuple[int, int]], expected: tuple[int, ...]) -> None:
    """An owner is never itself replaced, in whatever order the replacements came."""
    owners = owners_of(pairs, 5)

    assert owners == expected
    assert all(owners[owner] == owner <= layer for layer, owner in enumerate(owners))


def test_the_first_replacements_are_made() -> None:
    """As many as asked for, in the order of the calibration."""
    made = artefact((4, 0), (2, 1), (3, 2))

    assert KVSharer(n_shared=1).owners(geometry(5), made) == (0, 1, 2, 3, 0)
    assert KVSharer(n_shared=3).owners(geometry(5), made) == (0, 1, 1, 1, 0)
    with pytest.raises(DeclarationError, match="n_shared must be at most the 3 replacements"):
        KVSharer(n_shared=4).owners(geometry(5), made)


def test_small_models_are_refused() -> None:
    """At least one layer must keep its cache."""
    assert KVSharer(n_shared=2).unsupported_reason(geometry(3)) is None
    assert KVSharer(n_shared=3).unsupported_reason(geometry(3)) == (
        "n_shared must be smaller than the number of layers, got n_shared=3, layers=3"
    )
    with pytest.raises(DeclarationError, match="n_shared must be at least 1"):
        KVSharer(n_shared=0)


class SharedAttention:
    """Causal attention by loops over heads and queries, each layer on its owner's keys and values."""

    def __init__(self, owners: tuple[int, ...], group: int) -> None:
        self.owners, self.group = owners, group
        self.cache: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def attend(self, call: LayerCall, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend; a layer's own keys and values are there for the layers that it owns the cache of."""
        self.cache[call.layer] = (key, value)
        keys, values = self.cache[self.owners[call.layer]]
        output = torch.zeros_like(query)
        for head in range(query.shape[1]):
            for t in range(query.shape[2]):
                weights = (keys[0, head // self.group, : t + 1] @ query[0, head, t] * call.scaling).softmax(dim=0)
                output[0, head, t] = weights @ values[0, head // self.group, : t + 1]
        return output.transpose(1, 2)


def last_hidden(loaded: LoadedModel, ids: tuple[int, ...], owners: tuple[int, ...]) -> torch.Tensor:
    """Return the hidden states [T,hidden] that the language-model head sees."""
    shared = SharedAttention(owners, loaded.geometry.group)
    tokens = torch.tensor([ids])
    found: torch.Tensor = loaded.model.model(input_ids=tokens, use_cache=False, slots=shared).last_hidden_state
    return found[0]


def generate(
    loaded: LoadedModel, routing: Any, artefacts: dict[str, Artefact], prompt: tuple[int, ...], **axes: Any
) -> Generation:
    """Run one prompt through the engine."""
    mechanism = Mechanism(
        "test", axes.get("scoring", Full()), routing, axes.get("cadence", Never()), FullPrecision(), Greedy()
    )
    engine = Engine(
        loaded, mechanism, axes.get("budget"), rows=2, max_new_tokens=N_NEW, max_prompt_tokens=40, artefacts=artefacts
    )
    (found,) = engine.generate([Request("p", prompt, stream_key(0, "p", 0))])
    return found


@pytest.mark.parametrize("pairs", [((2, 0),), ((3, 2), (2, 1)), ((1, 0), (2, 1), (3, 0))], ids=str)
def test_decoding_equals_a_full_forward(pairs: tuple[tuple[int, int], ...]) -> None:
    """Token by token as a model without any cache, in which the replaced layer uses its owner's keys and values."""
    loaded, prompt = toy_model("llama", layers=4, seed=2), tuple(range(5, 24))
    routing, made = KVSharer(n_shared=len(pairs)), artefact(*pairs)
    found = generate(loaded, routing, made, prompt)

    owners = routing.owners(loaded.geometry, made)
    text = prompt
    for _ in range(N_NEW):
        logits = loaded.model.lm_head(last_hidden(loaded, text, owners)[-1])
        text = (*text, int(logits.argmax()))
    assert found.token_ids == text[len(prompt) :]
    assert found.token_ids != generate(loaded, Uniform(), {}, prompt).token_ids


@pytest.mark.parametrize("n_shared", [1, 2, 3])
def test_bytes_shrink_with_the_layers(n_shared: int) -> None:
    """(L - C) / L of the full cache's bytes, at the same number of tokens per owned cache."""
    loaded, prompt = toy_model("llama", layers=4, seed=2), tuple(range(5, 24))
    shared = generate(loaded, KVSharer(n_shared=n_shared), artefact((3, 2), (2, 0), (1, 0)), prompt)
    full = generate(loaded, Uniform(), {}, prompt)

    assert shared.mean_cache_bytes == pytest.approx(full.mean_cache_bytes * (4 - n_shared) / 4)
    assert shared.peak_cache_bytes * 4 == full.peak_cache_bytes * (4 - n_shared)
    assert shared.cache_tokens_per_step == full.cache_tokens_per_step


def test_owned_caches_are_compressed_like_any() -> None:
    """With a compressing cadence the budget is that of the caches that are left."""
    loaded = toy_model("llama", layers=4, seed=2)
    axes = {"scoring": H2O(recent=2), "cadence": EveryK(k=4), "budget": Budget(12)}
    shared = generate(loaded, KVSharer(n_shared=2), artefact((3, 2), (2, 0)), tuple(range(5, 35)), **axes)
    full = generate(loaded, Uniform(), {}, tuple(range(5, 35)), **axes)

    assert shared.cache_tokens_per_step == full.cache_tokens_per_step
    assert shared.mean_cache_bytes == pytest.approx(full.mean_cache_bytes / 2)


def test_distances_by_hand() -> None:
    """One head, two positions, no values: averages that cancel out are told apart position by position."""
    keys = torch.tensor([[[1.0, 0], [-1, 0]], [[-1, 0], [1, 0]], [[0.1, 0], [0.1, 0]]])[:, None]  # [L,H,N,D]
    found = distances(torch.stack([keys, torch.zeros_like(keys)], dim=1))

    assert found.tolist() == [pytest.approx(row) for row in ([0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.5, 0.5, 0.0])]
    assert found.equal(found.T)


def test_pairs_are_ranked_by_distance() -> None:
    """The most different first: 0 and 3 are 10 apart, 1 and 3 nine; of equal ones the lower layers."""
    place = torch.tensor([0.0, 1.0, 2.0, 10.0])
    distance = (place[:, None] - place).abs()

    assert ranked_pairs(distance) == [(3, 0), (3, 1), (3, 2), (2, 0), (1, 0), (2, 1)]
    assert ranked_pairs(distance[:1, :1]) == []


def test_shorter_texts_are_not_averaged() -> None:
    """They end where the others go on, so at later positions the average would be one of other texts."""
    caches = [torch.full((2, 2, 1, n, 4), float(i)) for i, n in enumerate((5, 7, 3, 7))]

    assert mean_cache(caches).shape == (2, 2, 1, 7, 4)
    assert mean_cache(caches).unique().tolist() == [2.0]


def test_a_text_counts_as_one_vector() -> None:
    """So a token with long hidden states weighs more; all texts weigh the same."""
    a, b = torch.tensor([[3.0, 0], [0, 1]]), torch.tensor([[3.0, 0], [0, -1]])

    assert mean_cosine([a], [b]) == pytest.approx(0.8)  # the mean over tokens would be 0
    assert mean_cosine([a, a[:1]], [b, -a[:1]]) == pytest.approx((0.8 - 1) / 2)


def test_texts_are_cut() -> None:
    """Thirty beginnings of 64 tokens; of fewer texts the pieces that follow, none across two texts."""
    few = texts_of(Corpus((tuple(range(150)), tuple(range(5)), tuple(range(64 * 40))), (), "test"))
    many = texts_of(Corpus(tuple((i,) * 100 for i in range(40)), (), "test"))

    assert [len(text) for text in few] == [64, 5, 64, 64, 64, 22] + [64] * 24
    assert [text[0] for text in few[:6]] == [0, 0, 0, 64, 64, 128]
    assert many == [(i,) * 64 for i in range(30)]


TEXTS = tuple(tuple((i * 5 + j * j * 3) % 90 + 2 for j in range(n)) for i, n in enumerate((25, 14, 25)))


def greedy_reference(loaded: LoadedModel, threshold: float) -> tuple[list[list[int]], list[float]]:
    """Return accepted pairs and their cosines by the definition, on full forwards with loops."""
    n_layers = loaded.geometry.n_layers
    nobody = tuple(range(n_layers))
    caches = []
    for ids in TEXTS:
        own = SharedAttention(nobody, loaded.geometry.group)
        loaded.model(input_ids=torch.tensor([ids]), use_cache=False, slots=own)
        caches.append(own.cache)
    whole = [cache for ids, cache in zip(TEXTS, caches, strict=True) if len(ids) == 25]
    assert len(whole) == 2

    def distance(a: int, b: int) -> float:
        found = []
        for kind in (0, 1):
            of_a, of_b = (sum(cache[layer][kind][0] for cache in whole) / 2 for layer in (a, b))
            for head in range(loaded.geometry.n_kv_heads):
                found += [float(((of_a[head, t] - of_b[head, t]) ** 2).sum().sqrt()) for t in range(25)]
        return sum(found) / len(found)

    pairs = sorted(((a, b) for a in range(n_layers) for b in range(a)), key=lambda p: -distance(*p))
    before = [last_hidden(loaded, ids, nobody) for ids in TEXTS]
    owner_of, accepted, cosines = dict(enumerate(nobody)), [], []
    for later, earlier in pairs:
        if owner_of[later] != later:
            continue
        root = owner_of[earlier]
        trial = {layer: root if owner == later else owner for layer, owner in owner_of.items()}
        alike = []
        for ids, hidden in zip(TEXTS, before, strict=True):
            now = last_hidden(loaded, ids, tuple(trial[i] for i in nobody))
            alike.append(float((now * hidden).sum() / ((now**2).sum() * (hidden**2).sum()).sqrt()))
        cosine = sum(alike) / len(alike)
        if cosine > threshold:
            owner_of = trial
            accepted.append([later, earlier])
            cosines.append(cosine)
    return accepted, cosines


@pytest.mark.parametrize("threshold", [-1.0, 0.5, 0.8, 0.95, 1.1])
def test_calibration_is_the_greedy_choice(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranking, acceptance and chains, against the definition; a strict threshold accepts fewer, or nothing."""
    loaded = toy_model("llama", layers=4, seed=4)
    monkeypatch.setattr(kv_sharer_calibration, "THRESHOLD", threshold)
    found = measure(loaded, Corpus(TEXTS, (), "test"))
    pairs, cosines = greedy_reference(loaded, threshold)

    assert found["pairs"].tolist() == pairs
    assert found["cosine"].tolist() == pytest.approx(cosines, abs=1e-5)
    assert found["threshold"].tolist() == pytest.approx([threshold])
    assert len(pairs) == 3 if threshold == -1 else len(pairs) < 4


def test_models_that_share_already_are_refused() -> None:
    """Cross-layer attention is trained; nothing is left to replace."""
    loaded = toy_model("llama")
    loaded.model.config.kv_owners = [0, 0]

    with pytest.raises(CalibrationError, match="its own keys and values"):
        measure(loaded, Corpus(TEXTS, (), "test"))


def test_an_empty_calibration_can_be_stored(tmp_path: Path) -> None:
    """Nothing accepted is a result too, and is told to whoever asks for sharing."""
    empty = {"pairs": torch.zeros(0, 2, dtype=torch.int64), "cosine": torch.zeros(0)}
    save_artefact(tmp_path / f"{ARTEFACT}.safetensors", Artefact(ARTEFACT, empty))
    tensors = load_file(tmp_path / f"{ARTEFACT}.safetensors")
    with pytest.raises(DeclarationError, match="at most the 0 replacements"):
        KVSharer().owners(geometry(3), {ARTEFACT: Artefact(ARTEFACT, tensors)})
