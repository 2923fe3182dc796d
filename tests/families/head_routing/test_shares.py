"""Head routings: exact totals, hand vectors, and capping."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from designspace.axes import HeadRouting
from designspace.axes.shares import cap_shares, largest_remainder
from designspace.registry import mechanism
from designspace.testing.views import view_of
from families.head_routing.ada_kv import AdaKV
from families.head_routing.pyramid import Pyramid, pyramid_shares
from families.head_routing.uniform import Uniform


def test_pyramid_r2() -> None:
    """b'=40, beta 20, four layers; and with a cap of 60."""
    assert pyramid_shares(40, 4, 20).tolist() == pytest.approx([78, 52.6667, 27.3333, 2], abs=1e-3)
    assert largest_remainder(pyramid_shares(40, 4, 20)[None], torch.tensor([160])).tolist() == [[78, 53, 27, 2]]
    assert largest_remainder(pyramid_shares(40, 4, 20, 60)[None], torch.tensor([160])).tolist() == [[60, 47, 33, 20]]


def test_layers_of_mini_kv() -> None:
    """A prompt of 512, four layers, half of it kept: a window of 128 in each, the rest falls from layer to layer.

    The original floors 365.7, 292.6, 219.4 and 146.3, so that two tokens of the budget are nobody's.
    """
    system = mechanism("minikv")
    view = view_of(torch.zeros(4, 1, 1, 512, 2), recent=system.scoring.n_recent(256))
    shares = system.head_routing.allocate(view, torch.zeros(view.positions.shape), torch.tensor([256]))

    assert view.recent == 128
    assert (pyramid_shares(128, 4, 7) + 128).floor().tolist() == [365, 292, 219, 146]
    assert shares[:, 0, 0].tolist() == [366, 293, 219, 146]
    assert pyramid_shares(0.25, 4, 7).tolist() == pytest.approx([0.46429, 0.32143, 0.17857, 0.03571], abs=1e-5)


@pytest.mark.parametrize(
    ("routing", "expected"),
    [
        (AdaKV(floor=0.5, safeguard="floor"), [1, 3]),
        (AdaKV(floor=0.5, safeguard="blend"), [2, 2]),
        (AdaKV(floor=0.2, safeguard="blend"), [1, 3]),
        (AdaKV(floor=1.0, safeguard="floor"), [2, 2]),
        (AdaKV(floor=1.0, safeguard="blend"), [2, 2]),
    ],
    ids=str,
)
def test_ada_kv_r3(routing: AdaKV, expected: list[int]) -> None:
    """Scores [.9,.05,.03,.02] and [.3,.3,.2,.2], b'=2."""
    scores = torch.tensor([[0.9, 0.05, 0.03, 0.02], [0.3, 0.3, 0.2, 0.2]]).view(1, 1, 2, 4)
    view = view_of(torch.zeros(1, 1, 2, 4, 2), comparable_scores=True)

    assert routing.allocate(view, scores, torch.tensor([2]))[0, 0].tolist() == expected


def test_ada_kv_normalises_scores_of_unlike_scale() -> None:
    """Key norms of different heads are not on one scale; brought to [0, 1], equal shapes get equal shares."""
    scores = torch.tensor([[-1.0, -2, -3, -4], [-100.0, -200, -300, -400]]).view(1, 1, 2, 4)
    view = view_of(torch.zeros(1, 1, 2, 4, 2), comparable_scores=False)

    assert AdaKV(floor=0.0).allocate(view, scores, torch.tensor([2]))[0, 0].tolist() == [2, 2]


@settings(max_examples=60, deadline=None)
@given(
    routing=st.sampled_from(
        [Uniform(), Pyramid(), Pyramid(beta=2.0), AdaKV(), AdaKV(floor=0.0), AdaKV(floor=0.5, safeguard="blend")]
    ),
    seed=st.integers(0, 1000),
    target=st.integers(4, 30),
    n_slots=st.integers(8, 40),
)
def test_totals_are_exact(routing: HeadRouting, seed: int, target: int, n_slots: int) -> None:
    """Every row's total is target * L * H after capping, or everything; no share is above what is there or announced."""
    generator = torch.Generator().manual_seed(seed)
    view = view_of(torch.zeros(3, 2, 2, n_slots, 2), recent=2)
    scores = torch.rand(3, 2, 2, n_slots, generator=generator)
    wanted = torch.tensor([target, max(target - 3, 3)])
    shares = cap_shares(routing.allocate(view, scores, wanted), view.counts)

    assert shares.sum(dim=(0, 2)).tolist() == [min(int(t) * 6, n_slots * 6) for t in wanted]
    assert bool((shares <= n_slots).all()) and bool((shares >= 0).all())
    if n_slots >= 2 * target:
        assert int(shares.max()) <= routing.largest_share(target, view.geometry, 2)


def test_capping_hands_the_surplus_on() -> None:
    """What a short head cannot hold goes to the others, evenly, lower heads first."""
    shares = torch.tensor([[[8, 1]], [[1, 2]]])
    counts = torch.tensor([[[3, 9]], [[9, 9]]])

    assert cap_shares(shares, counts).tolist() == [[[3, 3]], [[3, 3]]]


def test_ada_kv_mass_favours_concentrated_heads() -> None:
    """The first head's best token holds .5 of its mass, the second's .3: weighted .25 and .14 beat .09."""
    scores = torch.tensor([[0.5, 0.28, 0.11, 0.11], [0.3, 0.3, 0.2, 0.2]]).view(1, 1, 2, 4)
    view = view_of(torch.zeros(1, 1, 2, 4, 2), comparable_scores=True)

    assert AdaKV(floor=0.0).allocate(view, scores, torch.tensor([1]))[0, 0].tolist() == [1, 1]
    assert AdaKV(floor=0.0, normalise="mass").allocate(view, scores, torch.tensor([1]))[0, 0].tolist() == [2, 0]
