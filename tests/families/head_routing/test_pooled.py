"""Pooled: shares against a sort of all candidates of a row, and totals where candidates are few."""

from __future__ import annotations

import pytest
import torch

from designspace.axes import Budget, Mechanism
from designspace.testing.conformance.cases import cases
from designspace.testing.views import view_of
from families.cadence.every_k import EveryK
from families.head_routing.pooled import Pooled
from families.representation.full import FullPrecision
from families.scoring.h2o import H2O
from families.scoring.streaming_llm import StreamingLLM


@pytest.mark.parametrize("spare", [1, 4, 9])
def test_against_a_sort(spare: int) -> None:
    """On ragged heads and prompts: the best candidates of all layers and heads, ties to the later token of the later head."""
    for case in cases(sinks=1, recent=3):
        view, scores = case.view, (case.scores * 3).round()
        target = torch.full_like(view.target, view.n_protected + spare)
        shares = Pooled().allocate(view, scores, target)
        layers, rows, heads, _ = scores.shape
        for row in range(rows):
            places = layers * heads * spare
            candidates = [
                (float(scores[layer, row, head, slot]), layer, head, slot)
                for layer, head, slot in view.candidates[:, row].nonzero().tolist()
            ]
            best = sorted(candidates, reverse=True)[:places]
            won = torch.zeros(layers, heads, dtype=torch.int64)
            for _, layer, head, _ in best:
                won[layer, head] += 1
            idle = places - len(best)
            even = torch.full((layers * heads,), idle // (layers * heads))
            even[: idle % (layers * heads)] += 1
            wanted = won + even.view(layers, heads) + view.n_protected
            assert torch.equal(shares[:, row], wanted)
            assert int(shares[:, row].sum()) == int(target[row]) * layers * heads


def test_one_head_may_win_everything() -> None:
    """Its share is the largest that slots are made for."""
    scores = torch.zeros(2, 1, 2, 40)
    scores[1, 0, 0] = 5.0
    view = view_of(torch.zeros(2, 1, 2, 40, 2), sinks=1, recent=2, target=10)
    shares = Pooled().allocate(view, scores, view.target)[:, 0]
    assert shares.tolist() == [[3, 3], [31, 3]]
    assert Pooled().largest_share(10, view.geometry, 3) == 31


def test_it_says_where_it_changes_nothing() -> None:
    """With one ranking for all, and with a single head."""
    whole = {"head_routing": Pooled(), "cadence": EveryK(), "representation": FullPrecision()}
    alike = Mechanism("a", scoring=StreamingLLM(), **whole)
    schedule = alike.cadence.schedule(Budget(64))
    assert "ranks the tokens alike" in alike.idle_axes(schedule)["head_routing"]
    single = view_of(torch.zeros(1, 1, 1, 4, 2)).geometry
    other = Mechanism("b", scoring=H2O(), **whole)
    assert "no head competes with another" in other.idle_axes(schedule, single)["head_routing"]
