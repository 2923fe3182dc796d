"""CaM: certain and impossible merges by hand, a slow reference, the frequency of draws, engine runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import Budget, Generation, Mechanism, Needs, Request, View
from designspace.axes.randomness import hash_uniform, stream_key
from designspace.engine import Engine
from designspace.errors import DeclarationError
from designspace.testing.conformance.cases import cases
from designspace.testing.conformance.dispatch import check_strategy
from designspace.testing.views import view_of
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.hysteresis import Hysteresis
from families.decoding.greedy import Greedy
from families.head_routing.ada_kv import AdaKV
from families.head_routing.uniform import Uniform
from families.representation.cam import CaM
from families.representation.full import FullPrecision
from families.scoring.h2o import H2O
from families.scoring.knorm import KNorm
from families.scoring.selectors.top_k import TopK
from families.scoring.streaming_llm import StreamingLLM
from tests.conftest import toy_model


def reference(spread: int, view: View, keep: Tensor, head: tuple[int, int, int]) -> tuple[dict[int, list[float]], int]:
    """The values that one head holds after an event, by slot, and how many tokens were merged."""
    n = int((view.positions[head] >= 0).sum())
    values, attention = view.values[head].tolist(), view.accumulated[head].tolist()
    kept = [i for i in range(n) if keep[head][i]]
    held, n_merged = {i: list(values[i]) for i in kept}, 0
    for e in (i for i in range(n) if i not in kept):
        following = [j for j in kept if j > e][:spread]
        if not following:
            continue
        mean = sum(attention[j] for j in following) / len(following)
        chance = min(attention[e] / mean, 1.0) if mean else float(attention[e] > 0)
        numbers = (view.streams[head[1]], head[0], head[2], view.positions[head][e], view.next_position[head[1]])
        if float(hash_uniform(*(torch.as_tensor(x) for x in numbers))) < chance:
            n_merged += 1
            for j in following:
                held[j] = [a + b / len(following) for a, b in zip(held[j], values[e], strict=True)]
    return held, n_merged


def events(seed: int) -> Iterator[tuple[View, Tensor, Tensor, Tensor]]:
    """Random events of many shapes: view, scores, shares and the selector's choice."""
    for case in cases(Needs(accumulated=True), sinks=1, recent=2, seed=seed):
        view = replace(case.view, mass=None)
        shares = torch.minimum(case.shares, view.counts)
        yield view, case.scores, shares, TopK().select(view, case.scores, shares)


@pytest.mark.parametrize("spread", [1, 3, 32])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_event_equals_the_slow_reference(spread: int, seed: int) -> None:
    """Ragged shares, groups, pins, no attention at all: every head by loops over its tokens."""
    total, n_evicted = 0, 0
    for view, scores, shares, keep in events(seed):
        folded = CaM(spread=spread).merge_evicted(view, scores, shares, keep)
        assert torch.equal(folded.keep, keep)
        assert folded.keys is view.keys
        assert torch.equal(folded.values[~keep], view.values[~keep])
        for layer, row, head in torch.cartesian_prod(*(torch.arange(n) for n in shares.shape)).tolist():
            at = (layer, row, head)
            held, n_merged = reference(spread, view, keep, at)
            total, n_evicted = total + n_merged, n_evicted + int((view.counts - shares)[at])
            for slot, value in held.items():
                torch.testing.assert_close(folded.values[at][slot].tolist(), value, rtol=1e-4, atol=1e-4)
    assert 50 < total < n_evicted - 50


def one_head(attention: list[float], values: list[float], keep: list[bool]) -> list[float]:
    """The values kept, of one head with one-dimensional values and m = 2."""
    v = torch.tensor(values).view(1, 1, 1, -1, 1)
    view = view_of(
        torch.zeros_like(v).expand(1, 1, 1, len(values), 2), v, accumulated=torch.tensor(attention).view(1, 1, 1, -1)
    )
    kept = torch.tensor(keep)[None, None, None]
    return (
        CaM(spread=2)
        .merge_evicted(view, torch.zeros(kept.shape), kept.sum(dim=-1), kept)
        .values[kept]
        .flatten()
        .tolist()
    )


def test_certain_merges_by_hand() -> None:
    """As much attention as the mean of the next two kept tokens, or more: half of the value goes to each of them."""
    keep = [False, True, False, True, True]
    # 8 is shared by slots 1 and 3, 100 by slots 3 and 4; the first mean is (1 + 3) / 2.
    assert one_head([2.0, 1.0, 9.0, 3.0, 1.0], [8.0, 1.0, 100.0, 2.0, 3.0], keep) == [5.0, 56.0, 53.0]


