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


def reference(form: CaM, view: View, keep: Tensor, head: tuple[int, int, int]) -> tuple[dict[int, list[float]], int]:
    """The values that one head holds after an event, by slot, and how many tokens were merged."""
    n = int((view.positions[head] >= 0).sum())
    values = view.values[head].tolist()
    if form.attention == "accumulated":
        attention = view.accumulated[head].tolist()
    else:
        layer, row, kv = head
        group = view.geometry.group
        attention = [
            sum(x) / group for x in zip(*view.last[layer, row, kv * group : (kv + 1) * group].tolist(), strict=True)
        ]
    kept = [i for i in range(n) if keep[head][i]]
    held, n_merged = {i: list(values[i]) for i in kept}, 0
    if not form.at_prompt and int(view.next_position[head[1]]) == int(view.n_prompt_tokens[head[1]]):
        return held, 0
    for e in (i for i in range(n) if i not in kept):
        after = [j for j in kept if j > e]
        following = after[: form.spread]
        if not following:
            continue
        others = following if form.compared == "next" else after
        mean = sum(attention[j] for j in others) / len(others)
        chance = min(attention[e] / mean, 1.0) if mean else float(attention[e] > 0)
        numbers = (view.streams[head[1]], head[0], head[2], view.positions[head][e], view.next_position[head[1]])
        if float(hash_uniform(*(torch.as_tensor(x) for x in numbers))) < chance:
            n_merged += 1
            for j in following:
                among = form.spread if form.divisor == "spread" else len(following)
                held[j] = [a + b / among for a, b in zip(held[j], values[e], strict=True)]
    return held, n_merged


def events(seed: int) -> Iterator[tuple[View, Tensor, Tensor, Tensor]]:
    """Random events of many shapes: view, scores, shares and the selector's choice."""
    for i, case in enumerate(cases(Needs(accumulated=True, last=True), sinks=1, recent=2, seed=seed)):
        view = replace(case.view, mass=None)
        if i % 4 == 3:  # the event of a prompt
            view = replace(view, n_prompt_tokens=view.next_position)
        shares = torch.minimum(case.shares, view.counts)
        yield view, case.scores, shares, TopK().select(view, case.scores, shares)


STREAMING = CaM(spread=16, attention="accumulated", compared="next")
KVPRESS = CaM(spread=3, attention="accumulated", compared="next", divisor="present", at_prompt=True)


