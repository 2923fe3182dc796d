"""HeadKV: hand vectors, exact totals, and the importance it shares out by."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.axes import Artefact, View
from designspace.cache.layer_call import LayerCall
from designspace.errors import CalibrationError, DeclarationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from designspace.testing.views import view_of
from families.calibrations.head_kv_calibration import RECENT, SINKS, measure
from families.head_routing.head_kv import ARTEFACT, HeadKV
from tests.conftest import toy_model


def view_with(importance: torch.Tensor, n_kv_heads: int, rows: int = 1, recent: int = 0) -> View:
    """Return an event on a model whose query heads [L,H_q] are of this importance."""
    artefact = Artefact(ARTEFACT, {"importance": importance})
    return view_of(
        torch.zeros(importance.shape[0], rows, n_kv_heads, 600, 2),
        n_query_heads=importance.shape[1],
        recent=recent,
        artefacts={ARTEFACT: artefact},
    )


def shares(routing: HeadKV, view: View, *target: int) -> list[list[list[int]]]:
    """Return the shares [L,E,H_kv]."""
    return routing.allocate(view, torch.zeros(view.positions.shape), torch.tensor(target)).tolist()


@pytest.mark.parametrize(
    ("beta", "expected"), [(2.0, [130, 70]), (1.0, [160, 40]), (1e12, [100, 100])], ids=["half", "all pool", "all base"]
)
def test_head_kv_r4(beta: float, expected: list[int]) -> None:
    """L=1, H=2, b'=100, R=[.8,.2]."""
    assert shares(HeadKV(beta=beta), view_with(torch.tensor([[0.8, 0.2]]), 2), 100) == [[expected]]


def test_protected_tokens_come_on_top() -> None:
    """The pool is made of what is left: b'=100 of 108, 8 more for each head."""
    assert shares(HeadKV(beta=2.0), view_with(torch.tensor([[0.8, 0.2]]), 2, recent=8), 108) == [[[138, 78]]]


def test_kv_heads_get_the_mean_of_their_group() -> None:
    """Query heads 0 and 1 belong to KV head 0: (130 + 90) / 2 and (90 + 90) / 2 of b'=100, beta=2, R=[.4,.2,.2,.2]."""
    assert shares(HeadKV(beta=2.0), view_with(torch.tensor([[0.4, 0.2, 0.2, 0.2]]), 2), 100) == [[[110, 90]]]


def test_temperature_sharpens() -> None:
    """R squared is .64 : .04, so .94 : .06 of a pool of 200; to the power of 0 it is uniform."""
    view = view_with(torch.tensor([[0.8, 0.2]]), 2)

    assert shares(HeadKV(beta=1.0, temperature=2.0), view, 100) == [[[188, 12]]]
    assert shares(HeadKV(beta=1.0, temperature=0.0), view, 100) == [[[100, 100]]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    beta=st.sampled_from([1.0, 1.005, 1.1, 2.0, 10.0]),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
    target=st.integers(4, 90),
)
def test_totals_are_exact(seed: int, beta: float, temperature: float, target: int) -> None:
    """Every row's total is target * L * H, each head within one token of the formula and below what is announced."""
    raw = torch.rand(3, 4, generator=torch.Generator().manual_seed(seed)) ** 3
    routing, view = HeadKV(beta=beta, temperature=temperature), view_with(raw / raw.sum(), 2, rows=2, recent=3)
    found = shares(routing, view, target, target + 5)

    weights = [[float(x) ** temperature for x in layer] for layer in raw.tolist()]
    total = sum(map(sum, weights))
    for row, size in enumerate((target, target + 5)):
        free = size - 3
        assert sum(found[layer][row][head] for layer in range(3) for head in range(2)) == size * 6
        for layer in range(3):
            for head in range(2):
                pair = weights[layer][2 * head : 2 * head + 2]
                per_query_head = [free * (1 - 1 / beta) + free / beta * 12 * w / total for w in pair]
                assert abs(found[layer][row][head] - (sum(per_query_head) / 2 + 3)) < 1 + 1e-4
                assert found[layer][row][head] <= routing.largest_share(size, view.geometry, 3)


def test_the_largest_share_is_reached() -> None:
    """One query head that is all the importance there is."""
    view = view_with(torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0] * 4]), 2, recent=2)

    assert shares(HeadKV(beta=1.0), view, 12) == [[[2, 42]], [[2, 2]]]
    assert HeadKV(beta=1.0).largest_share(12, view.geometry, 2) == 42


@pytest.mark.parametrize("wrong", [{"beta": 0.9}, {"beta": math.inf}, {"temperature": -1.0}], ids=str)
def test_parameters_are_checked(wrong: dict[str, float]) -> None:
    """The message names the parameter."""
    with pytest.raises(DeclarationError, match=f"{next(iter(wrong))} must .*got {next(iter(wrong))}="):
        HeadKV(**wrong)


class NaiveAttention:
    """Causal attention by loops; keeps the probabilities [L][H_q][T][T]."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.group = loaded.geometry.group
        self.weights: dict[int, torch.Tensor] = {}

    def attend(self, call: LayerCall, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend query by query."""
        n_heads, length = query.shape[1:3]
        output, weights = torch.zeros_like(query), torch.zeros(n_heads, length, length)
        for head in range(n_heads):
            for t in range(length):
                first = 0 if call.window is None else max(t - call.window + 1, 0)
                logits = key[0, head // self.group, first : t + 1] @ query[0, head, t] * call.scaling
                weights[head, t, first : t + 1] = logits.softmax(dim=0)
                output[0, head, t] = weights[head, t] @ value[0, head // self.group]
        self.weights[call.layer] = weights
        return output.transpose(1, 2)


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_importance_is_attention_from_afar(family: str) -> None:
    """Mass on tokens at least RECENT back and not among the first SINKS, by loops over heads, queries and tokens."""
    loaded = toy_model(family, **({"sliding_window": 24} if family == "mistral" else {}))
    texts = tuple(tuple((i * 7 + j * j) % 90 + 2 for j in range(n)) for i, n in enumerate((71, 19, 40)))
    found = measure(loaded, Corpus(texts, (), "test"))["importance"]

    expected = torch.zeros(loaded.geometry.n_layers, loaded.geometry.n_query_heads)
    for ids in texts:
        naive = NaiveAttention(loaded)
        loaded.model(input_ids=torch.tensor([ids]), use_cache=False, slots=naive)
        for layer, weights in naive.weights.items():
            for head in range(weights.shape[0]):
                for t in range(len(ids)):
                    for j in range(t + 1):
                        if j >= SINKS and t - j >= RECENT:
                            expected[layer, head] += weights[head, t, j]
    assert torch.allclose(found, expected / expected.sum(), atol=1e-6)
    assert float(found.sum()) == pytest.approx(1)
    assert float(found.max() / found.min()) > 1.01


def test_short_texts_are_refused(toy_llama: LoadedModel) -> None:
    """Nothing is far in twenty tokens."""
    with pytest.raises(CalibrationError, match="more than 20 tokens"):
        measure(toy_llama, Corpus((tuple(range(2, 22)),), (), "test"))
