"""Set-conditioned selectors: hand vectors, brute force, invariants."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from designspace.axes import Selector
from designspace.testing.views import view_of
from families.scoring.selectors.diversity import Penalised
from families.scoring.selectors.dpp import DPP, LogDeterminant
from families.scoring.selectors.facility_location import Coverage, FacilityLocation
from families.scoring.selectors.greedy_loop import Objective, pick
from families.scoring.selectors.k_center import Farthest, KCenter
from families.scoring.selectors.mmr import MMR
from families.scoring.selectors.top_k import TopK

SIMILARITY = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.1], [0.0, 0.1, 1.0]])
SELECTORS = [MMR(), FacilityLocation(), DPP(), KCenter(), KCenter(weigh=True)]


def order(objective: Objective, n: int, k: int) -> list[int]:
    """Picks of one head in order."""
    return pick(objective, torch.ones(n, dtype=torch.bool), torch.tensor(k)).tolist()


def none(n: int) -> Tensor:
    """No seeds."""
    return torch.zeros(n, dtype=torch.bool)


def test_facility_location_hand_vector() -> None:
    """First gains [1.9, 2.0, 1.1], then [.1, -, .9]; with 0 protected [-, .2, 1.0]."""
    start = Coverage(SIMILARITY, torch.zeros(3), torch.ones(3), none(3), 0.0)
    assert start.gain().tolist() == pytest.approx([1.9, 2.0, 1.1])
    assert order(start, 3, 2) == [1, 2]
    seeded = Coverage(SIMILARITY, torch.zeros(3), torch.ones(3), torch.tensor([True, False, False]), 0.0)
    assert seeded.gain()[1:].tolist() == pytest.approx([0.2, 1.0])


@pytest.mark.parametrize(("lam", "expected"), [(0.5, [0, 2]), (1.0, [0, 1])])
def test_mmr_hand_vector(lam: float, expected: list[int]) -> None:
    """Rel = [1, .9, .5]: scores [.5, .45, .25], then [-, 0, .25]."""
    objective = Penalised(
        torch.linalg.cholesky(SIMILARITY), lam * torch.tensor([1.0, 0.9, 0.5]), none(3), 1 - lam, floor=False
    )

    assert order(objective, 3, 2) == expected


def test_dpp_hand_vector() -> None:
    """Q = [1, .9, .5]: diagonal [1, .81, .25], then residuals [-, .1539, .25]."""
    q = torch.tensor([1.0, 0.9, 0.5])
    objective = LogDeterminant(q[:, None] * SIMILARITY * q, q)
    assert objective.gain().tolist() == pytest.approx([1.0, 0.81, 0.25])
    objective.add(torch.tensor([0]))
    assert objective.gain()[1:].tolist() == pytest.approx([0.1539, 0.25], abs=1e-6)


def test_dpp_of_low_rank_goes_on_by_relevance() -> None:
    """Two dimensions: after two picks nothing is left to tell apart, and the rest comes in order of relevance."""
    unit = torch.nn.functional.normalize(torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), dim=-1)
    relevance = torch.tensor([0.1, 0.9, 0.3, 0.7, 0.5, 0.2])
    picks = order(LogDeterminant((unit @ unit.T).double(), relevance.double()), 6, 6)

    rest = picks[2:]
    assert sorted(picks) == list(range(6))
    assert rest == sorted(rest, key=lambda i: -float(relevance[i]))


def test_dpp_seeds_may_differ_between_heads() -> None:
    """A head's seeds condition that head alone."""
    generator = torch.Generator().manual_seed(1)
    unit = torch.nn.functional.normalize(torch.randn(6, 4, generator=generator), dim=-1)
    kernel = (unit @ unit.T + 0.1 * torch.eye(6)).expand(2, 6, 6)
    seeds = torch.tensor([[True, True, False, False, False, False], [False] * 6])
    both = LogDeterminant(kernel, torch.zeros(2, 6))
    both.seed(seeds)
    alone = LogDeterminant(kernel[0], torch.zeros(6))
    alone.add(torch.tensor([0]))
    alone.add(torch.tensor([1]))

    assert torch.allclose(both.residual[0], alone.residual)
    assert torch.allclose(both.residual[1], kernel[1].diagonal())


def test_k_center_hand_vector() -> None:
    """Points 0, 1, 2, 10 from 0: k = 2 gives {0, 10}, k = 3 adds 2."""
    points = torch.tensor([0.0, 1, 2, 10])
    distance = (points[:, None] - points).abs()
    seeds = torch.tensor([True, False, False, False])
    picks = pick(Farthest(distance, torch.ones(4), seeds, weigh=False), ~seeds, torch.tensor(2))

    assert picks.tolist() == [3, 2]


def radius(distance: Tensor, chosen: tuple[int, ...]) -> float:
    """The largest distance of a point to the nearest chosen one."""
    return float(distance[:, list(chosen)].amin(dim=1).amax())


def on_circle(*degrees: float) -> Tensor:
    """Unit keys [1,1,1,N,2]."""
    angle = torch.tensor(degrees).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], dim=-1)[None, None, None]


@pytest.mark.parametrize(
    ("selector", "expected", "covering"),
    [(KCenter(), [0, 2], 0.01745), (KCenter(weigh=True), [0, 1], 1.99992)],
    ids=["plain", "weighted"],
)
def test_k_center_covers_unless_it_weighs(selector: KCenter, expected: list[int], covering: float) -> None:
    """Keys at 0, 1 and 180 degrees, the first one protected, scores 9, 1, 0: the weight leaves the far one alone."""
    keys = on_circle(0, 1, 180)
    view = view_of(keys, sinks=1)
    keep = selector.select(view, torch.tensor([9.0, 1.0, 0.0]).view(1, 1, 1, 3), torch.full((1, 1, 1), 2))
    distance = (keys[0, 0, 0, :, None] - keys[0, 0, 0]).norm(dim=-1)

    assert keep.flatten().nonzero()[:, 0].tolist() == expected
    assert radius(distance, tuple(expected)) == pytest.approx(covering, abs=1e-5)


