"""Scissorhands: counts by hand, and against counting over whole attention matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from designspace.axes import Budget, Geometry, Mechanism, Needs
from designspace.cache.layer_call import LayerCall
from designspace.cache.prefill_pass import PrefillPass
from designspace.errors import DeclarationError
from designspace.models.loading import LoadedModel
from designspace.testing.conformance import check_mechanism, check_strategy
from designspace.testing.views import view_of
from families.cadence.hysteresis import Hysteresis
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.scissorhands import PivotalHistory, Scissorhands, n_bits
from families.scoring.selectors.top_k import TopK
from tests.families.attention_history import moments


def after(tracker: PivotalHistory, rows: list[list[float]], first: int = 2) -> Tensor:
    """The state [1,1,1,N,channels] after these rows of attention over slots 0 … N-1, the first by query `first`."""
    positions = torch.arange(len(rows[0])).view(1, 1, -1)
    state = torch.zeros(1, 1, len(rows[0]), tracker.channels, dtype=torch.uint8)
    for step, row in enumerate(rows):
        state = tracker.observe(state, torch.tensor(row).view(1, 1, -1), positions, torch.tensor([first + step]))
    return state[None]


def test_s3_counts() -> None:
    """Three rows over three keys, threshold 1/3: counts 2, 2, 0, so the last key goes."""
    tracker = PivotalHistory(3)
    state = after(tracker, [[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.4, 0.4, 0.2]])
    view = view_of(torch.zeros(1, 1, 1, 3, 2), next_position=5, tracked={tracker: state})

    assert n_bits(state).flatten().tolist() == [2, 2, 0]
    for how, expected in (("count", [2, 2, 0]), ("rate", [2 / 3, 2 / 3, 0])):
        scores = Scissorhands(history=3, recent=0, normalise=how).score(view)  # type: ignore[arg-type]
        assert scores.flatten().tolist() == pytest.approx(expected)
        assert TopK().select(view, scores, torch.full((1, 1, 1), 2)).flatten().tolist() == [True, True, False]


def test_tokens_of_different_ages() -> None:
    """A at 0, pivotal for queries 5 to 8, has four queries against it; B at 6, pivotal for 7, has two: the count drops A."""
    tracker = PivotalHistory(8)
    rows = {5: [1.0, 0.0], 6: [0.9, 0.1], 7: [0.5, 0.5], 8: [0.9, 0.1]}
    state = torch.zeros(1, 1, 2, tracker.channels, dtype=torch.uint8)
    positions = torch.tensor([0, 6]).view(1, 1, 2)
    for now, row in rows.items():
        there = torch.where(positions <= now, positions, -1)
        weights = torch.tensor(row).view(1, 1, 2).masked_fill(there < 0, 0.0)
        state = tracker.observe(state, weights, there, torch.tensor([now])).masked_fill(there[..., None] < 0, 0)
    view = view_of(
        torch.zeros(1, 1, 1, 2, 2), positions=positions[None], next_position=9, tracked={tracker: state[None]}
    )
    count, rate = (Scissorhands(history=8, recent=0, normalise=how).score(view) for how in ("count", "rate"))
    one = torch.full((1, 1, 1), 1)

    assert n_bits(state).flatten().tolist() == [4, 1]
    assert (8 - count).flatten().tolist() == [4, 2]
    assert rate.flatten().tolist() == pytest.approx([4 / 8, 1 / 3])
    assert TopK().select(view, count, one).flatten().tolist() == [False, True]
    assert TopK().select(view, rate, one).flatten().tolist() == [True, False]


def test_results_by_rate_keep_their_ids() -> None:
    """It was all there was, without a parameter."""
    known = {
        "kind": "scissorhands", "version": 1, "selector": {"kind": "top-k", "version": 1}, "sinks": 0, "recent": 10,
        "history": 400,
    }  # fmt: skip

    assert Scissorhands(normalise="rate").identity() == known
    assert Scissorhands().identity() == {**known, "normalise": "count"}


def test_a_history_of_one_is_a_threshold_on_the_last_row() -> None:
    """Only the newest row counts."""
    tracker = PivotalHistory(1)
    state = after(tracker, [[0.9, 0.05, 0.05], [0.1, 0.5, 0.4]])
    view = view_of(torch.zeros(1, 1, 1, 3, 2), next_position=4, tracked={tracker: state})

    for how in ("count", "rate"):
        assert Scissorhands(history=1, recent=0, normalise=how).score(view).flatten().tolist() == [0, 1, 1]  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [3, 7, 49, 100])
def test_even_rows_tie(n: int) -> None:
    """Every count is the same, so the most recent tokens stay."""
    tracker = PivotalHistory(16)
    state = after(tracker, torch.full((5, n), 0.0).softmax(dim=-1).tolist(), first=n - 1)
    view = view_of(torch.zeros(1, 1, 1, n, 2), next_position=n + 4, tracked={tracker: state})
    kept = TopK().select(view, n_bits(state), torch.full((1, 1, 1), 2))

    assert len(set(n_bits(state).flatten().tolist())) == 1
    assert kept.flatten().nonzero()[:, 0].tolist() == [n - 2, n - 1]


def test_bits_are_counted() -> None:
    """All byte values."""
    values = torch.arange(256, dtype=torch.uint8)

    assert n_bits(values[:, None]).tolist() == [bin(i).count("1") for i in range(256)]
    assert float(n_bits(torch.full((50,), 255, dtype=torch.uint8))) == 400


@pytest.mark.parametrize("normalise", ["count", "rate"])
@pytest.mark.parametrize("history", [1, 5, 8, 13, 400])
@pytest.mark.parametrize("seed", range(3))
def test_scores_against_whole_histories(history: int, seed: int, normalise: str) -> None:
    """Ragged heads, evictions, rows at other positions: the last queries for and against a token, one by one."""
    scoring, n_cuts = Scissorhands(history=history, normalise=normalise), 0  # type: ignore[arg-type]
    for moment in moments(PivotalHistory(history), n_steps=45, seed=seed):
        scores, n_cuts = scoring.score(moment.view), n_cuts + moment.cut
        for (layer, row, head), held in moment.log.items():
            following = int(moment.view.next_position[row])
            for slot, position in enumerate(moment.view.positions[layer, row, head].tolist()):
                if position < 0:
                    continue
                pivotal, against = 0, 0
                for seen in held[position]:
                    mean = np.float32(sum(seen.weights) / len(seen.weights))
                    if seen.now >= following - history:
                        enough = mean >= np.float32(1) / np.float32(seen.n_held)
                        pivotal, against = pivotal + enough, against + (not enough)
                assert pivotal + against == min(history, following - position)
                expected = pivotal / (pivotal + against) if normalise == "rate" else history - against
                assert float(scores[layer, row, head, slot]) == pytest.approx(expected, abs=1e-6)
    assert n_cuts > 2


@pytest.mark.parametrize(("n_tokens", "history"), [(11, 400), (11, 4), (270, 100)])
def test_prompt_against_its_attention_matrix(n_tokens: int, history: int) -> None:
    """A padded prompt of one layer: the causal matrix, thresholded row by row."""
    generator = torch.Generator().manual_seed(n_tokens)
    padded = -(-n_tokens // 16) * 16
    query = torch.randn(1, 4, padded, 8, generator=generator)
    key, value = (torch.randn(1, 2, padded, 8, generator=generator) for _ in range(2))
    tracker = PivotalHistory(history)
    prefill = PrefillPass(Needs(trackers=(tracker,)), Geometry(1, 4, 2, 8, torch.ones(4)), n_tokens)
    prefill.attend(LayerCall(0, 0.3), query, key, value)
    counts = n_bits(prefill.prompt().observed.tracked[tracker])[0, 0]

    for head in range(2):
        expected = torch.zeros(padded)
        for q in range(max(0, n_tokens - history), n_tokens):
            mean = torch.zeros(q + 1)
            for member in range(2):
                mean += torch.softmax(key[0, head, : q + 1] @ query[0, 2 * head + member, q] * 0.3, dim=0) / 2
            expected[: q + 1] += (mean >= 1 / (q + 1)).float()
        differing = (counts[head] != expected).sum()  # a mean of exactly 1/n may fall on either side
        assert int(differing) <= 1
        assert float((counts[head] - expected).abs().amax()) <= 1


def test_bytes() -> None:
    """The published history takes 50 bytes per token and head."""
    assert PivotalHistory(400).channels * PivotalHistory.dtype.itemsize == 50


def test_declaration() -> None:
    """An empty history is refused."""
    with pytest.raises(DeclarationError, match="history must be at least 1, got history=0"):
        Scissorhands(history=0)


def test_conformance(toy_llama: LoadedModel) -> None:
    """The kit's checks, and the engine with its published sort of cadence."""
    check_strategy(Scissorhands())
    check_strategy(Scissorhands(history=5, recent=0, sinks=1))
    check_strategy(Scissorhands(normalise="rate"))
    mechanism = Mechanism("s3", Scissorhands(), Uniform(), Hysteresis(slack=12), FullPrecision())
    check_mechanism(mechanism, toy_llama, Budget(24))
