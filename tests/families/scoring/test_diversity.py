"""α against its definition: a naive O(n k²) reference, hand cases, and the invariances."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from designspace.axes import View
from designspace.errors import DeclarationError
from designspace.testing.views import view_of
from families.scoring.selectors.diversity import Diversity
from families.scoring.selectors.greedy_loop import unit_features
from families.scoring.selectors.top_k import TopK


def naive(scores: list[float], signatures: list[list[float]], k: int, weight: float) -> list[int]:
    """The published greedy rule, written out: argmax of s_i - weight * max(0, max over chosen of the dot product)."""
    chosen: list[int] = []
    while len(chosen) < min(k, len(scores)):
        best, best_gain = -1, float("-inf")
        for i, score in enumerate(scores):
            if i in chosen:
                continue
            closest = max(
                (sum(a * b for a, b in zip(signatures[i], signatures[j], strict=True)) for j in chosen), default=0.0
            )
            gain = score - weight * max(0.0, closest)
            if gain >= best_gain:  # ties go to the later slot
                best, best_gain = i, gain
        chosen.append(best)
    return sorted(chosen)


def naive_signatures(values: Tensor) -> list[list[float]]:
    """Mean over layers and heads of one token's values [L,H,N,D], then unit length."""
    n_layers, n_heads, n_slots, dim = values.shape
    out = []
    for slot in range(n_slots):
        total = [0.0] * dim
        for layer in range(n_layers):
            for head in range(n_heads):
                total = [t + float(v) for t, v in zip(total, values[layer, head, slot], strict=True)]
        mean = [t / (n_layers * n_heads) for t in total]
        norm = sum(x * x for x in mean) ** 0.5
        out.append([x / (norm + 1e-8) for x in mean])
    return out


def pick(view: View, scores: Tensor, k: int, selector: Diversity | TopK) -> list[int]:
    """Kept slots of the first head."""
    keep = selector.select(view, scores, torch.full(view.counts.shape, k))
    assert bool((keep == keep[:1, :, :1]).all()) or scores.shape[2] > 1
    return keep[0, 0, 0].nonzero()[:, 0].tolist()


def one_head(values: Tensor) -> View:
    """A view with one layer, row and head."""
    return view_of(torch.zeros_like(values)[None, None, None], values[None, None, None])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(2, 24),
    k=st.integers(1, 24),
    weight=st.sampled_from([0.1, 0.5, 1.0, 1.5]),
)
def test_greedy_equals_the_naive_reference(seed: int, n: int, k: int, weight: float) -> None:
    """Random scores and values, several layers and heads."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(3, 1, 2, n, 4, generator=generator)
    shared = torch.randn(n, generator=generator)
    view = view_of(torch.zeros_like(values), values)
    kept = pick(view, shared.expand(3, 1, 2, n).contiguous(), k, Diversity(weight=weight))

    assert kept == naive(shared.tolist(), naive_signatures(values[:, 0]), k, weight)


Vector = list[float]


def averaged(values: Tensor, scope: str, layer: int, head: int) -> list[Vector]:
    """Unit signatures of the tokens of [L,H,N,D] values: of one head, of a layer's heads together, or of all together."""
    if scope == "layer-head":
        values = values[layer : layer + 1, head : head + 1]
    elif scope == "layer":
        values = values[layer : layer + 1]
    return naive_signatures(values)


def naive_reduced(
    scores: Vector, signatures: list[Vector], k: int, weight: float, reducer: str, *, floor: bool, seeds: list[int]
) -> list[int]:
    """O(n k^2): every gain anew from all similarities to the chosen set, each clipped at zero where there is a floor."""
    chosen = list(seeds)
    while len(chosen) < min(k, len(scores)):
        gains = []
        for i, score in enumerate(scores):
            similar = [sum(a * b for a, b in zip(signatures[i], signatures[j], strict=True)) for j in chosen]
            similar = [max(0.0, s) for s in similar] if floor else similar
            penalty = {"max": max, "sum": sum, "mean": lambda x: sum(x) / len(x)}[reducer](similar) if similar else 0.0
            gains.append(float("-inf") if i in chosen else score - weight * penalty)
        chosen.append(max(range(len(gains)), key=lambda i: (gains[i], i)))
    return sorted(chosen)


