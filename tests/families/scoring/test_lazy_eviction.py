"""LazyEviction: the published formulas by hand, and times and pauses against whole histories."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from designspace.axes import Budget, Mechanism, View
from designspace.errors import DeclarationError
from designspace.models.loading import LoadedModel
from designspace.testing.conformance import check_mechanism, check_strategy
from designspace.testing.views import view_of
from families.cadence.every_k import EveryK
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.lazy_eviction import LazyEviction, Recurrence
from families.scoring.selectors.top_k import TopK
from tests.families.attention_history import Seen, moments


def at(time: int, last: list[int], longest: list[int], threshold: float = 5e-4) -> View:
    """A view after the query at `time`, with these times and pauses."""
    state = torch.tensor([last, longest], dtype=torch.int32).T.view(1, 1, 1, -1, 2)
    return view_of(torch.zeros(1, 1, 1, len(last), 2), next_position=time + 1, tracked={Recurrence(threshold): state})


def scored(scoring: LazyEviction, view: View) -> list[float]:
    """Scores of the first head."""
    return scoring.score(view).flatten().tolist()


def test_h1() -> None:
    """t=100, TS 100, 90, 20, MRI 10, 10, 100."""
    view = at(100, [100, 90, 20], [10, 10, 100])

    assert scored(LazyEviction(h2_mode="off"), view) == pytest.approx([1, 0.53788, 0.62005], abs=1e-5)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("literal", [0.53788, 0.95004, 0.99500]), ("decreasing", [0.99714, 0.97144, 0.72181]), ("off", [0, 0, 0])],
)
def test_h2(mode: str, expected: list[float]) -> None:
    """MRI 1, 10, 100; tokens attended to just now have H1 = 1, which is taken off."""
    scoring = LazyEviction(h2_mode=mode, recent=175)  # type: ignore[arg-type]
    view = at(100, [100, 100, 100], [1, 10, 100])

    assert [score - 1 for score in scored(scoring, view)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("mode", ["literal", "decreasing", "off"])
def test_a_token_without_a_pause(mode: str) -> None:
    """MRI = 0: 1 if attended to now, else 0, and no H2."""
    scoring = LazyEviction(h2_mode=mode)  # type: ignore[arg-type]

    assert scored(scoring, at(100, [100, 99, 0], [0, 0, 0])) == [1, 0, 0]


def test_threshold_zero() -> None:
    """Whatever is attended to at all has TS = t: H1 is 1 for all, and the most recent stay."""
    tracker, positions = Recurrence(0.0), torch.arange(6).view(1, 1, 6)
    state = torch.zeros(1, 1, 6, 2, dtype=torch.int32)
    for now in range(6):
        seen = torch.where(torch.arange(6) <= now, 1 / (now + 1), 0.0).view(1, 1, 6)
        state = tracker.observe(state, seen, positions, torch.tensor([now]))
    view = view_of(torch.zeros(1, 1, 1, 6, 2), tracked={tracker: state[None]})
    scores = LazyEviction(threshold=0.0, h2_mode="off", recent=0).score(view)

    assert scores.flatten().tolist() == [1.0] * 6
    assert TopK().select(view, scores, torch.full((1, 1, 1), 2)).flatten().tolist() == [False] * 4 + [True] * 2


def test_one_head_of_the_group_suffices() -> None:
    """A mean below the threshold does not matter."""
    tracker = Recurrence(0.3)
    weights = torch.tensor([[0.5, 0.2, 0.3], [0.0, 0.2, 0.8], [0.3, 0.3, 0.4], [0.3, 0.31, 0.39]])
    state = tracker.observe(
        torch.zeros(1, 2, 3, 2, dtype=torch.int32), weights[None], torch.arange(3).expand(1, 2, 3), torch.tensor([2])
    )

    assert state[0, :, :, 0].tolist() == [[2, 0, 2], [0, 2, 2]]
    assert state[0, :, :, 1].tolist() == [[2, 0, 0], [0, 2, 0]]


def slow(history: list[Seen], position: int, following: int, scoring: LazyEviction) -> float:
    """The score of one token from every row of attention it got."""
    times = [position] + [s.now for s in history if s.now > position and max(s.weights) > scoring.threshold]
    longest = max((b - a for a, b in pairwise(times)), default=0)
    now = following - 1
    if longest == 0:
        return 1.0 if times[-1] == now else 0.0
    score = 2 / (1 + math.exp((now - times[-1]) / longest))
    if scoring.h2_mode == "literal":
        score += 2 / (1 + math.exp(1 / longest))
    elif scoring.h2_mode == "decreasing":
        score += 2 / (1 + math.exp(longest / scoring.recent))
    return score


@pytest.mark.parametrize("mode", ["literal", "decreasing", "off"])
@pytest.mark.parametrize("threshold", [0.02, 0.21])
@pytest.mark.parametrize("seed", range(2))
def test_scores_against_whole_histories(mode: str, threshold: float, seed: int) -> None:
    """Ragged heads, evictions, rows at other positions."""
    scoring = LazyEviction(threshold=threshold, h2_mode=mode, recent=7)  # type: ignore[arg-type]
    n_cuts, values = 0, set()
    for moment in moments(Recurrence(threshold), n_steps=45, seed=seed):
        scores, n_cuts = scoring.score(moment.view), n_cuts + moment.cut
        for (layer, row, head), held in moment.log.items():
            following = int(moment.view.next_position[row])
            for slot, position in enumerate(moment.view.positions[layer, row, head].tolist()):
                if position >= 0:
                    expected = slow(held[position], position, following, scoring)
                    values.add(round(expected, 3))
                    assert float(scores[layer, row, head, slot]) == pytest.approx(expected, abs=1e-6)
    assert n_cuts > 2
    assert len(values) > 10


def test_bytes() -> None:
    """Two 32-bit numbers per token and head."""
    state: Tensor = torch.zeros(3, Recurrence(0.1).channels, dtype=Recurrence.dtype)

    assert state.nbytes == 3 * 8


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": 1.0}, r"threshold must lie in \[0, 1\), got threshold=1.0"),
        ({"h2_mode": "paper"}, "h2_mode must be 'decreasing', 'literal' or 'off', got h2_mode='paper'"),
        ({"recent": 0}, "recent must be at least 1"),
    ],
)
def test_declaration(parameters: dict[str, object], message: str) -> None:
    """Values without a meaning are refused."""
    with pytest.raises(DeclarationError, match=message):
        LazyEviction(**parameters)  # type: ignore[arg-type]


def test_conformance(toy_llama: LoadedModel) -> None:
    """The kit's checks, and the engine with its published sort of cadence."""
    check_strategy(LazyEviction())
    check_strategy(LazyEviction(h2_mode="literal", threshold=0.1, sinks=2, recent=4))
    check_strategy(LazyEviction(h2_mode="off", recent=0))
    mechanism = Mechanism("s13", LazyEviction(threshold=0.02, recent=8), Uniform(), EveryK(k=8), FullPrecision())
    check_mechanism(mechanism, toy_llama, Budget(24))
