"""Fast KVzip: the gate by its formula, the release's choice within one budget, and the gates that are trained here."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from designspace.axes import Arrival, Artefact, Mechanism
from designspace.errors import CalibrationError
from designspace.models.loading import LoadedModel
from designspace.testing.views import view_of
from families.cadence.threshold import Threshold
from families.calibrations import fast_kvzip_calibration, repeated_text
from families.calibrations.fast_kvzip_calibration import measure
from families.calibrations.repeated_text import examples_of
from families.decoding.greedy import Greedy
from families.head_routing.pooled import Pooled
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.fast_kvzip import ARTEFACT, FastKVzip, SinkAttention, sink_attention
from families.scoring.selectors.top_k import TopK
from tests.conftest import toy_gates
from tests.families.judged import follow
from tests.families.scoring.test_kvzap import corpus


def slow(weights: dict[str, Tensor], head: int, read: Tensor) -> float:
    """Return one token's score in one KV head, number by number."""
    x, dim = read.double().tolist(), weights["q_norm.weight"].shape[0]
    group = weights["b"].shape[-1]

    def dot(a: list[float], b: list[float]) -> float:
        return math.fsum(p * q for p, q in zip(a, b, strict=True))

    def normed(vector: list[float], weight: Tensor) -> list[float]:
        scale = 1 / math.sqrt(dot(vector, vector) / dim + 1e-6)
        return [v * scale * w for v, w in zip(vector, weight.double().tolist(), strict=True)]

    rows = weights["k_proj.weight"].double()[head * dim : (head + 1) * dim].tolist()
    key, total = normed([dot(row, x) for row in rows], weights["k_norm.weight"]), 0.0
    for number in range(group):
        start = (head * group + number) * dim
        biases = weights["q_proj.bias"].double()[start : start + dim].tolist()
        rows = weights["q_proj.weight"].double()[start : start + dim].tolist()
        query = normed([dot(row, x) + b for row, b in zip(rows, biases, strict=True)], weights["q_norm.weight"])
        own = math.exp(dot(query, key) / math.sqrt(dim) + float(weights["b"][head, 0, number]))
        sinks = [math.exp(dot(query, s) / math.sqrt(dim)) for s in weights["k_base"].double()[head, 0].tolist()]
        total += own / (own + math.fsum(sinks))
    return total / group


def test_the_gate(toy_llama: LoadedModel) -> None:
    """Each token's number in each head, of one layer and of all at once."""
    gate = toy_gates(toy_llama)[ARTEFACT]
    hidden, heads = toy_llama.model.config.hidden_size, toy_llama.geometry.n_kv_heads
    inputs = torch.randn(2, 3, hidden, generator=torch.Generator().manual_seed(1)) * 3
    keys = torch.zeros(2, heads, 3, 2)
    found = SinkAttention().open(gate, Arrival(1, inputs, keys, keys))
    assert found.shape == (2, heads, 3)
    of_layer = {name: tensor[1] for name, tensor in gate.tensors.items()}
    for row in range(2):
        for token in range(3):
            wanted = [slow(of_layer, head, inputs[row, token]) for head in range(heads)]
            assert found[row, :, token].tolist() == pytest.approx(wanted, abs=1e-5)
    together = sink_attention(gate.tensors, inputs)  # two layers, three tokens each
    assert torch.allclose(together[1], SinkAttention().open(gate, Arrival(1, inputs[1:], keys, keys))[0], atol=1e-6)


def test_huge_products_stay_finite() -> None:
    """Where the release's exponentials overflow."""
    one = torch.ones(1, 1)
    weights = {
        "q_proj.weight": one, "q_proj.bias": torch.zeros(1), "k_proj.weight": one, "q_norm.weight": torch.full((1,), 900.0),
        "k_norm.weight": torch.ones(1), "k_base": torch.full((1, 1, 2, 1), 1.0), "b": torch.zeros(1, 1, 1),
    }  # fmt: skip
    found = sink_attention(weights, torch.tensor([[[1.0], [-1.0]]]))
    assert found.flatten().tolist() == pytest.approx([1 / 3, 1.0], abs=1e-3)


def released(scores: Tensor, size: int, sinks: int, recent: int) -> Tensor:
    """Return what the release keeps of scores [L,H,N] within a total of L H size: all that reach a threshold.

    The score of the first tokens and of the newest is 1; the threshold is the lowest score that stays when the surplus is
    taken from the low end of all scores.
    """
    padded = scores.clone()
    padded[..., :sinks] = padded[..., scores.shape[-1] - recent :] = 1.0
    n_remove = scores.numel() - scores.shape[0] * scores.shape[1] * size
    return padded >= padded.flatten().sort().values[n_remove]


@pytest.mark.parametrize("size", [7, 10, 19])
def test_the_released_choice_within_one_budget(size: int) -> None:
    """Layers and heads compete: kept sets of 20 tokens each."""
    random = torch.Generator().manual_seed(size)
    scores = torch.rand(3, 2, 20, generator=random) * torch.rand(3, 2, 1, generator=random)
    view = view_of(torch.zeros(3, 1, 2, 20, 2), sinks=2, recent=3, target=size)
    shares = Pooled().allocate(view, scores[:, None], view.target)
    assert len(set(shares.flatten().tolist())) > (size < 19)
    kept = TopK().select(view, scores[:, None], shares)[:, 0]
    assert torch.equal(kept, released(scores, size, 2, 3))


def test_a_running_engine(toy_llama: LoadedModel) -> None:
    """With a threshold of its own, heads hold the window and what passes."""
    gate = toy_gates(toy_llama)[ARTEFACT]
    arm = Mechanism("gated", FastKVzip(sinks=1, recent=4), Uniform(), Threshold(tau=0.3), FullPrecision(), Greedy())

    def number(layer: int, head: int, read: Tensor) -> float:
        return slow({name: tensor[layer] for name, tensor in gate.tensors.items()}, head, read)

    assert follow(toy_llama, arm, {ARTEFACT: gate}, number).n_ragged > 40


def test_the_gates_learn_the_scores(toy_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the published form, and nearer to KVzip's scores than their mean in each head."""
    monkeypatch.setattr(repeated_text, "STEPS", 100)
    with torch.inference_mode():
        found, examples = measure(toy_llama, corpus()), examples_of(toy_llama, corpus())
    geometry = toy_llama.geometry
    assert found["k_base"].shape == (geometry.n_layers, geometry.n_kv_heads, 1, 16, 16)
    wanted = examples.attention
    off = (sink_attention(found, examples.inputs) - wanted).square().mean(dim=-1)
    assert bool((off < wanted.var(dim=-1)).all())
    assert fast_kvzip_calibration.WIDTH == 16


def test_what_cannot_be_measured_is_said(toy_llama: LoadedModel) -> None:
    """Texts too short."""
    with pytest.raises(CalibrationError, match="artefact 'fast-kvzip': scores of repeated texts need a text of"):
        measure(toy_llama, corpus(1, 9))


def test_the_artefact_is_the_network_alone(toy_llama: LoadedModel) -> None:
    """The gate reads nothing but the layer's input."""
    gate = Artefact(ARTEFACT, toy_gates(toy_llama)[ARTEFACT].tensors)
    inputs = torch.ones(1, 2, toy_llama.model.config.hidden_size)
    numbers = [SinkAttention().open(gate, Arrival(0, inputs, torch.full((1, 2, 2, 2), x), inputs)) for x in (0.0, 9.0)]
    assert torch.equal(*numbers)