@pytest.mark.parametrize("seeded", [False, True], ids=["unseeded", "seeded"])
@pytest.mark.parametrize("floor", [True, False], ids=["floor", "no-floor"])
@pytest.mark.parametrize("scope", ["global", "layer", "layer-head"])
@pytest.mark.parametrize("reducer", ["max", "sum", "mean"])
def test_every_reducer_and_scope_against_the_naive_loop(reducer: str, scope: str, *, floor: bool, seeded: bool) -> None:
    """Every head of several layers and rows, scores of their own, heads with shares of their own."""
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(2, 2, 3, 14, 5, generator=generator)
    scores = torch.randn(2, 2, 3, 14, generator=generator)
    shares = torch.randint(1, 15, (2, 2, 3), generator=generator)
    sinks = int(seeded)
    view = view_of(torch.zeros_like(values), values, sinks=sinks)
    selector = Diversity(
        weight=0.4 if reducer == "sum" else 0.9, reducer=reducer, scope=scope, floor=floor, seed_with_protected=seeded
    )  # type: ignore[arg-type]
    keep = selector.select(view, scores, shares)

    for layer, row, head in [(a, b, c) for a in range(2) for b in range(2) for c in range(3)]:
        signatures = averaged(values[:, row], scope, layer, head)
        at = (layer, row, head)
        expected = naive_reduced(
            scores[at].tolist(), signatures, int(shares[at]), selector.weight, reducer,
            floor=floor, seeds=list(range(sinks)),
        )  # fmt: skip
        assert keep[at].nonzero()[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("diagonal", "expected"),
    [
        (0.3, {"max": [0, 1, 2], "sum": [0, 1, 3], "mean": [0, 1, 3]}),
        (0.8, {"max": [0, 1, 2], "sum": [0, 1, 3], "mean": [0, 1, 2]}),
    ],
)
def test_reducers_choose_different_sets(diagonal: float, expected: dict[str, list[int]]) -> None:
    """With x and y chosen, the diagonal has similarities .71 and .71, the copy of x has 1 and 0."""
    half = 0.5**0.5
    view = one_head(torch.tensor([[1.0, 0.0], [0.0, 1.0], [half, half], [1.0, 0.0]]))
    scores = torch.tensor([3.0, 2.9, diagonal, 0.5]).view(1, 1, 1, 4)

    for reducer, kept in expected.items():
        assert pick(view, scores, 3, Diversity(weight=1.0, reducer=reducer)) == kept  # type: ignore[arg-type]


def test_a_floor_applies_to_each_similarity() -> None:
    """In a sum an opposite does not make up for a copy; without the floor it does."""
    view = one_head(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.6, 0.8]]))
    scores = torch.tensor([3.0, 2.9, 0.5, 0.2]).view(1, 1, 1, 4)

    # The copy has 1 and -1, the other .6 and -.6.
    assert pick(view, scores, 3, Diversity(weight=1.0, reducer="sum")) == [0, 1, 3]
    assert pick(view, scores, 3, Diversity(weight=1.0, reducer="sum", floor=False)) == [0, 1, 2]


def test_reducer_must_be_known() -> None:
    """One sentence."""
    with pytest.raises(DeclarationError, match="reducer must be 'max', 'sum' or 'mean', got reducer='min'"):
        Diversity(reducer="min")  # type: ignore[arg-type]


def test_duplicates_compete_with_a_handicap_of_the_weight() -> None:
    """The second copy of a token loses exactly the weight."""
    view = one_head(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    scores = torch.tensor([1.0, 0.9, 0.5]).view(1, 1, 1, 3)

    assert pick(view, scores, 2, Diversity(weight=0.5)) == [0, 2]  # 0.9 - 0.5 < 0.5
    assert pick(view, scores, 2, Diversity(weight=0.3)) == [0, 1]  # 0.9 - 0.3 > 0.5


def test_opposites_earn_no_bonus() -> None:
    """Anti-aligned values are floored at zero; without the floor they would win."""
    view = one_head(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))
    scores = torch.tensor([1.0, 0.4, 0.5]).view(1, 1, 1, 3)

    assert pick(view, scores, 2, Diversity(weight=0.5)) == [0, 2]
    assert pick(view, scores, 2, Diversity(weight=0.5, floor=False)) == [0, 1]