@pytest.mark.parametrize("n_protected", [0, 2])
@pytest.mark.parametrize("seed", range(6))
def test_k_center_is_gonzalez_traversal(n_protected: int, seed: int) -> None:
    """Step by step as by hand from the best score or what is protected, and within twice the brute-force optimum."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.nn.functional.normalize(torch.randn(1, 1, 1, 11, 3, generator=generator), dim=-1)
    scores = torch.randn(1, 1, 1, 11, generator=generator)
    view = view_of(keys * torch.rand(11, 1, generator=generator), sinks=n_protected)
    keep = KCenter().select(view, scores, torch.full((1, 1, 1), 5))
    distance = (keys[0, 0, 0, :, None].double() - keys[0, 0, 0].double()).norm(dim=-1)
    chosen = list(range(n_protected)) or [int(scores.argmax())]
    while len(chosen) < 5:
        chosen.append(max(range(11), key=lambda i: min(float(distance[i, j]) for j in chosen)))
    rest = combinations(range(n_protected, 11), 5 - n_protected)
    best = min(radius(distance, (*range(n_protected), *others)) for others in rest)

    assert sorted(chosen) == keep.flatten().nonzero()[:, 0].tolist()
    assert radius(distance, tuple(chosen)) <= 2 * best + 1e-9


def coverage(similarity: Tensor, chosen: tuple[int, ...]) -> float:
    """F(S) = sum_i max over chosen j of s(i, j)."""
    return float(similarity[:, list(chosen)].amax(dim=1).sum())


def test_facility_location_keeps_its_guarantee() -> None:
    """At least 1 - 1/e of the brute-force optimum on small instances."""
    for seed in range(10):
        x = torch.nn.functional.normalize(torch.randn(10, 3, generator=torch.Generator().manual_seed(seed)), dim=-1)
        similarity = (x @ x.T).clamp(min=0)
        greedy = order(Coverage(similarity, torch.zeros(10), torch.ones(10), none(10), 0.0), 10, 3)
        best = max(coverage(similarity, chosen) for chosen in combinations(range(10), 3))
        assert coverage(similarity, tuple(greedy)) >= (1 - 1 / 2.718281828) * best


def naive_coverage_order(similarity: Tensor, k: int) -> list[int]:
    """Greedy facility location by evaluating the objective anew for every candidate."""
    chosen: list[int] = []
    for _ in range(k):
        base = coverage(similarity, tuple(chosen)) if chosen else 0.0
        gains = [
            coverage(similarity, (*chosen, j)) - base if j not in chosen else float("-inf")
            for j in range(len(similarity))
        ]
        best = max(gains)
        chosen.append(max(j for j, gain in enumerate(gains) if gain >= best - 1e-9))
    return chosen


def test_facility_location_against_the_naive_objective() -> None:
    """The incremental gains choose what re-evaluating F chooses."""
    x = torch.nn.functional.normalize(torch.randn(20, 5, generator=torch.Generator().manual_seed(7)).double(), dim=-1)
    similarity = (x @ x.T).clamp(min=0)
    ours = order(Coverage(similarity, torch.zeros(20), torch.ones(20), none(20), 0.0), 20, 8)

    assert ours == naive_coverage_order(similarity, 8)


@settings(max_examples=40, deadline=None)
@given(selector=st.sampled_from(SELECTORS), seed=st.integers(0, 500), share=st.integers(3, 16), n=st.integers(4, 16))
def test_selectors_keep_their_promises(selector: Selector, seed: int, share: int, n: int) -> None:
    """Exact counts, protected tokens inside, rows independent, everything kept when it fits."""
    generator = torch.Generator().manual_seed(seed)
    keys, scores = torch.randn(2, 3, 2, n, 4, generator=generator), torch.rand(2, 3, 2, n, generator=generator)
    view, shares = view_of(keys, sinks=1, recent=1), torch.full((2, 3, 2), min(share, n))
    keep = selector.select(view, scores, shares)

    assert torch.equal(keep.sum(dim=-1), shares)
    assert bool((keep | ~view.protected).all())
    alone = selector.select(view_of(keys[:, 1:2], sinks=1, recent=1), scores[:, 1:2], shares[:, 1:2])
    assert torch.equal(keep[:, 1:2], alone)


@pytest.mark.parametrize("selector", [MMR(lam=1.0), FacilityLocation(mix=1.0)], ids=str)
def test_full_weight_on_relevance_is_top_k(selector: Selector) -> None:
    """The limit of both mixes."""
    keys, scores = torch.randn(2, 1, 2, 12, 4), torch.rand(2, 1, 2, 12)
    view, shares = view_of(keys, recent=2), torch.full((2, 1, 2), 6)

    assert torch.equal(selector.select(view, scores, shares), TopK().select(view, scores, shares))


def test_duplicates_come_last() -> None:
    """No selector takes a second copy of a key while something uncovered is left."""
    keys = torch.eye(4)[[0, 0, 0, 1, 2, 3]].view(1, 1, 1, 6, 4)
    for selector in (FacilityLocation(mix=0.0), DPP(theta=0.0), KCenter()):
        keep = selector.select(view_of(keys), torch.ones(1, 1, 1, 6), torch.full((1, 1, 1), 4))
        assert keep[0, 0, 0, 3:].all(), selector
        assert int(keep[0, 0, 0, :3].sum()) == 1
