"""TRIM-KV: the gate by its formula, ages by hand, look-ahead as a plain sum, and the gate that is trained here."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from designspace.axes import Arrival, Artefact, Needs, View
from designspace.cache.prefill_pass import PrefillPass
from designspace.errors import CalibrationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from designspace.testing.views import view_of
from families.calibrations import future_attention
from families.calibrations.future_attention import pieces_of
from families.calibrations.trim_gate_calibration import _score, measure
from families.scoring.trim_kv import ARTEFACT, INPUTS, KEYS_VALUES, RetentionGate, TrimKV
from tests.conftest import toy_model


def view_with(rates: list[float], positions: list[int], next_position: int) -> View:
    """Return an event of one head whose tokens have these log betas."""
    opened = torch.tensor(rates).view(1, 1, 1, -1, 1)
    keys = torch.full((1, 1, 1, len(rates), 2), 3.0)
    return view_of(
        keys, positions=torch.tensor(positions).view(1, 1, 1, -1), next_position=next_position,
        tracked={RetentionGate(): opened},
    )  # fmt: skip


def test_ages_by_hand() -> None:
    """After ten tokens the newest has age 2, the first 11."""
    view = view_with([-0.5, -0.1, -1.0], [0, 4, 9], 10)
    assert TrimKV().score(view).flatten().tolist() == pytest.approx([-5.5, -0.7, -2.0])
    with_norm = TrimKV(key_norm=True).score(view).flatten().tolist()
    assert with_norm == pytest.approx([x + math.log(18**0.5) for x in (-5.5, -0.7, -2.0)])


@pytest.mark.parametrize("n", [2, 5, 128])
@pytest.mark.parametrize("rate", [-1e-12, -1e-6, -1e-3, -0.3, -2.0, -30.0])
def test_look_ahead_is_a_sum_of_powers(n: int, rate: float) -> None:
    """Term by term in float64, with ages that are larger by one."""
    view = view_with([rate, rate], [3, 9], 10)
    wanted = [math.log(math.fsum(math.exp(rate * (age + k)) for k in range(n))) for age in (9, 3)]
    assert TrimKV(look_ahead=n).score(view).flatten().tolist() == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_a_gate_that_forgets_nothing_has_a_finite_score() -> None:
    """With log beta = 0, and log betas whose powers underflow."""
    view = view_with([0.0, -1e4], [0, 1], 5)
    assert TrimKV(look_ahead=4).score(view).flatten().tolist() == pytest.approx([math.log(4), -6e4])


def slow_gate(weights: dict[str, Tensor], read: Tensor) -> list[float]:
    """Return log beta of one token by KV head, number by number."""
    x = read.double()
    if "gate_proj.weight" in weights:
        gate, up, last = (weights[f"{name}_proj.weight"].double() for name in ("gate", "up", "down"))
        hidden = [float(a @ x) / (1 + math.exp(-float(a @ x))) * float(b @ x) for a, b in zip(gate, up, strict=True)]
    else:
        raw = [
            float(row @ x) + float(bias)
            for row, bias in zip(weights["linear1.weight"].double(), weights["linear1.bias"], strict=True)
        ]
        hidden, last = [a / (1 + math.exp(-a)) for a in raw], weights["linear2.weight"].double()
    logits = [
        sum(float(w) * h for w, h in zip(row, hidden, strict=True)) + float(b)
        for row, b in zip(last, weights["bias"], strict=True)
    ]
    return [-math.log1p(math.exp(-logit)) for logit in logits]


@pytest.mark.parametrize("form", ["rg", "rg2", "rg3"])
def test_the_three_forms_of_the_gate(form: str) -> None:
    """Each token's number, by the formula; keys come before values, head by head."""
    random = torch.Generator().manual_seed(0)
    n_layers, n_rows, n_heads, n_tokens, dim, hidden, width = 2, 2, 3, 4, 2, 5, 6
    n_read = hidden if form == "rg" else 2 * n_heads * dim
    shapes = {"linear1.weight": (width, n_read), "linear1.bias": (width,), "linear2.weight": (n_heads, width)}
    if form == "rg3":
        shapes = {f"{name}_proj.weight": (width, n_read) for name in ("gate", "up")}
        shapes["down_proj.weight"] = (n_heads, width)
    shapes["bias"] = (n_heads,)
    made = {name: torch.randn(n_layers, *shape, generator=random) for name, shape in shapes.items()}
    reads = INPUTS if form == "rg" else KEYS_VALUES
    inputs = torch.randn(n_rows, n_tokens, hidden, generator=random)
    keys, values = torch.randn(2, n_rows, n_heads, n_tokens, dim, generator=random)
    artefact = Artefact(ARTEFACT, {f"{reads}.{name}": tensor for name, tensor in made.items()})
    found = RetentionGate().open(artefact, Arrival(1, inputs, keys, values))
    assert found.shape == (n_rows, n_heads, n_tokens)
    for row in range(n_rows):
        for token in range(n_tokens):
            pairs = [torch.cat([keys[row, head, token], values[row, head, token]]) for head in range(n_heads)]
            read = inputs[row, token] if form == "rg" else torch.cat(pairs)
            wanted = slow_gate({name: tensor[1] for name, tensor in made.items()}, read)
            assert found[row, :, token].tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-6)


