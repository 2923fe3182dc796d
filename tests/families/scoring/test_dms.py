"""DMS: whose decision it is, a running engine, and the map that is fitted here."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import Mechanism, Needs
from designspace.engine.prefill import Prefill
from designspace.errors import CalibrationError
from designspace.models.loading import LoadedModel
from families.cadence.threshold import Threshold
from families.calibrations.dms_calibration import EVICTED, measure
from families.calibrations.repeated_text import examples_of
from families.decoding.greedy import Greedy
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.dms import ARTEFACT, DMS, Keeping
from tests.conftest import toy_gates
from tests.families.judged import follow
from tests.families.scoring.test_kvzap import corpus


def minus_logit(tensors: dict[str, Tensor], layer: int, head: int, read: Tensor) -> float:
    """Return minus the logit, number by number."""
    weight, bias = tensors["weight"][layer, head].tolist(), float(tensors["bias"][layer, head])
    return -math.fsum([*(w * x for w, x in zip(weight, read.tolist(), strict=True)), bias])


def test_the_next_token_decides(toy_llama: LoadedModel) -> None:
    """A prompt's token has the number of its successor's input, the last one none yet; padding has none."""
    ids, gate = (5, 9, 31, 7, 80), toy_gates(toy_llama)[ARTEFACT]
    inputs: list[Tensor] = []
    handles = [
        layer.self_attn.q_proj.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        for layer in toy_llama.model.model.layers
    ]
    prompt, _ = Prefill(toy_llama, Needs(gates=(Keeping(),)), None, None, {ARTEFACT: gate}).encode(ids)
    for handle in handles:
        handle.remove()
    found = prompt.observed.tracked[Keeping()][:, 0, :, :, 0]
    for layer in range(toy_llama.geometry.n_layers):
        for head in range(toy_llama.geometry.n_kv_heads):
            wanted = [minus_logit(dict(gate.tensors), layer, head, inputs[layer][0, t]) for t in range(1, 5)]
            assert found[layer, head, :5].tolist() == pytest.approx([*wanted, math.inf], abs=1e-5)
    assert not found[..., 5:].any()


@pytest.mark.parametrize(
    ("k", "options"), [(1, {}), (3, {"sinks": 2, "recent": 2}), (1, {"recent": 0}), (2, {"recent": 1})]
)
def test_a_running_engine(toy_llama: LoadedModel, k: int, options: dict[str, Any]) -> None:
    """Evicted is what leaves the window with a logit above 0, also where its successor is gone before it is judged again."""
    gate = toy_gates(toy_llama)[ARTEFACT]
    arm = Mechanism(
        "dms", DMS(**{"recent": 4, **options}), Uniform(), Threshold(tau=0.0, k=k), FullPrecision(), Greedy()
    )
    judged = follow(
        toy_llama, arm, {ARTEFACT: gate}, lambda *place: minus_logit(dict(gate.tensors), *place), of_previous=True
    )
    assert judged.n_ragged > 40


def test_the_fit_gives_up_three_of_four(toy_llama: LoadedModel) -> None:
    """About as many tokens as it was taught, and rather those of low scores."""
    with torch.inference_mode():
        found, examples = measure(toy_llama, corpus()), examples_of(toy_llama, corpus())
    logits = torch.einsum("lnd,lhd->lhn", examples.inputs, found["weight"]) + found["bias"][..., None]
    has_successor = ~examples.begins[1:]
    given_up = (logits[..., 1:] > 0)[..., has_successor]
    added = examples.added[..., :-1][..., has_successor]
    assert float(given_up.float().mean()) == pytest.approx(EVICTED, abs=0.1)
    assert float(added[given_up].median()) < float(added[~given_up].median())


def test_what_cannot_be_measured_is_said(toy_llama: LoadedModel) -> None:
    """Texts too short."""
    with pytest.raises(CalibrationError, match="artefact 'dms-gate': scores of repeated texts need a text of"):
        measure(toy_llama, corpus(1, 9))