def test_no_attention_means_no_merge() -> None:
    """And nothing is divided by zero."""
    keep = [False, True, False, True, True]
    assert one_head([0.0, 1.0, 0.0, 3.0, 1.0], [8.0, 1.0, 100.0, 2.0, 3.0], keep) == [1.0, 2.0, 3.0]
    assert one_head([0.0] * 5, [8.0, 1.0, 100.0, 2.0, 3.0], keep) == [1.0, 2.0, 3.0]


def test_the_end_of_the_text() -> None:
    """One token left takes everything; after the last one a token is dropped."""
    assert one_head([1.0, 5.0, 1.0, 5.0], [1.0, 6.0, 2.0, 7.0], [True, False, True, False]) == [1.0, 8.0]


def test_draws_come_as_often_as_they_should() -> None:
    """A quarter of the mean attention merges a quarter of many streams; another event draws anew."""
    rows = 4000
    values = torch.tensor([1.0, 0.0, 0.0]).view(3, 1).expand(1, rows, 1, 3, 1)
    view = view_of(
        torch.zeros(1, rows, 1, 3, 2), values, accumulated=torch.tensor([1.0, 4.0, 4.0]).expand(1, rows, 1, 3)
    )
    keep = torch.tensor([False, True, True]).expand(1, rows, 1, 3)

    def merged(view: View) -> Tensor:
        return CaM().merge_evicted(view, torch.zeros(keep.shape), keep.sum(dim=-1), keep).values[0, :, 0, 1, 0] > 0

    later = merged(replace(view, next_position=view.next_position + 1))
    assert float(merged(view).float().mean()) == pytest.approx(0.25, abs=0.03)
    assert float((merged(view) & later).float().mean()) == pytest.approx(0.0625, abs=0.02)


def test_nothing_changes_where_nothing_is_evicted() -> None:
    """Bit for bit."""
    for view, scores, _, _ in events(2):
        assert torch.equal(CaM().merge_evicted(view, scores, view.counts, view.valid).values, view.values)


# In the engine -------------------------------------------------------------------------------------------------------


def requests() -> list[Request]:
    """Prompts of mixed length, some longer than the budget."""
    lengths = (5, 13, 24, 18, 9, 30)
    ids = [torch.randperm(50, generator=torch.Generator().manual_seed(i))[:n] + 2 for i, n in enumerate(lengths)]
    return [Request(f"p{i}", tuple(x.tolist()), stream_key(7, f"p{i}", 0)) for i, x in enumerate(ids)]


def engine(form: Any, scoring: Any, cadence: Any, routing: Any) -> Engine:
    """Three rows of a toy model, at a mean of 12 tokens."""
    mechanism = Mechanism("test", scoring, routing, cadence, form, Greedy())
    return Engine(toy_model(), mechanism, Budget(12), rows=3, max_new_tokens=14, max_prompt_tokens=30)


def run(engine: Engine, todo: list[Request]) -> dict[str, Generation]:
    """Return generations by problem."""
    return {g.problem_id: g for g in engine.generate(todo)}


@pytest.mark.parametrize(
    ("scoring", "cadence", "routing"),
    [
        (StreamingLLM(sinks=1), EveryK(k=4), Uniform()),
        (H2O(recent=3), Hysteresis(slack=4), AdaKV()),
        (KNorm(), EveryStep(), Uniform()),
    ],
    ids=lambda x: x.kind,
)
def test_rows_do_not_depend_on_their_neighbours(scoring: Any, cadence: Any, routing: Any) -> None:
    """Each prompt by itself gives the tokens, draws included, that it gives in company."""
    form = CaM(spread=4)
    together = {k: g.token_ids for k, g in run(engine(form, scoring, cadence, routing), requests()).items()}
    single = engine(form, scoring, cadence, routing)
    alone = {request.problem_id: run(single, [request])[request.problem_id].token_ids for request in requests()}
    plain = run(engine(FullPrecision(), scoring, cadence, routing), requests())

    assert together == alone
    assert together != {k: g.token_ids for k, g in plain.items()}


def test_the_contract_of_representations() -> None:
    """The published kit."""
    check_strategy(CaM(), only=("needs", "layout", "bytes", "merge", "merge independence", "purity"))


def test_wrong_parameters_are_refused() -> None:
    """With the rule and what came."""
    with pytest.raises(DeclarationError, match="spread must be at least 1, got spread=0"):
        CaM(spread=0)