def corpus(n_texts: int = 3, n_tokens: int = 40) -> Corpus:
    """Return random texts."""
    random = torch.Generator().manual_seed(3)
    texts = [tuple(torch.randint(2, 97, (n_tokens,), generator=random).tolist()) for _ in range(n_texts)]
    return Corpus(tuple(texts), (), "random tokens")


def test_future_attention_is_that_of_later_queries(toy_llama: LoadedModel) -> None:
    """Against attention computed from the model's own queries and keys, one query after the other."""
    (piece,) = pieces_of(toy_llama, corpus(1))
    geometry, n = toy_llama.geometry, 40
    assert piece.events.tolist() == [n * k // 9 for k in range(1, 9)]
    seen = PrefillPass(Needs(queries=n), geometry, n)
    toy_llama.forward(seen, input_ids=torch.tensor([corpus(1).texts[0]]))
    text = seen.prompt()
    for layer in range(geometry.n_layers):
        for head in range(geometry.n_kv_heads):
            keys, total = text.keys[layer, 0, head].double(), torch.zeros(8, n, dtype=torch.float64)
            for query_head in range(head * geometry.group, (head + 1) * geometry.group):
                for position in range(n):
                    query = text.observed.queries[layer, 0, query_head, position].double()  # type: ignore[index]
                    row = torch.softmax(keys[: position + 1] @ query * geometry.head_dim**-0.5, dim=0)
                    for number, event in enumerate(piece.events.tolist()):
                        if position >= event:
                            total[number, :event] += row[:event] / geometry.group
            torch.testing.assert_close(piece.future[layer, head].double(), total, atol=1e-5, rtol=1e-4)


def test_layers_that_share_a_cache_learn_together() -> None:
    """What all of them pay to a token counts for the layer that owns it, and all have its gate."""
    loaded = toy_model("llama", kv_owners=[0, 0])
    (piece,) = pieces_of(loaded, corpus(1))
    assert not piece.future[1].any()
    # After the first event, at 4 tokens, come 36 queries in each of two layers, and each has a mass of one to spread.
    assert 0 < float(piece.future[0, 0, 0].sum()) <= 2 * 36
    gate = measure(loaded, corpus(1))
    assert all(torch.equal(tensor[0], tensor[1]) for tensor in gate.values())


def test_training_is_the_same_every_time_and_helps(toy_llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, also while gradients are off; and its loss on the texts is lower than before the first step."""
    monkeypatch.setattr(future_attention, "STEPS", 30)
    with torch.inference_mode():
        first = measure(toy_llama, corpus())
    torch.manual_seed(99)
    second = measure(toy_llama, corpus())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(tensor.requires_grad or tensor.is_inference() for tensor in first.values())
    monkeypatch.setattr(future_attention, "STEPS", 0)
    untrained = measure(toy_llama, corpus())
    losses = []
    for gate in (untrained, first):
        plain = {name.removeprefix(f"{INPUTS}."): tensor for name, tensor in gate.items()}
        losses.append(sum(float(future_attention.loss_of(_score(plain, p), p)) for p in pieces_of(toy_llama, corpus())))
    assert losses[1] < losses[0] - 0.01


def test_what_cannot_be_learned_from_is_refused(toy_llama: LoadedModel) -> None:
    """Texts without room for events, and models whose gates would have nothing to read."""
    with pytest.raises(CalibrationError, match="needs a text of at least 18 tokens"):
        measure(toy_llama, corpus(3, 17))
    with pytest.raises(CalibrationError, match="artefact 'trim-gate': gates read the input of attention after a norm"):
        measure(toy_model("olmo2"), corpus())
