"""KVzap: both forms of the network by their formula, a running engine, and the linear form that is fitted here."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import Arrival, Artefact, Mechanism
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from families.cadence.every_k import EveryK
from families.cadence.threshold import Threshold
from families.calibrations.kvzap_calibration import measure
from families.calibrations.repeated_text import examples_of
from families.decoding.greedy import Greedy
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.kvzap import ARTEFACT, KVzap, Surrogate
from tests.conftest import toy_gates, toy_model
from tests.families.judged import follow


def slow(weights: dict[str, Tensor], read: Tensor) -> list[float]:
    """Return the scores of one token by KV head, number by number; GELU is x times the normal distribution's at x."""
    x = read.double().tolist()

    def linear(matrix: Tensor, bias: Tensor, given: list[float]) -> list[float]:
        return [
            math.fsum(w * number for w, number in zip(row, given, strict=True)) + b
            for row, b in zip(matrix.double().tolist(), bias.double().tolist(), strict=True)
        ]

    if "weight" in weights:
        return linear(weights["weight"], weights["bias"], x)
    hidden = linear(weights["0.weight"], weights["0.bias"], x)
    active = [h * 0.5 * (1 + math.erf(h / math.sqrt(2))) for h in hidden]
    return linear(weights["2.weight"], weights["2.bias"], active)


@pytest.mark.parametrize("width", [None, 7])
def test_the_two_forms(width: int | None) -> None:
    """Each token's number in each head, from the layer's own weights."""
    random = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"weight": (3, 5), "bias": (3,)}
    if width is not None:
        shapes = {"0.weight": (width, 5), "0.bias": (width,), "2.weight": (3, width), "2.bias": (3,)}
    made = {name: torch.randn(2, *shape, generator=random) for name, shape in shapes.items()}
    inputs = torch.randn(2, 4, 5, generator=random)
    keys = torch.zeros(2, 3, 4, 2)
    found = Surrogate().open(Artefact(ARTEFACT, made), Arrival(1, inputs, keys, keys))
    assert found.shape == (2, 3, 4)
    for row in range(2):
        for token in range(4):
            wanted = slow({name: tensor[1] for name, tensor in made.items()}, inputs[row, token])
            assert found[row, :, token].tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("k", "options"), [(1, {}), (3, {"sinks": 2, "recent": 2}), (1, {"recent": 0})])
def test_a_running_engine(toy_llama: LoadedModel, k: int, options: dict[str, Any]) -> None:
    """Heads hold the window and what passes, step by step."""
    gate = toy_gates(toy_llama)[ARTEFACT]
    arm = Mechanism(
        "kvzap", KVzap(**{"recent": 4, **options}), Uniform(), Threshold(tau=0.0, k=k), FullPrecision(), Greedy()
    )

    def number(layer: int, head: int, read: Tensor) -> float:
        return slow({name: tensor[layer] for name, tensor in gate.tensors.items()}, read)[head]

    judged = follow(toy_llama, arm, {ARTEFACT: gate}, number)
    assert judged.n_ragged > 40


def test_it_ranks_within_a_budget_too(toy_llama: LoadedModel) -> None:
    """The score is any scoring's: with another cadence the best tokens of each head stay."""
    from designspace.axes import Budget
    from designspace.testing.conformance import check_mechanism

    arm = Mechanism("ranked", KVzap(recent=4), Uniform(), EveryK(k=2), FullPrecision(), Greedy())
    check_mechanism(arm, toy_llama, Budget(12), artefacts=toy_gates(toy_llama))


def corpus(n_texts: int = 6, n_tokens: int = 40) -> Corpus:
    """Return random texts."""
    random = torch.Generator().manual_seed(3)
    texts = [tuple(torch.randint(2, 97, (n_tokens,), generator=random).tolist()) for _ in range(n_texts)]
    return Corpus(tuple(texts), (), "random tokens")


def test_the_fit_is_that_of_ridge_regression(toy_llama: LoadedModel) -> None:
    """At the minimum of squares plus the squared weights: the gradient by finite differences is zero."""
    with torch.inference_mode():
        found, examples = measure(toy_llama, corpus()), examples_of(toy_llama, corpus())
    x, y = examples.inputs[1].double(), examples.added[1, 0].double().log()

    def loss(weight: Tensor, bias: float) -> float:
        return float((x @ weight + bias - y).square().sum() + weight.square().sum())

    weight, bias = found["weight"][1, 0].double(), float(found["bias"][1, 0])
    least = loss(weight, bias)
    for index in (0, 7, len(weight) - 1):
        step = torch.zeros_like(weight)
        step[index] = 1e-2
        assert loss(weight + step, bias) > least
        assert loss(weight - step, bias) > least
    assert loss(weight, bias + 1e-2) > least < loss(weight, bias - 1e-2)


def test_shared_layers_have_the_map_of_their_owner() -> None:
    """Where the second layer reads the first one's cache, nobody asks for its own."""
    with torch.inference_mode():
        found = measure(toy_model("llama", kv_owners=[0, 0]), corpus(2))
    assert torch.equal(found["weight"][1], found["weight"][0])


def test_what_cannot_be_measured_is_said(toy_llama: LoadedModel) -> None:
    """Texts too short, and models whose attention reads the residual stream as it is."""
    with pytest.raises(CalibrationError, match="artefact 'kvzap': scores of repeated texts need a text of at least 16"):
        measure(toy_llama, corpus(1, 9))
    with pytest.raises(CalibrationError, match=r"artefact 'kvzap': gates read the input of attention after a norm"):
        measure(toy_model("olmo2"), corpus())
