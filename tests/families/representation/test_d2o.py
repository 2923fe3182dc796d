"""D2O: the moving threshold and the mean by hand, a slow reference over several events, engine runs."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import Budget, Generation, Mechanism, Needs, Request, View
from designspace.axes.randomness import stream_key
from designspace.engine import Engine, EngineHook, RowState
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
from families.representation.d2o import D2O
from families.representation.full import FullPrecision
from families.scoring.h2o import H2O
from families.scoring.knorm import KNorm
from families.scoring.selectors.top_k import TopK
from families.scoring.streaming_llm import StreamingLLM
from tests.conftest import toy_model


def cosine(a: list[float], b: list[float]) -> float:
    """Return the cosine of two vectors, 0 where one is zero."""
    product = math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / product if product else 0.0


def reference(
    decay: float, tau: float | None, view: View, keep: Tensor, head: tuple[int, ...]
) -> tuple[dict, float | None]:
    """What one head holds after an event, slot -> (key, value), and its threshold then."""
    n = int((view.positions[head] >= 0).sum())
    keys, values = view.keys[head].tolist(), view.values[head].tolist()
    kept = [i for i in range(n) if keep[head][i]]
    evicted = [i for i in range(n) if i not in kept]
    if not kept or not evicted:
        return {i: (keys[i], values[i]) for i in kept}, tau
    target = {e: max(kept, key=lambda j: (round(cosine(keys[e], keys[j]), 6), j)) for e in evicted}
    similar = {e: cosine(keys[e], keys[target[e]]) for e in evicted}
    mean = sum(similar.values()) / len(evicted)
    tau = mean if tau is None else decay * tau + (1 - decay) * mean
    held = {}
    for j in kept:
        joining = [e for e in evicted if target[e] == j and similar[e] >= tau - 1e-6]
        held[j] = tuple(
            [(x[j][d] + sum(similar[e] * x[e][d] for e in joining)) / (1 + len(joining)) for d in range(len(x[j]))]
            for x in (keys, values)
        )
    return held, tau


def events(seed: int) -> Iterator[tuple[View, Tensor, Tensor, Tensor]]:
    """Random events of many shapes: view, scores, shares and the selector's choice."""
    for case in cases(Needs(), sinks=1, recent=2, seed=seed):
        view = replace(case.view, mass=None)
        shares = torch.minimum(case.shares, view.counts)
        yield view, case.scores, shares, TopK().select(view, case.scores, shares)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("known", [False, True])
def test_an_event_equals_the_slow_reference(seed: int, known: bool) -> None:
    """The first event of a text, and a later one with other thresholds in every head."""
    form, n_changed, n_left = D2O(decay=0.3), 0, 0
    for view, scores, shares, keep in events(seed):
        before = torch.stack([torch.rand(shares.shape) * 0.5, torch.ones(shares.shape)], dim=-1) * known
        folded = form.merge_evicted(replace(view, memory=before), scores, shares, keep)
        for head in torch.cartesian_prod(*(torch.arange(n) for n in shares.shape)).tolist():
            at = tuple(head)
            tau = float(before[at][0]) if known else None
            held, tau = reference(0.3, tau, view, keep, at)
            assert folded.memory[at].tolist() == pytest.approx([tau or 0.0, float(tau is not None)], abs=1e-5)
            for slot, (key, value) in held.items():
                torch.testing.assert_close(folded.keys[at][slot].tolist(), key, rtol=1e-4, atol=1e-4)
                torch.testing.assert_close(folded.values[at][slot].tolist(), value, rtol=1e-4, atol=1e-4)
                changed = folded.values[at][slot].tolist() != view.values[at][slot].tolist()
                n_changed, n_left = n_changed + changed, n_left + (not changed)
    assert n_changed > 30
    assert n_left > 30


