"""The sampling selector: inclusion frequencies are those of successive draws, and depend on nothing but the row."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations

import pytest
import torch
from scipy.stats import chisquare

from designspace.axes import View
from designspace.testing.views import view_of
from families.scoring.selectors.sampling import CERTAIN, Sampling

WEIGHTS = (0.5, 0.2, 0.15, 0.1, 0.05)
N_ROWS, N_DRAWN = 40_000, 2


def event(n_slots: int = len(WEIGHTS), n_rows: int = N_ROWS) -> View:
    """An event of many rows, each with a random stream of its own."""
    view = view_of(torch.zeros(1, n_rows, 1, n_slots, 2))
    streams = torch.randint(-(2**62), 2**62, (n_rows,), generator=torch.Generator().manual_seed(11))
    return replace(view, streams=streams)


def successive(weights: tuple[float, ...], n: int) -> dict[tuple[int, ...], float]:
    """Return the probability of each set of n tokens that are drawn one after the other, by plain enumeration."""
    found = dict.fromkeys(combinations(range(len(weights)), n), 0.0)
    for order in permutations(range(len(weights)), n):
        left, probability = sum(weights), 1.0
        for token in order:
            probability *= weights[token] / left
            left -= weights[token]
        found[tuple(sorted(order))] += probability
    return found


@pytest.mark.parametrize(
    "selector", [Sampling(), Sampling(weights="softmax", temperature=0.5)], ids=["score", "softmax"]
)
def test_sets_are_drawn_with_their_probabilities(selector: Sampling) -> None:
    """Chi-square over all sets of two of five tokens, with fixed random streams."""
    view = event()
    weights = torch.tensor(WEIGHTS)
    scores = weights if selector.weights == "score" else 0.5 * (7 * weights).log()
    keep = selector.select(view, scores.expand(1, N_ROWS, 1, -1), torch.full((1, N_ROWS, 1), N_DRAWN))
    expected = successive(WEIGHTS, N_DRAWN)
    seen = dict.fromkeys(expected, 0)
    for row in keep[0, :, 0].nonzero()[:, 1].view(N_ROWS, N_DRAWN).tolist():
        seen[tuple(row)] += 1
    p_value = chisquare(list(seen.values()), [N_ROWS * p for p in expected.values()]).pvalue
    assert p_value > 0.001
    even = [N_ROWS / len(expected)] * len(expected)
    assert chisquare(list(seen.values()), even).pvalue < 1e-9, "a uniform draw would be told apart"


def test_what_is_certain_is_drawn_first_and_weight_zero_last() -> None:
    """Negative scores count as 0; of those the newest go first."""
    scores = torch.tensor([0.0, 0.3, CERTAIN, -1.0, 0.2, 0.0])
    view = event(n_slots=6, n_rows=500)
    for n, always in ((1, {2}), (3, {1, 2, 4}), (4, {1, 2, 4, 5})):
        keep = Sampling().select(view, scores.expand(1, 500, 1, -1), torch.full((1, 500, 1), n))
        assert all(set(torch.where(row)[0].tolist()) == always for row in keep[0, :, 0])


def test_a_draw_is_the_rows_own_and_fresh_at_every_event() -> None:
    """Alone or among others the same; another row, head or length of the text draws otherwise."""
    view = event(n_slots=30, n_rows=8)
    scores, shares = torch.ones(1, 8, 1, 30), torch.full((1, 8, 1), 10)
    together = Sampling().select(view, scores, shares)
    alone = replace(
        view_of(torch.zeros(1, 1, 1, 30, 2)), streams=view.streams[3:4], next_position=view.next_position[3:4]
    )
    assert torch.equal(Sampling().select(alone, scores[:, :1], shares[:, :1])[0, 0], together[0, 3])
    assert not torch.equal(together[0, 3], together[0, 4])
    later = replace(view, next_position=view.next_position + 1)
    assert not torch.equal(Sampling().select(later, scores, shares), together)
