"""A window in every layer and a pyramid above it: MiniKV's numbers, exact totals, and what is kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from designspace.axes import Mechanism, View
from designspace.engine.compress import compress
from designspace.errors import DeclarationError
from designspace.testing.views import view_of
from families.cadence.prefill_only import PrefillOnly
from families.head_routing.pyramid import Pyramid, pyramid_shares
from families.head_routing.windowed_pyramid import WindowedPyramid
from families.representation.full import FullPrecision
from families.scoring.h2o import H2O


def view_with(n: int, layers: int = 4, heads: int = 1, rows: int = 1, **extra: int) -> View:
    """Return an event of n tokens per head."""
    return view_of(torch.zeros(layers, rows, heads, n, 2), **extra)


def shares(routing: WindowedPyramid | Pyramid, view: View, *target: int) -> Tensor:
    """Return the shares [L,E,H_kv]."""
    return routing.allocate(view, torch.zeros(view.positions.shape), torch.tensor(target))


def test_shares_of_mini_kv() -> None:
    """A prompt of 512, four layers, half of it kept: a window of 128 in each, the rest falls from layer to layer.

    The original floors 365.7, 292.6, 219.4 and 146.3, so that two tokens of the budget are nobody's.
    """
    view, routing = view_with(512), WindowedPyramid()
    real = routing.shares(256, 128, 4)

    assert real.floor().tolist() == [365, 292, 219, 146]
    assert shares(routing, view, 256)[:, 0, 0].tolist() == [366, 293, 219, 146]
    assert shares(Pyramid(beta=7.0), view, 256)[:, 0, 0].tolist() == [475, 329, 183, 37]  # without a window


def test_no_window_and_no_slope() -> None:
    """The limits are `pyramid` and `uniform`."""
    view = view_with(400, heads=2)

    assert torch.equal(shares(WindowedPyramid(window=0.0, beta=3.0), view, 100), shares(Pyramid(beta=3.0), view, 100))
    assert shares(WindowedPyramid(beta=1.0), view, 100).unique().tolist() == [100]
    assert pyramid_shares(0.25, 4, 7).tolist() == pytest.approx([0.46429, 0.32143, 0.17857, 0.03571], abs=1e-5)


def test_the_window_holds_what_is_protected() -> None:
    """And never more than the budget."""
    routing = WindowedPyramid(window=0.2)
    n_window = [int(routing.n_window(torch.tensor([40]), protected)) for protected in (0, 8, 9, 50)]

    assert n_window == [8, 8, 9, 40]


def test_a_window_and_the_best_of_the_others_are_kept() -> None:
    """In the lowest layer many others, in the highest few; scores of the window are of no account."""
    n, generator = 60, torch.Generator().manual_seed(1)
    mass = torch.rand(2, 1, 2, n, generator=generator)
    mass[..., 50:] = 0
    view = view_of(torch.zeros(2, 1, 2, n, 4), accumulated=mass, target=20)
    mechanism = Mechanism("test", H2O(recent=0), WindowedPyramid(beta=2.0), PrefillOnly(), FullPrecision())
    kept = compress(mechanism, view)

    assert kept.counts[:, 0].tolist() == [[25, 25], [15, 15]]
    for layer in range(2):
        for head in range(2):
            best = mass[layer, 0, head, :50].argsort(descending=True)[: (15, 5)[layer]].tolist()
            found = kept.order[layer, 0, head, : (25, 15)[layer]].tolist()
            assert found == sorted(best) + list(range(50, 60))


def test_what_a_layer_cannot_hold_goes_to_the_others() -> None:
    """The first layer's share of 71 exceeds the sixty tokens that are there."""
    view = view_of(torch.zeros(4, 1, 1, 60, 4), accumulated=torch.rand(4, 1, 1, 60), target=50)
    mechanism = Mechanism("test", H2O(recent=0), WindowedPyramid(), PrefillOnly(), FullPrecision())
    counts = compress(mechanism, view).counts[:, 0, 0].tolist()

    assert shares(WindowedPyramid(), view, 50)[:, 0, 0].tolist() == [71, 57, 43, 29]
    assert counts == [60, 60, 48, 32]
    assert sum(counts) == 200


@settings(max_examples=60, deadline=None)
@given(
    window=st.floats(0, 0.99),
    beta=st.floats(1, 50),
    target=st.integers(2, 200),
    layers=st.integers(1, 5),
    protected=st.integers(0, 9),
)
def test_totals_are_exact(window: float, beta: float, target: int, layers: int, protected: int) -> None:
    """Every row's total is target * L * H, and no share is above what is announced."""
    routing, view = WindowedPyramid(window, beta), view_with(10, layers, 3, 2, recent=protected)
    found = shares(routing, view, target, target + 7)

    for row, size in enumerate((target, target + 7)):
        assert int(found[:, row].sum()) == size * layers * 3
        assert int(found[:, row].max()) <= routing.largest_share(size, view.geometry, protected)
        assert int(found[:, row].min()) >= int(routing.n_window(torch.tensor([size]), protected))


@pytest.mark.parametrize("wrong", [{"window": 1.0}, {"window": -0.1}, {"beta": 0.5}], ids=str)
def test_parameters_are_checked(wrong: dict[str, float]) -> None:
    """The message names the parameter."""
    with pytest.raises(DeclarationError, match=f"{next(iter(wrong))} must .*got {next(iter(wrong))}="):
        WindowedPyramid(**wrong)
