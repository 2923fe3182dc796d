"""Static routes: even spacing, which heads are on it, and how that is measured."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.axes import Artefact, Geometry, Mechanism, View
from designspace.cache.layer_call import LayerCall
from designspace.engine.compress import compress
from designspace.errors import CalibrationError, DeclarationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from designspace.testing.views import view_of
from families.cadence.every_k import EveryK
from families.calibrations.static_route_calibration import RoutePass, measure
from families.head_routing.static_route import ARTEFACT, StaticRoute, evenly_spaced
from families.representation.full import FullPrecision
from families.scoring.knorm import KNorm
from tests.conftest import toy_model


def best(n_positions: int, k: int) -> list[int]:
    """Return the k best of positions 0 … n-1 by the spacing score."""
    return evenly_spaced(torch.arange(n_positions)).argsort(descending=True, stable=True)[:k].sort().values.tolist()


def view_with(uniform: list[list[bool]], **masses: torch.Tensor) -> View:
    """Return an event of 20 tokens per head with these routes."""
    n_layers, n_heads = len(uniform), len(uniform[0])
    keys = torch.randn(n_layers, 2, n_heads, 20, 4, generator=torch.Generator().manual_seed(1))
    artefact = Artefact(ARTEFACT, {"uniform": torch.tensor(uniform), **masses})
    return view_of(keys, target=8, recent=2, artefacts={ARTEFACT: artefact})


def test_spacing_by_hand() -> None:
    """Bits are read backwards: 0, then 8, 4, 12, 2, … of sixteen."""
    assert best(16, 1) == [0]
    assert best(16, 3) == [0, 4, 8]
    assert best(16, 4) == [0, 4, 8, 12]
    assert best(16, 8) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert best(16, 16) == list(range(16))


def test_scores_are_reversed_bits() -> None:
    """Position 6 is 110 in binary: minus .011 in binary is -.375; free slots score as position 0."""
    assert evenly_spaced(torch.tensor([0, 1, 2, 3, 6, -1])).tolist() == [0, -0.5, -0.25, -0.75, -0.375, 0]
    assert len(set(evenly_spaced(torch.arange(2**18)).tolist())) == 2**18


@settings(max_examples=100, deadline=None)
@given(n=st.integers(2, 700), data=st.data())
def test_the_best_are_evenly_spaced_at_any_share(n: int, data: st.DataObject) -> None:
    """Distances are two neighbouring powers of two; no stretch as long as two of the mean distance is empty."""
    k = data.draw(st.integers(2, n))
    kept = best(n, k)
    gaps = {later - earlier for earlier, later in itertools.pairwise(kept)}

    assert kept[0] == 0 and len(kept) == k
    assert all(gap & (gap - 1) == 0 for gap in gaps) and max(gaps) <= 2 * min(gaps)
    assert max(*gaps, n - kept[-1]) <= 2 * n / k + 1


@settings(max_examples=40, deadline=None)
@given(n=st.integers(4, 100), k=st.integers(2, 40), steps=st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_cutting_again_and_again_is_cutting_once(n: int, k: int, steps: list[int]) -> None:
    """A text grows by some tokens and is cut to k, several times: what is left is the best k of all its positions."""
    held, length = best(n, k), n
    for step in steps:
        held = sorted([*held, *range(length, length + step)])
        scores = evenly_spaced(torch.tensor(held))
        held = sorted(held[i] for i in scores.argsort(descending=True, stable=True)[:k].tolist())
        length += step

    assert held == best(length, k)


def test_routed_heads_alone_are_replaced() -> None:
    """Heads on uniform spacing get its score, the others keep theirs to the bit."""
    view = view_with([[True, False], [False, True]])
    scores = torch.randn(2, 2, 2, 20, generator=torch.Generator().manual_seed(2))
    adapted = StaticRoute().adapt(view, scores)

    for layer, head in ((0, 1), (1, 0)):
        assert torch.equal(adapted[layer, :, head], scores[layer, :, head])
    for layer, head in ((0, 0), (1, 1)):
        assert torch.equal(adapted[layer, :, head], evenly_spaced(torch.arange(20)).expand(2, -1))


def test_an_event_keeps_spaced_tokens_and_good_keys() -> None:
    """Eight of twenty, two protected: 0 4 8 12 16 and 2 in the routed head, the smallest keys in the other."""
    view = view_with([[True, False]])
    kept = compress(Mechanism("test", KNorm(recent=2), StaticRoute(), EveryK(), FullPrecision()), view)
    norms = view.keys[0, 0, 1].norm(dim=-1).tolist()

    assert kept.counts.tolist() == [[[8, 8], [8, 8]]]
    assert kept.order[0, 0, 0, :8].tolist() == [0, 2, 4, 8, 12, 16, 18, 19]
    assert kept.order[0, 0, 1, :8].tolist() == sorted([*sorted(range(18), key=lambda i: norms[i])[:6], 18, 19])


def test_a_share_of_heads_can_be_asked_for() -> None:
    """The heads where uniform spacing does best relative to attention, ties to the lower head."""
    attention = torch.tensor([[4.0, 4.0], [2.0, 4.0]])
    view = view_with([[False] * 2] * 2, uniform_mass=torch.tensor([[2.0, 3.0], [1.5, 1.0]]), attention_mass=attention)

    def routed(share: float | None) -> list[list[bool]]:
        return StaticRoute(uniform_share=share).on_uniform(view).tolist()

    assert routed(None) == routed(0.0) == [[False, False], [False, False]]
    assert routed(0.25) == [[False, True], [False, False]]
    assert routed(0.5) == [[False, True], [True, False]]
    assert routed(1.0) == [[True, True], [True, True]]


@settings(max_examples=20, deadline=None)
@given(target=st.integers(1, 30))
def test_shares_are_uniform(target: int) -> None:
    """The target everywhere, and no more than that is announced."""
    view = view_with([[True, False]])
    shares = StaticRoute().allocate(view, torch.zeros(1, 2, 2, 20), torch.tensor([target, target + 1]))

    assert shares.tolist() == [[[target] * 2, [target + 1] * 2]]
    assert StaticRoute().largest_share(target, view.geometry, 2) == target


def test_the_share_is_checked() -> None:
    """Outside [0, 1]."""
    with pytest.raises(DeclarationError, match=r"uniform_share must lie in \[0, 1\] or be None, got uniform_share=1.1"):
        StaticRoute(uniform_share=1.1)


class KeepWeights:
    """Causal attention that keeps its probabilities [L][H_q,T,T]."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.group = loaded.geometry.group
        self.weights: dict[int, torch.Tensor] = {}

    def attend(self, call: LayerCall, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attend with the whole matrix."""
        keys, values = (x[0].repeat_interleave(self.group, 0) for x in (key, value))
        length = query.shape[2]
        mask = torch.ones(length, length).tril().bool()
        if call.window is not None:
            mask &= ~torch.ones(length, length).tril(-call.window).bool()
        self.weights[call.layer] = (query[0] @ keys.mT * call.scaling).masked_fill(~mask, -torch.inf).softmax(dim=-1)
        return (self.weights[call.layer] @ values)[None].transpose(1, 2)


def captured(weights: torch.Tensor, heads: list[int]) -> tuple[float, float]:
    """Return the future mass that even spacing and attention capture for the query heads of one KV head."""
    length = weights.shape[-1]
    prefix = length // 2
    old = range(prefix - 8)
    backwards = {j: int(f"{j:024b}"[::-1], 2) for j in old}
    seen = {j: sum(float(weights[h, t, j]) for h in heads for t in range(prefix - 8, prefix)) for j in old}
    rules = (lambda j: backwards[j], lambda j: -seen[j])
    found = []
    for rule in rules:
        kept = sorted(old, key=rule)[: prefix // 2 - 8] + list(range(prefix - 8, prefix))
        found.append(
            sum(float(weights[h, t, j]) for h in heads for t in range(prefix, length) for j in kept) / len(heads)
        )
    return found[0], found[1]


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_routes_are_measured_on_the_attention_to_come(family: str) -> None:
    """Loops over heads, future queries and kept tokens."""
    loaded = toy_model(family, layers=3, seed=3, **({"sliding_window": 20} if family == "mistral" else {}))
    geometry = loaded.geometry
    texts = tuple(tuple((i * 7 + j * j * (i + 1)) % 90 + 2 for j in range(n)) for i, n in enumerate((71, 64, 36, 35)))
    found = measure(loaded, Corpus(texts, (), "test"))

    expected = torch.zeros(2, geometry.n_layers, geometry.n_kv_heads)
    for ids in texts[:3]:
        full = KeepWeights(loaded)
        loaded.model(input_ids=torch.tensor([ids]), use_cache=False, slots=full)
        for layer, weights in full.weights.items():
            for head in range(geometry.n_kv_heads):
                heads = [head * geometry.group + g for g in range(geometry.group)]
                for rule, mass in enumerate(captured(weights, heads)):
                    expected[rule, layer, head] += mass
    assert torch.allclose(found["uniform_mass"], expected[0], rtol=1e-4)
    assert torch.allclose(found["attention_mass"], expected[1], rtol=1e-4)
    assert torch.equal(found["uniform"], expected[0] > expected[1])
    assert found["uniform"].dtype == torch.bool


class Scripted(torch.nn.Module):
    """A model of one layer and two heads whose attention is known: each query looks at keys of one kind.

    Odd tokens are of one kind, multiples of four of another. The newest queries of the prefix look at odd tokens; later ones
    of head 0 at multiples of four, of head 1 at odd tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: torch.Tensor, slots: RoutePass, **_: object) -> None:
        """Show the pass this attention."""
        position = torch.arange(input_ids.shape[1])
        kinds = torch.stack([position % 2 == 1, position % 4 == 0], dim=1).float()  # [T,2]
        odd, fours = torch.tensor([9.0, 0.0]), torch.tensor([0.0, 9.0])
        later = position >= len(position) // 2
        query = torch.stack([torch.where(later[:, None], fours, odd), odd.expand(len(position), 2)])
        slots.attend(LayerCall(0, 1.0), query[None], kinds.expand(1, 2, -1, 2), kinds.expand(1, 2, -1, 2))


def test_either_rule_can_win() -> None:
    """Where what will be read is not what was read, even spacing keeps more of it."""
    geometry = Geometry(1, 2, 2, 2, torch.ones(1))
    loaded = LoadedModel(Scripted(), None, geometry, frozenset())
    found = measure(loaded, Corpus((tuple(range(64)),), (), "test"))

    assert found["uniform"].tolist() == [[True, False]]


def test_short_texts_are_refused(toy_llama: LoadedModel) -> None:
    """A quarter of 35 tokens is not more than the window."""
    with pytest.raises(CalibrationError, match="at least 36 tokens"):
        measure(toy_llama, Corpus((tuple(range(2, 37)),), (), "test"))