@pytest.mark.parametrize("form", [CaM(), CaM(spread=3), CaM(spread=1, at_prompt=True), STREAMING, KVPRESS], ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_an_event_equals_the_slow_reference(form: CaM, seed: int) -> None:
    """Ragged shares, groups, pins, no attention at all, prompts: every head by loops over its tokens."""
    total, n_evicted = 0, 0
    for view, scores, shares, keep in events(seed):
        folded = form.merge_evicted(view, scores, shares, keep)
        assert torch.equal(folded.keep, keep)
        assert folded.keys is None
        assert torch.equal(folded.values[~keep], view.values[~keep])
        for layer, row, head in torch.cartesian_prod(*(torch.arange(n) for n in shares.shape)).tolist():
            at = (layer, row, head)
            held, n_merged = reference(form, view, keep, at)
            total, n_evicted = total + n_merged, n_evicted + int((view.counts - shares)[at])
            for slot, value in held.items():
                torch.testing.assert_close(folded.values[at][slot].tolist(), value, rtol=1e-4, atol=1e-4)
    assert 50 < total < n_evicted - 50


TWO = CaM(spread=2, attention="accumulated", compared="next")


def one_head(
    attention: list[float], values: list[float], keep: list[bool], form: CaM = TWO, n_prompt_tokens: int = 0
) -> list[float]:
    """The values kept, of one head with one-dimensional values."""
    v = torch.tensor(values).view(1, 1, 1, -1, 1)
    a = torch.tensor(attention).view(1, 1, 1, -1)
    view = view_of(
        torch.zeros_like(v).expand(1, 1, 1, len(values), 2), v, accumulated=a, last=a, n_prompt_tokens=n_prompt_tokens
    )
    kept = torch.tensor(keep)[None, None, None]
    merged = form.merge_evicted(view, torch.zeros(kept.shape), kept.sum(dim=-1), kept)
    return merged.values[kept].flatten().tolist()


def test_certain_merges_by_hand() -> None:
    """As much attention as the mean of the next two kept tokens, or more: half of the value goes to each of them."""
    keep = [False, True, False, True, True]
    # 8 is shared by slots 1 and 3, 100 by slots 3 and 4; the first mean is (1 + 3) / 2.
    assert one_head([2.0, 1.0, 9.0, 3.0, 1.0], [8.0, 1.0, 100.0, 2.0, 3.0], keep) == [5.0, 56.0, 53.0]


def test_what_a_prompt_evicts_is_dropped() -> None:
    """Twelve ones under uniform causal attention, of which the first and the newest four stay."""
    ones, keep = [1.0] * 12, [True] + [False] * 7 + [True] * 4
    sums = [sum(1 / t for t in range(i + 1, 13)) for i in range(12)]
    kvpress = replace(KVPRESS, spread=2)

    for form in (CaM(spread=2), TWO, replace(kvpress, at_prompt=False)):
        assert one_head(sums, ones, keep, form, n_prompt_tokens=12) == [1.0] * 5
    for form in (kvpress, replace(TWO, at_prompt=True)):
        assert one_head(sums, ones, keep, form, n_prompt_tokens=12) == [1.0, 4.5, 4.5, 1.0, 1.0]
    assert one_head(sums, ones, keep, TWO, n_prompt_tokens=11) == [1.0, 4.5, 4.5, 1.0, 1.0]


@pytest.mark.parametrize(("compared", "chance"), [("next", 0.5), ("all", 0.25)])
def test_what_is_compared_with_what(compared: Any, chance: float) -> None:
    """Attention 1, against 2 for the next kept token and a mean of 4 for all that follow; an earlier one is no matter."""
    attention = torch.tensor([9.0, 1.0, 2.0, 7.0, 3.0]).view(1, 1, 1, -1)
    keep = torch.tensor([True, False, True, True, True]).view(1, 1, 1, -1)
    following = keep.cumsum(dim=-1)
    form = CaM(spread=1, compared=compared)
    found = form._chance(view_of(torch.zeros(1, 1, 1, 5, 2), last=attention), keep, following, 4 - following)

    assert float(found[..., 1]) == chance


def test_no_attention_means_no_merge() -> None:
    """And nothing is divided by zero."""
    keep = [False, True, False, True, True]
    assert one_head([0.0, 1.0, 0.0, 3.0, 1.0], [8.0, 1.0, 100.0, 2.0, 3.0], keep) == [1.0, 2.0, 3.0]
    assert one_head([0.0] * 5, [8.0, 1.0, 100.0, 2.0, 3.0], keep) == [1.0, 2.0, 3.0]


def test_the_end_of_the_text() -> None:
    """One token left takes its part, the rest is lost, or everything; after the last one a token is dropped."""
    case = [1.0, 5.0, 1.0, 5.0], [1.0, 6.0, 2.0, 7.0], [True, False, True, False]

    assert one_head(*case) == [1.0, 5.0]
    assert one_head(*case, replace(TWO, divisor="present")) == [1.0, 8.0]


def test_draws_come_as_often_as_they_should() -> None:
    """A quarter of the mean attention merges a quarter of many streams; another event draws anew."""
    rows = 4000
    values = torch.tensor([1.0, 0.0, 0.0]).view(3, 1).expand(1, rows, 1, 3, 1)
    view = view_of(torch.zeros(1, rows, 1, 3, 2), values, last=torch.tensor([1.0, 4.0, 4.0]).expand(1, rows, 1, 3))
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
    form = CaM(spread=4, at_prompt=True)
    together = {k: g.token_ids for k, g in run(engine(form, scoring, cadence, routing), requests()).items()}
    single = engine(form, scoring, cadence, routing)
    alone = {request.problem_id: run(single, [request])[request.problem_id].token_ids for request in requests()}
    plain = run(engine(FullPrecision(), scoring, cadence, routing), requests())

    assert together == alone
    assert together != {k: g.token_ids for k, g in plain.items()}


def test_the_contract_of_representations() -> None:
    """The published kit."""
    for form in (CaM(), STREAMING):
        check_strategy(form, only=("needs", "layout", "bytes", "merge", "merge independence", "purity"))


def test_wrong_parameters_are_refused() -> None:
    """With the rule and what came."""
    with pytest.raises(DeclarationError, match="spread must be at least 1, got spread=0"):
        CaM(spread=0)
