"""DynamicKV: counts of a global top-k, the cap, exact totals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.axes import View
from designspace.errors import DeclarationError
from designspace.testing.views import view_of
from families.head_routing.dynamic_kv import DynamicKV, pour


def view_with(
    n_layers: int, n_kv_heads: int, n_slots: int, rows: int = 1, recent: int = 0, *, comparable: bool = True
) -> View:
    """Return an event of rows that hold the same number of tokens everywhere."""
    keys = torch.zeros(n_layers, rows, n_kv_heads, n_slots, 2)
    return view_of(keys, recent=recent, comparable_scores=comparable)


def reference(
    scores: torch.Tensor, candidates: torch.Tensor, target: int, protected: int, ratio_max: float
) -> list[float]:
    """Return the real share per head of each layer, [L], of one row's scores [L,H,C]; the caps must leave room."""
    n_layers, n_heads, n_slots = scores.shape
    free = target - protected
    entries = [
        (-float(scores[layer, head, slot]), -slot, layer)
        for layer in range(n_layers)
        for head in range(n_heads)
        for slot in range(n_slots)
        if bool(candidates[layer, head, slot])
    ]
    best = sorted(entries)[: free * n_layers * n_heads]
    counts = [sum(1 for *_, owner in best if owner == layer) for layer in range(n_layers)]
    held = [int(candidates[layer].sum()) for layer in range(n_layers)]
    most = [min(ratio_max * free * n_heads, n) for n in held]
    given: dict[int, float] = {}
    while True:
        others = [layer for layer in range(n_layers) if layer not in given]
        left = free * n_layers * n_heads - sum(given.values())
        weight = sum(counts[layer] for layer in others)
        part = {layer: left * (counts[layer] / weight if weight else 1 / len(others)) for layer in others}
        over = [layer for layer in others if part[layer] > most[layer] + 1e-9]
        if not over:
            return [(part | given)[layer] / n_heads + protected for layer in range(n_layers)]
        given |= {layer: most[layer] for layer in over}


def test_shares_are_counts_of_the_global_best() -> None:
    """The best 2 * 2 of all: .9 .8 .7 of layer 0, .6 of layer 1."""
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.1], [0.6, 0.5, 0.2, 0.1]]).view(2, 1, 1, 4)
    found = DynamicKV().allocate(view_with(2, 1, 4), scores, torch.tensor([2]))

    assert found.flatten().tolist() == [3, 1]


def test_the_cap_hands_over_by_counts() -> None:
    """b'=4, twelve places: counts 9, 2, 1 become 8 (cap 2 b') and 4 divided 2 : 1."""
    scores = torch.tensor(
        [[9.0, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0], [8.0, 8] + [0] * 10, [8.0] + [0] * 11]
    ).view(3, 1, 1, 12)  # fmt: skip
    view = view_with(3, 1, 12)

    assert DynamicKV().allocate(view, scores, torch.tensor([4])).flatten().tolist() == [9, 2, 1]
    assert DynamicKV(ratio_max=2.0).allocate(view, scores, torch.tensor([4])).flatten().tolist() == [8, 3, 1]


def test_a_layer_is_divided_evenly_lower_heads_first() -> None:
    """Five tokens for two heads, three for the other layer's; the layers' own totals stand."""
    scores = torch.zeros(2, 1, 2, 6)
    scores[0, 0, 0, :5], scores[1, 0, 1, :3] = 1.0, 1.0
    found = DynamicKV().allocate(view_with(2, 2, 6), scores, torch.tensor([2]))

    assert found[:, 0].tolist() == [[3, 2], [2, 1]]


def test_unlike_scales_are_brought_to_one() -> None:
    """Key norms of another layer are a hundred times as large: equal shapes get equal shares, raw ones do not."""
    scores = torch.tensor([[-1.0, -2, -3, -4], [-100.0, -200, -300, -400]]).view(2, 1, 1, 4)
    view = view_with(2, 1, 4, comparable=False)

    assert DynamicKV().allocate(view, scores, torch.tensor([2])).flatten().tolist() == [2, 2]
    assert DynamicKV(normalise="none").allocate(view, scores, torch.tensor([2])).flatten().tolist() == [4, 0]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n_layers=st.integers(1, 5),
    target=st.integers(4, 12),
    ratio_max=st.sampled_from([1.0, 1.3, 2.0, 10.0]),
)
def test_shares_equal_the_slow_reference(seed: int, n_layers: int, target: int, ratio_max: float) -> None:
    """Each layer's total is within a token of the formula, the row's is exact, none above what is announced."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(n_layers, 2, 2, 20, generator=generator) ** torch.randint(
        1, 9, (n_layers, 1, 1, 1), generator=generator
    )
    view, routing = view_with(n_layers, 2, 20, rows=2, recent=3), DynamicKV(ratio_max=ratio_max)
    found = routing.allocate(view, scores, torch.tensor([target, target + 2]))

    for row, size in enumerate((target, target + 2)):
        expected = reference(scores[:, row], view.candidates[:, row], size, 3, ratio_max)
        assert int(found[:, row].sum()) == size * n_layers * 2
        for layer in range(n_layers):
            assert abs(int(found[layer, row].sum()) - 2 * expected[layer]) < 1 + 1e-6
            assert int(found[layer, row].max() - found[layer, row].min()) <= 1
        assert int(found[:, row].max()) <= routing.largest_share(size, view.geometry, 3)


def test_what_nobody_holds_is_spread_evenly() -> None:
    """Twelve places, layer 0 holds two tokens and layer 1 eight: the two that are left over go one to each."""
    positions = torch.full((2, 1, 1, 8), -1)
    positions[0, 0, 0, :2], positions[1, 0, 0] = torch.arange(2), torch.arange(8)
    view = view_of(torch.zeros(2, 1, 1, 8, 2), positions=positions, comparable_scores=True)
    scores = torch.rand(2, 1, 1, 8, generator=torch.Generator().manual_seed(0))

    assert DynamicKV().allocate(view, scores, torch.tensor([6])).flatten().tolist() == [3, 9]


@pytest.mark.parametrize(
    ("weights", "total", "most", "expected"),
    [
        ([1, 3], 8, [9, 9], [2, 6]),
        ([1, 3], 8, [9, 5], [3, 5]),
        ([0, 0, 3], 8, [9, 9, 4], [2, 2, 4]),
        ([1, 3], 8, [2, 3], [2, 3]),
    ],
    ids=["in proportion", "capped", "without weight", "too much"],
)
def test_pour(weights: list[float], total: float, most: list[float], expected: list[float]) -> None:
    """One row at a time, and in the company of another row."""
    rows = [
        torch.tensor([x, y], dtype=torch.float64) for x, y in ((weights, [1.0] * len(most)), (most, [5.0] * len(most)))
    ]
    found = pour(rows[0], torch.tensor([total, 3.0], dtype=torch.float64), rows[1])

    assert found[0].tolist() == pytest.approx(expected)
    assert found[1].tolist() == pytest.approx([3 / len(most)] * len(most))


@pytest.mark.parametrize("wrong", [{"ratio_max": 0.5}, {"ratio_max": float("inf")}, {"normalise": "z"}], ids=str)
def test_parameters_are_checked(wrong: dict[str, object]) -> None:
    """The message names the parameter."""
    with pytest.raises(DeclarationError, match=f"{next(iter(wrong))} must .*got {next(iter(wrong))}="):
        DynamicKV(**wrong)  # type: ignore[arg-type]