def test_equal_values_keep_the_baseline_order() -> None:
    """If all signatures are equal, the set is the baseline's."""
    view = one_head(torch.ones(6, 3))
    scores = torch.tensor([0.3, 0.9, 0.1, 0.8, 0.5, 0.2]).view(1, 1, 1, 6)

    assert pick(view, scores, 3, Diversity(weight=1.5)) == pick(view, scores, 3, TopK()) == [1, 3, 4]


def test_zero_values_are_never_similar() -> None:
    """A zero vector has similarity 0 to everything, also to another zero vector."""
    view = one_head(torch.zeros(3, 2))
    scores = torch.tensor([1.0, 0.9, 0.8]).view(1, 1, 1, 3)

    assert pick(view, scores, 2, Diversity(weight=5.0)) == [0, 1]


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_only_the_ratio_of_weight_to_score_scale_matters(scale: float) -> None:
    """(c s, c weight) and (s + constant) choose the same set."""
    generator = torch.Generator().manual_seed(5)
    view, scores = one_head(torch.randn(20, 4, generator=generator)), torch.randn(1, 1, 1, 20, generator=generator)
    base = pick(view, scores, 8, Diversity(weight=0.5))

    assert pick(view, scores * scale, 8, Diversity(weight=0.5 * scale)) == base
    assert pick(view, scores + 3.0, 8, Diversity(weight=0.5)) == base


def test_weight_zero_is_top_k_including_ties() -> None:
    """The explicit top-k path, with the same tie rule."""
    view, scores = one_head(torch.randn(8, 3)), torch.tensor([1.0, 2, 2, 1, 2, 1, 0, 2]).view(1, 1, 1, 8)

    assert pick(view, scores, 3, Diversity(weight=0.0)) == pick(view, scores, 3, TopK()) == [2, 4, 7]


def test_everything_fits() -> None:
    """With n ≤ k all are kept."""
    assert pick(one_head(torch.randn(4, 3)), torch.randn(1, 1, 1, 4), 9, Diversity()) == [0, 1, 2, 3]


def test_protected_slots_seed_only_on_request() -> None:
    """By default the chosen set starts empty over the candidates; seeding makes copies of protected tokens pay."""
    values = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    view = view_of(torch.zeros(1, 1, 1, 4, 2), values[None, None, None], sinks=1)
    scores = torch.tensor([0.0, 0.6, 0.5, 0.0]).view(1, 1, 1, 4)

    assert pick(view, scores, 2, Diversity(weight=0.5)) == [0, 1]
    assert pick(view, scores, 2, Diversity(weight=0.5, seed_with_protected=True)) == [0, 2]


def test_signatures_follow_tokens_not_slots() -> None:
    """Heads that hold different tokens in a slot average by position."""
    positions = torch.tensor([[0, 1, 2], [0, 2, 3]]).view(1, 1, 2, 3)
    values = torch.tensor([[[1.0, 0], [0, 2], [3, 0]], [[0, 1.0], [0, 3], [5, 0]]]).view(1, 1, 2, 3, 2)
    signature = unit_features(view_of(torch.zeros_like(values), values, positions=positions), "values", "global")

    token_two = torch.tensor([3.0, 3.0]) / 2
    expected = token_two / token_two.norm()
    assert torch.allclose(signature[0, 0, 0, 2], expected)
    assert torch.allclose(signature[0, 0, 1, 1], expected)
    assert torch.allclose(signature[0, 0, 0, 1], torch.tensor([0.0, 1.0]))


def test_layer_signatures_average_a_layers_holders_only() -> None:
    """The heads of one layer that hold the token, whatever other layers hold."""
    positions = torch.tensor([[[0, 1, 2], [0, 2, 3]], [[0, 1, 2], [1, 2, 3]]]).view(2, 1, 2, 3)
    values = torch.randn(2, 1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    signature = unit_features(view_of(torch.zeros_like(values), values, positions=positions), "values", "layer")

    token_two = (values[0, 0, 0, 2] + values[0, 0, 1, 1]) / 2
    assert torch.allclose(signature[0, 0, 0, 2], token_two / token_two.norm())
    assert torch.allclose(signature[0, 0, 1, 1], token_two / token_two.norm())
    lone = values[1, 0, 0, 0]
    assert torch.allclose(signature[1, 0, 0, 0], lone / lone.norm())
