"""LazyEviction: the released formulas by hand, and times and pauses against whole histories."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from designspace.axes import Budget, Geometry, Mechanism, Needs, View
from designspace.cache.layer_call import LayerCall
from designspace.cache.prefill_pass import PrefillPass
from designspace.errors import DeclarationError
from designspace.models.loading import LoadedModel
from designspace.registry import mechanism
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


def test_released_scores() -> None:
    """Idle for 0, 3, 0, 8, 1 steps with pauses of 10, 2, 0, 100, 1: the second and the last are the best."""
    view = at(100, [100, 97, 100, 92, 99], [10, 2, 0, 100, 1])
    scores = LazyEviction(recent=0).score(view)

    assert scores.flatten().tolist() == pytest.approx([0.53813, 0.68960, 0.53788, 0.50701, 1.23841], abs=1e-5)
    kept = TopK().select(view, scores, torch.full((1, 1, 1), 2)).flatten()
    assert kept.nonzero()[:, 0].tolist() == [1, 4]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("released", [1.0, 0.53788, 0.00025]), ("literal", [0.53788, 0.75508, 0.95004]), ("off", [0, 0, 0])],
)
def test_h2(mode: str, expected: list[float]) -> None:
    """Pauses of 1, 2, 10: it falls as released and rises as printed. What is left without it is H1."""
    scoring, off = LazyEviction(h2_mode=mode), LazyEviction(h2_mode="off")  # type: ignore[arg-type]
    view = at(100, [100, 90, 20], [1, 2, 10])

    found = scoring.score(view) - off.score(view)
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("mode", ["released", "literal", "off"])
def test_a_token_without_a_pause(mode: str) -> None:
    """No H2, and H1 as soon as a step has passed without attention is zero."""
    scoring = LazyEviction(h2_mode=mode)  # type: ignore[arg-type]

    assert scored(scoring, at(100, [100, 99, 0], [0, 0, 0])) == pytest.approx([0.53788, 0, 0], abs=1e-5)


def observed(rows: dict[int, list[float]], positions: list[int], threshold: float = 5e-4) -> list[list[list[int]]]:
    """(last, pause) of every slot after each of the rows, which are queries by their positions."""
    tracker, held = Recurrence(threshold), torch.tensor(positions)
    state, found = torch.zeros(1, 1, len(positions), 2, dtype=torch.int32), []
    for now, row in rows.items():
        there = torch.where(held <= now, held, -1).view(1, 1, -1)
        weights = torch.tensor(row).view(1, 1, -1)
        state = tracker.observe(state, weights, there, torch.tensor([now])).masked_fill(there[..., None] < 0, 0)
        found.append(state[0, 0].tolist())
    return found


def test_a_token_arrives() -> None:
    """At 5 with a weight of 0.9 from its own query, then nothing, then 0.2 at 8."""
    found = observed({5: [0.9], 6: [0.0], 7: [0.0], 8: [0.2]}, [5])

    assert [moment[0] for moment in found] == [[5, 1], [5, 1], [5, 1], [8, 3]]


def test_a_token_that_does_not_attend_to_itself() -> None:
    """It starts one position before its own, without a pause."""
    found = observed({5: [0.0], 6: [0.0], 7: [0.3]}, [5])

    assert [moment[0] for moment in found] == [[4, 0], [4, 0], [7, 3]]


def test_the_threshold_itself_counts() -> None:
    """Exactly as much as the threshold is attention."""
    assert observed({3: [0.25, 0.75], 4: [0.25, 0.75]}, [2, 3], threshold=0.25)[-1] == [[4, 3], [4, 1]]
    assert observed({3: [0.25, 0.75], 4: [0.25, 0.75]}, [2, 3], threshold=0.26)[-1] == [[0, 0], [4, 1]]


def test_one_head_of_the_group_suffices() -> None:
    """A mean below the threshold does not matter."""
    tracker = Recurrence(0.3)
    weights = torch.tensor([[0.5, 0.2, 0.3], [0.0, 0.2, 0.8], [0.2, 0.3, 0.5], [0.2, 0.31, 0.49]])
    state = tracker.observe(
        torch.zeros(1, 2, 3, 2, dtype=torch.int32), weights[None], torch.arange(3).expand(1, 2, 3), torch.tensor([2])
    )

    assert state[0, :, :, 0].tolist() == [[2, 0, 2], [0, 2, 2]]
    assert state[0, :, :, 1].tolist() == [[2, 0, 1], [0, 2, 1]]


@pytest.mark.parametrize("n_tokens", [1, 7, 16])
def test_queries_of_the_prompt_do_not_count(n_tokens: int) -> None:
    """Its tokens start at its end without a pause, whatever attended to whom; padding has nothing."""
    generator, tracker = torch.Generator().manual_seed(n_tokens), Recurrence(0.01)
    query = torch.randn(1, 4, 16, 8, generator=generator)
    key, value = (torch.randn(1, 2, 16, 8, generator=generator) for _ in range(2))
    prefill = PrefillPass(Needs(trackers=(tracker,)), Geometry(1, 4, 2, 8, torch.ones(4)), n_tokens)
    prefill.attend(LayerCall(0, 0.3), query, key, value)
    state = prefill.prompt().observed.tracked[tracker][0, 0]  # [H_kv,P,2]

    assert state[:, :n_tokens].tolist() == [[[n_tokens - 1, 0]] * n_tokens] * 2
    assert not state[:, n_tokens:].any()


def slow(history: list[Seen], position: int, following: int, scoring: LazyEviction) -> float:
    """The score of one token from every row of attention it got, its own first."""
    last, pause = position - 1, 0
    for seen in history:
        if max(seen.weights) >= scoring.threshold:
            last, pause = seen.now, max(pause, seen.now - last)
    exponent = 1 + (following - 1 - last) / (pause + 1e-5)
    score = 2 / (1 + math.exp(exponent)) if exponent < 500 else 0.0
    if pause and scoring.h2_mode == "literal":
        score += 2 / (1 + math.exp(1 / pause))
    elif pause and scoring.h2_mode == "released":
        score += 2 / (1 + math.exp(pause - 1))
    return score


@pytest.mark.parametrize("mode", ["released", "literal", "off"])
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


def test_events_come_as_released() -> None:
    """At decode steps that are multiples of W, where the cache is above its capacity; never at the prompt."""
    schedule = EveryK(k=27, prefill=False).schedule(Budget(40, "nominal"))
    sizes = schedule.simulate(60, 81)
    short = schedule.simulate(10, 54)

    assert sizes == [*range(61, 88), *range(41, 68), *range(41, 68)]
    assert short == [*range(11, 65)]  # 37 at step 27: below the capacity, so nothing is cut


def test_the_system_has_one_number_for_interval_and_window() -> None:
    """W of the published settings, and the threshold of the same model."""
    system = mechanism("lazy-eviction")
    assert isinstance(system.scoring, LazyEviction)
    assert isinstance(system.cadence, EveryK)

    assert (system.scoring.recent, system.cadence.k, system.cadence.prefill) == (27, 27, False)
    assert (system.scoring.threshold, system.scoring.h2_mode) == (5e-4, "released")


def test_bytes() -> None:
    """Two 32-bit numbers per token and head."""
    state: Tensor = torch.zeros(3, Recurrence(0.1).channels, dtype=Recurrence.dtype)

    assert state.nbytes == 3 * 8


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": 1.0}, r"threshold must lie in \[0, 1\), got threshold=1.0"),
        ({"h2_mode": "paper"}, "h2_mode must be 'released', 'literal' or 'off', got h2_mode='paper'"),
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
    mechanism = Mechanism(
        "s13", LazyEviction(threshold=0.02, recent=8), Uniform(), EveryK(k=8, prefill=False), FullPrecision()
    )
    check_mechanism(mechanism, toy_llama, Budget(24))
