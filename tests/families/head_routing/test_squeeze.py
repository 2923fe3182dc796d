"""SqueezeAttention: the groups of layers, hand vectors, exact totals."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.axes import View
from designspace.errors import DeclarationError
from designspace.testing.views import view_of
from families.head_routing.squeeze import Squeeze, top_group


def view_with(cosine: torch.Tensor, n_kv_heads: int = 1, recent: int = 0) -> View:
    """Return an event of rows whose layers' cosines are [L,E]."""
    n_layers, rows = cosine.shape
    return view_of(torch.zeros(n_layers, rows, n_kv_heads, 20, 2), layer_cosine=cosine, recent=recent)


def shares(routing: Squeeze, view: View, *target: int) -> torch.Tensor:
    """Return the shares [L,E,H_kv]."""
    return routing.allocate(view, torch.zeros(view.positions.shape), torch.tensor(target))


def three_means(numbers: list[float]) -> set[int]:
    """Return the members of the highest group: all assignments to three groups are tried."""
    best: tuple[float, int] | None = None
    top: set[int] = set()
    for assignment in itertools.product(range(3), repeat=len(numbers)):
        if set(assignment) != set(range(min(3, len(numbers)))):
            continue
        groups = [[x for x, g in zip(numbers, assignment, strict=True) if g == group] for group in range(3)]
        cost = sum(sum((x - sum(g) / len(g)) ** 2 for x in g) for g in groups if g)
        highest = max((g for g in range(3) if groups[g]), key=lambda g: sum(groups[g]) / len(groups[g]))
        members = {i for i, g in enumerate(assignment) if g == highest}
        if best is None or (round(cost, 12), len(members)) < best:
            best, top = (round(cost, 12), len(members)), members
    return top


def test_squeeze_r6() -> None:
    """L=32, 18 layers in the top group, b=100, p=.35: these get 35, the others 183.57, 3200 in all."""
    cosine = torch.tensor([0.2] * 5 + [0.5] * 9 + [0.9] * 18)[:, None]
    found = shares(Squeeze(p=0.35), view_with(cosine), 100)[:, 0, 0].tolist()

    assert found[14:] == [35] * 18
    assert found[:14] == [184] * 8 + [183] * 6
    assert sum(found) == 3200


def test_p_one_is_uniform() -> None:
    """Nothing is taken from anyone."""
    view = view_with(torch.rand(6, 2, generator=torch.Generator().manual_seed(0)), 2)

    assert shares(Squeeze(p=1.0), view, 30, 31).tolist() == [[[30, 30], [31, 31]]] * 6


def test_equal_layers_are_treated_alike() -> None:
    """One cosine everywhere, or a single layer: uniform."""
    assert shares(Squeeze(), view_with(torch.full((4, 1), 0.7)), 30).flatten().tolist() == [30] * 4
    assert shares(Squeeze(), view_with(torch.tensor([[0.3]])), 30).flatten().tolist() == [30]
    assert top_group(torch.tensor([[0.1, 0.1, 0.9, 0.9]])).tolist() == [[False, False, True, True]]


def test_two_layers() -> None:
    """The layer of the higher cosine gives way: .35 of 20 is 7."""
    assert shares(Squeeze(), view_with(torch.tensor([[0.9], [0.8]])), 20).flatten().tolist() == [7, 33]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=7))
def test_groups_are_the_optimum(numbers: list[int]) -> None:
    """The best of all assignments, equal numbers together; of equally good ones the smallest top group."""
    tenths = [n / 10 for n in numbers]
    # In float32 tenths are not evenly spaced, so what is a tie here would be none.
    found = top_group(torch.tensor([tenths], dtype=torch.float64))[0].nonzero().flatten().tolist()

    expected = three_means(tenths)
    lowest = min(tenths[i] for i in expected)
    assert found == [i for i, x in enumerate(tenths) if x >= lowest]


def test_no_layer_gets_less_than_is_protected() -> None:
    """.35 of 20 is 7, but 10 are protected: 10 and 30."""
    view = view_with(torch.tensor([[0.9], [0.8]]), recent=10)

    assert shares(Squeeze(), view, 20).flatten().tolist() == [10, 30]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    p=st.sampled_from([0.1, 0.35, 0.8]),
    n_layers=st.integers(1, 9),
    target=st.integers(4, 60),
)
def test_totals_are_exact(seed: int, p: float, n_layers: int, target: int) -> None:
    """Every row's total is target * L * H, by its own cosines, and no share is above what is announced."""
    cosine = torch.rand(n_layers, 2, generator=torch.Generator().manual_seed(seed))
    routing, view = Squeeze(p=p), view_with(cosine, 3, recent=3)
    found = shares(routing, view, target, target + 5)

    for row, size in enumerate((target, target + 5)):
        alone = view_with(cosine[:, row : row + 1], 3, recent=3)
        assert int(found[:, row].sum()) == size * n_layers * 3
        assert int(found[:, row].max()) <= routing.largest_share(size, view.geometry, 3)
        assert found[:, row].tolist() == shares(routing, alone, size)[:, 0].tolist()


def test_the_largest_share_is_reached() -> None:
    """All layers but one in the top group; distinct within the bottom groups there is just one layer."""
    view = view_with(torch.tensor([[0.1], [0.9], [0.9], [0.9]]))

    assert shares(Squeeze(p=0.5), view, 20).flatten().tolist() == [50, 10, 10, 10]
    assert Squeeze(p=0.5).largest_share(20, view.geometry, 0) == 50


@pytest.mark.parametrize("p", [0.0, 1.1])
def test_p_is_checked(p: float) -> None:
    """Outside (0, 1]."""
    with pytest.raises(DeclarationError, match=r"p must lie in \(0, 1\], got p="):
        Squeeze(p=p)