def test_by_hand() -> None:
    """Cosines 1 and .6 have the mean .8: the first is merged with its own weight, the second dropped."""
    keys = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.6, 0.8]])[None, None, None]
    view = view_of(keys, torch.tensor([[1.0], [3.0], [50.0]])[None, None, None], memory=torch.zeros(1, 1, 1, 2))
    keep = torch.tensor([True, False, False])[None, None, None]
    first = D2O().merge_evicted(view, torch.zeros(1, 1, 1, 3), keep.sum(dim=-1), keep)

    assert first.memory is not None
    torch.testing.assert_close(first.memory[0, 0, 0], torch.tensor([0.8, 1.0]))
    torch.testing.assert_close(first.values[0, 0, 0, 0], torch.tensor([2.0]))
    torch.testing.assert_close(first.keys[0, 0, 0, 0], torch.tensor([1.5, 0.0]))

    # At the next event the same two: tau = (.8 + .8) / 2; with an old threshold of .2 it falls to .5 and both are merged.
    low = D2O().merge_evicted(
        replace(view, memory=torch.tensor([0.2, 1.0]).expand(1, 1, 1, 2)), torch.zeros(1, 1, 1, 3), keep.sum(-1), keep
    )
    torch.testing.assert_close(low.memory[0, 0, 0], torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(low.values[0, 0, 0, 0], torch.tensor([(1 + 3 + 0.6 * 50) / 3]))


def test_nothing_changes_where_nothing_is_evicted() -> None:
    """Neither content nor threshold."""
    for view, scores, _, _ in events(2):
        for tau in (0.0, 1.0):
            memory = torch.full((*view.counts.shape, 2), tau)
            folded = D2O().merge_evicted(replace(view, memory=memory), scores, view.counts, view.valid)
            assert torch.equal(folded.keys, view.keys)
            assert torch.equal(folded.values, view.values)
            assert torch.equal(folded.memory, memory)


# In the engine -------------------------------------------------------------------------------------------------------


def requests() -> list[Request]:
    """Prompts of mixed length, some longer than the budget."""
    lengths = (5, 13, 24, 18, 9, 30)
    ids = [torch.randperm(50, generator=torch.Generator().manual_seed(i))[:n] + 2 for i, n in enumerate(lengths)]
    return [Request(f"p{i}", tuple(x.tolist()), stream_key(7, f"p{i}", 0)) for i, x in enumerate(ids)]


class Thresholds(EngineHook):
    """Records the thresholds after each step, by problem."""

    def __init__(self, engine: Engine) -> None:
        self.cache = engine.cache
        self.seen: dict[str, list[Tensor]] = {}

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Record."""
        assert self.cache.memory is not None
        for state in states:
            self.seen.setdefault(state.request.problem_id, []).append(self.cache.memory[:, state.index].clone())


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
        (H2O(sinks=4, recent=3), Hysteresis(slack=4), AdaKV()),
        (KNorm(), EveryStep(), Uniform()),
    ],
    ids=lambda x: x.kind,
)
def test_rows_do_not_depend_on_their_neighbours(scoring: Any, cadence: Any, routing: Any) -> None:
    """Tokens and thresholds: nothing of the row's last text is left in them."""
    company, single = (engine(D2O(), scoring, cadence, routing) for _ in range(2))
    company.hook, single.hook = watched, watched_alone = Thresholds(company), Thresholds(single)
    together = {k: g.token_ids for k, g in run(company, requests()).items()}
    alone = {request.problem_id: run(single, [request])[request.problem_id].token_ids for request in requests()}
    plain = run(engine(FullPrecision(), scoring, cadence, routing), requests())

    assert together == alone
    assert together != {k: g.token_ids for k, g in plain.items()}
    for problem, history in watched.seen.items():
        torch.testing.assert_close(torch.stack(history), torch.stack(watched_alone.seen[problem]))
        known = torch.stack(history)[..., 1]
        assert bool((known[1:] >= known[:-1]).all())
        assert float(known[-1].max()) == 1.0


def test_the_contract_of_representations() -> None:
    """The published kit."""
    check_strategy(D2O(), only=("layout", "bytes", "merge", "merge independence", "purity"))


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_wrong_parameters_are_refused(decay: float) -> None:
    """With the rule and what came."""
    with pytest.raises(DeclarationError, match=rf"decay must lie in \[0, 1\), got decay={decay}"):
        D2O(decay=decay)
