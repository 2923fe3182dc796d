"""The learned scoring: the network by its formula, keys before RoPE, and what it learns from future attention."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from designspace.axes import Artefact, Geometry, View
from designspace.axes.rotary import unrotate_slots
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from designspace.testing.views import view_of
from families.calibrations import future_attention
from families.calibrations.future_attention import loss_of, pieces_of
from families.calibrations.learned_calibration import _score, _start, measure
from families.scoring.learned import ARTEFACT, Learned
from tests.conftest import toy_model

INV_FREQ = torch.tensor([1.0, 0.1])


def networks(n_layers: int, n_heads: int, dim: int, width: int = 3) -> dict[str, Tensor]:
    """Return random networks."""
    random = torch.Generator().manual_seed(2)
    shapes = {"key": (dim, width), "value": (dim, width)} | dict.fromkeys(("position", "age", "bias", "out"), (width,))
    return {name: torch.randn(n_layers, n_heads, *shape, generator=random) for name, shape in shapes.items()}


def slow_score(weights: dict[str, Tensor], view: View, at: tuple[int, int, int, int]) -> float:
    """Return one token's score, number by number: its key turned back band by band."""
    layer, row, head, _ = at
    position = int(view.positions[at])
    key, value = (x[at].double().tolist() for x in (view.keys, view.values))
    plain, half = [0.0] * len(key), len(key) // 2
    for band, frequency in enumerate(INV_FREQ.double().tolist()):
        cos, sin = math.cos(position * frequency), math.sin(position * frequency)
        plain[band] = key[band] * cos + key[band + half] * sin
        plain[band + half] = key[band + half] * cos - key[band] * sin
    own = {name: tensor[layer, head].double() for name, tensor in weights.items()}
    age = int(view.next_position[row]) - 1 - position
    score = 0.0
    for unit in range(own["out"].shape[0]):
        x = float(own["bias"][unit]) + math.log(1 + age) * float(own["age"][unit])
        x += math.log(1 + position) * float(own["position"][unit])
        x += sum(k * float(w) for k, w in zip(plain, own["key"][:, unit], strict=True))
        x += sum(v * float(w) for v, w in zip(value, own["value"][:, unit], strict=True))
        score += x / (1 + math.exp(-x)) * float(own["out"][unit])
    return score


def test_scores_by_the_formula() -> None:
    """In every layer, row and head, whose tokens stand at different positions."""
    random = torch.Generator().manual_seed(1)
    keys, values = torch.randn(2, 2, 2, 3, 5, 4, generator=random)
    positions = torch.rand(2, 2, 3, 40, generator=random).argsort(dim=-1)[..., :5].sort(dim=-1).values
    weights = networks(2, 3, 4)
    view = view_of(
        keys, values, positions=positions, next_position=43, inv_freq=INV_FREQ,
        artefacts={ARTEFACT: Artefact(ARTEFACT, weights)},
    )  # fmt: skip
    found = Learned().score(view)
    for at in torch.cartesian_prod(*(torch.arange(n) for n in found.shape)).tolist():
        assert float(found[tuple(at)]) == pytest.approx(slow_score(weights, view, tuple(at)), rel=1e-4, abs=1e-4)


def test_keys_are_those_before_the_rotation() -> None:
    """Also where layers rotate differently, and where the rotation scales."""
    random = torch.Generator().manual_seed(1)
    plain = torch.randn(2, 1, 2, 5, 4, generator=random)
    geometry = Geometry(
        2, 2, 2, 4, INV_FREQ, layer_inv_freq=torch.stack([INV_FREQ, INV_FREQ * 3]), layer_scaling=(1.0, 1.5)
    )
    positions = torch.tensor([0, 3, 9, 12, 700]).expand(2, 1, 2, 5)
    turned = torch.empty_like(plain)
    for layer, (speed, scale) in enumerate(((1, 1.0), (3, 1.5))):
        angle = positions[layer, ..., None] * INV_FREQ * speed
        first, second = plain[layer].chunk(2, dim=-1)
        rotated = torch.cat(
            [first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()], -1
        )
        turned[layer] = scale * rotated
    torch.testing.assert_close(unrotate_slots(turned, positions, geometry), plain, atol=1e-3, rtol=1e-3)


def corpus(n_texts: int = 3, n_tokens: int = 40) -> Corpus:
    """Return random texts."""
    random = torch.Generator().manual_seed(3)
    texts = [tuple(torch.randint(2, 97, (n_tokens,), generator=random).tolist()) for _ in range(n_texts)]
    return Corpus(tuple(texts), (), "random tokens")


def losses(loaded: LoadedModel, weights: dict[str, Tensor]) -> float:
    """Return the loss of networks on the corpus, from keys as the scoring gets them."""
    total = 0.0
    for piece in pieces_of(loaded, corpus()):
        positions = torch.arange(piece.keys.shape[2]).expand(piece.keys.shape[:3])
        keys = unrotate_slots(piece.keys[:, None], positions[:, None], loaded.geometry)[:, 0]
        total += float(loss_of(_score(weights, piece._replace(keys=keys)), piece))
    return total


def test_training_is_the_same_every_time_and_helps(toy_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit; on keys and values as they are, though they were scaled for training."""
    monkeypatch.setattr(future_attention, "STEPS", 40)
    with torch.inference_mode():
        first = measure(toy_llama, corpus())
    second = measure(toy_llama, corpus())
    assert all(torch.equal(first[name], second[name]) for name in first)
    monkeypatch.setattr(future_attention, "STEPS", 0)
    assert losses(toy_llama, first) < losses(toy_llama, measure(toy_llama, corpus())) - 0.01


def test_it_learns_what_is_there_to_learn() -> None:
    """Of made-up texts in which the attention to come follows one component of the value, the best tokens are found."""
    random = torch.Generator().manual_seed(0)
    made = []
    for _ in range(8):
        keys, values = torch.randn(2, 1, 1, 48, 4, generator=random)
        events = torch.tensor([16, 32])
        ahead = torch.arange(48) >= events[:, None]
        future = (2 * values[..., 1]).exp()[:, :, None].expand(1, 1, 2, 48).masked_fill(ahead, 0)
        made.append(future_attention.Piece(keys, values, None, events, future))
    weights = future_attention.fitted(_start(1, 1, 4), _score, made[:7], seed=0)
    held = made[7]
    with torch.no_grad():
        scores = _score(weights, held)[0, 0, 1, :32]
    best, wanted = (set(x.topk(8).indices.tolist()) for x in (scores, held.future[0, 0, 1, :32]))
    assert len(best & wanted) >= 7


def test_models_whose_keys_cannot_be_turned_back_are_refused() -> None:
    """Before a run, and before training."""
    half = Geometry(2, 4, 2, 8, torch.ones(2))
    assert "scoring 'learned' needs rotary embeddings over the whole head" in str(Learned().unsupported_reason(half))
    with pytest.raises(CalibrationError, match="artefact 'learned'"):
        measure(toy_model("phi3", partial_rotary_factor=0.5), corpus())
