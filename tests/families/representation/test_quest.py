"""Quest: page bounds, what is attended to, what is read, and full attention where the budget allows it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from designspace.axes import (
    Budget,
    Generation,
    Geometry,
    Mechanism,
    Needs,
    Observed,
    Request,
    RunContext,
    SlotState,
    StoreSpec,
)
from designspace.axes.randomness import stream_key
from designspace.axes.ranking import packing_order
from designspace.cache.attention import DecodePass
from designspace.cache.layer_call import LayerCall
from designspace.cache.packing import CompressionResult, Prompt
from designspace.cache.slots import SlotCache
from designspace.engine import Engine
from designspace.errors import DeclarationError
from designspace.testing.conformance.dispatch import check_strategy
from families.cadence.every_k import EveryK
from families.cadence.hysteresis import Hysteresis
from families.cadence.never import Never
from families.decoding.greedy import Greedy
from families.head_routing.ada_kv import AdaKV
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.representation.quest import Quest, QuestStore
from families.scoring.full import Full
from families.scoring.h2o import H2O
from families.scoring.streaming_llm import StreamingLLM
from tests.conftest import toy_model

LAYERS, ROWS, HEADS, GROUP, DIM, CAPACITY = 2, 3, 2, 2, 4, 23


def room(capacity: int, dim: int = 2, dtype: torch.dtype = torch.float32) -> StoreSpec:
    """Room for one head."""
    return StoreSpec(Geometry(1, 1, 1, dim, torch.ones(dim // 2)), 1, capacity, dtype, torch.device("cpu"), {})


def filled(form: Quest, lengths: tuple[int, ...] = (13, 6, 9), n_appended: int = 5, seed: int = 0) -> SlotCache:
    """Rows whose prompts, of these lengths, lost tokens here and there, with some tokens appended: ragged heads."""
    generator = torch.Generator().manual_seed(seed)
    geometry = Geometry(LAYERS, HEADS * GROUP, HEADS, DIM, torch.ones(DIM // 2))
    cache = SlotCache(
        geometry, form, Needs(), rows=ROWS, capacity=CAPACITY, dtype=torch.float32, device=torch.device("cpu"), width=99
    )
    for row, n in enumerate(lengths):
        keys, values = torch.randn(2, LAYERS, 1, HEADS, n + 3, DIM, generator=generator)
        positions = torch.where(torch.arange(n + 3) < n, torch.arange(n + 3), -1).expand(LAYERS, 1, HEADS, -1)
        keep = (torch.rand(positions.shape, generator=generator) < 0.8) & (positions >= 0)
        kept = CompressionResult(packing_order(keep), keep.sum(dim=-1))
        cache.load(row, Prompt(keys, values, positions, Observed(), n), kept, stream=row)
    for _ in range(n_appended):
        cache.begin_step()
        for layer in range(LAYERS):
            cache.append(layer, *torch.randn(2, ROWS, HEADS, DIM, generator=generator))
        cache.end_step()
    return cache


def chosen_slots(form: Quest, keys: Tensor, n: int, query: Tensor) -> tuple[set[int], list[float]]:
    """The slots that one query [D] attends to of one head's keys [C,D], n of them filled; and its pages' bounds."""
    pages = [list(range(start, min(start + form.page, n))) for start in range(0, n, form.page)]
    bounds = [sum(max(float(query[d] * keys[i, d]) for i in page) for d in range(DIM)) for page in pages]
    if n <= form.attended:
        return set(range(n)), bounds
    others = sorted(range(len(pages) - 1), key=lambda p: (bounds[p], p), reverse=True)
    best = [len(pages) - 1, *others[: max(form.least_pages, form.attended // form.page) - 1]]
    return {i for p in best for i in pages[p]}, bounds


FORMS = [
    Quest(page=4, attended=8, dense_layers=0, least_pages=1),
    Quest(page=4, attended=4, dense_layers=0),
    Quest(page=3, attended=8, dense_layers=1, least_pages=2),
    Quest(page=1, attended=5, dense_layers=0, least_pages=1),
    Quest(page=16, attended=5, dense_layers=0, least_pages=1),
]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_visible_equals_the_slow_reference(form: Quest, seed: int) -> None:
    """Ragged heads, groups, loaded and appended tokens, partly filled pages."""
    cache = filled(form, seed=seed)
    query = torch.randn(ROWS, HEADS * GROUP, DIM, generator=torch.Generator().manual_seed(9))
    n_hidden = 0
    for layer in range(LAYERS):
        visible = cache.visible(layer, query)
        if layer < form.dense_layers:
            assert visible is None
            continue
        assert visible is not None
        keys, _, positions = cache.read(layer)
        bounds = cache.store.bounds(layer, query)  # type: ignore[attr-defined]
        for row in range(ROWS):
            for head in range(HEADS * GROUP):
                kv, member = divmod(head, GROUP)
                n = int(cache.counts[layer, row, kv])
                slots, pages = chosen_slots(form, keys[row, kv], n, query[row, head])
                held = visible[row, kv, member] & (positions[row, kv] >= 0)
                assert set(held.nonzero()[:, 0].tolist()) == slots
                torch.testing.assert_close(bounds[row, kv, member, : len(pages)].tolist(), pages, rtol=1e-4, atol=1e-5)
                n_hidden += n - len(slots)
    assert n_hidden > 20 or form.page == 16


def test_the_bound_by_hand() -> None:
    """Keys (1,-2) and (3,0), query (1,-1): the bound 5 is above both logits, which are 3."""
    store = QuestStore(Quest(page=2), room(capacity=2))
    keys = torch.tensor([[1.0, -2.0], [3.0, 0.0]])[None, None, None]
    positions = torch.arange(2)[None, None, None]
    store.load(torch.tensor([0]), keys, keys, SlotState(torch.full((1, 1, 1), 2), positions, Observed()))
    assert store.bounds(0, torch.tensor([[[1.0, -1.0]]])).tolist() == [[[[5.0]]]]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), page=st.integers(1, 8))
def test_no_logit_is_above_its_pages_bound(seed: int, page: int) -> None:
    """For every query and every held key."""
    cache = filled(Quest(page=page), seed=seed)
    query = torch.randn(ROWS, HEADS * GROUP, DIM, generator=torch.Generator().manual_seed(seed))
    for layer in range(LAYERS):
        keys, _, positions = cache.read(layer)
        logits = query.unflatten(1, (HEADS, GROUP)) @ keys.mT  # [B,H,G,C]
        bounds = cache.store.bounds(layer, query).repeat_interleave(page, -1)[..., :CAPACITY]  # type: ignore[attr-defined]
        held = (positions >= 0)[:, :, None].expand_as(logits)
        assert bool((logits <= bounds + 1e-5)[held].all())


def test_the_last_page_is_always_read() -> None:
    """Full or not, though its bound is the lowest, and it takes one of two places."""
    form = Quest(page=2, attended=4, dense_layers=0, least_pages=1)
    keys = torch.tensor([5.0, 5, 4, 4, 3, 3, 1, 1])[:, None].expand(-1, 2)[None, None, None]
    for n in (7, 8):
        store = QuestStore(form, room(capacity=8))
        positions = torch.where(torch.arange(8) < n, torch.arange(8), -1)[None, None, None]
        held = SlotState(torch.full((1, 1, 1), n), positions, Observed())
        store.load(torch.tensor([0]), keys, keys, held)
        visible = store.visible(0, torch.ones(1, 1, 2), SlotState(held.counts[0], positions[0], Observed()))

        assert visible is not None
        assert visible[0, 0, 0, :n].nonzero()[:, 0].tolist() == [0, 1, *range(6, n)]


def test_pages_of_one_token_are_the_newest_and_the_exact_top_k_by_logit() -> None:
    """Every query head its own four, beside its newest token."""
    cache = filled(Quest(page=1, attended=5, dense_layers=0, least_pages=1))
    query = torch.randn(ROWS, HEADS * GROUP, DIM, generator=torch.Generator().manual_seed(3))
    keys, _, positions = cache.read(0)
    logits = (query.unflatten(1, (HEADS, GROUP)) @ keys.mT).masked_fill((positions < 0)[:, :, None], -torch.inf)
    visible = cache.visible(0, query)

    assert visible is not None
    for row in range(ROWS):
        for head in range(HEADS):
            for member in range(GROUP):
                newest = int(cache.counts[0, row, head]) - 1
                best = {newest, *logits[row, head, member, :newest].topk(4).indices.tolist()}
                assert set(visible[row, head, member].nonzero()[:, 0].tolist()) == best


def attended(form: Any, layer: int, seed: int = 0) -> tuple[Tensor, SlotCache]:
    """The attention output of one more token in every row, [B,H_q,D], and the cache after it."""
    cache = filled(form, seed=seed)
    generator = torch.Generator().manual_seed(77)
    query, key, value = (torch.randn(ROWS, n, 1, DIM, generator=generator) for n in (HEADS * GROUP, HEADS, HEADS))
    cache.begin_step()
    outputs = [DecodePass(cache).attend(LayerCall(i, 0.5), query, key, value)[:, 0] for i in range(LAYERS)]
    return outputs[layer], cache


def test_a_large_enough_budget_is_full_attention() -> None:
    """Whether or not the pages fit: 18 slots in pages of 4."""
    for page in (1, 4, 16):
        for layer in range(LAYERS):
            full, _ = attended(FullPrecision(), layer)
            everything, _ = attended(Quest(page=page, attended=CAPACITY, dense_layers=0, least_pages=1), layer)
            torch.testing.assert_close(everything, full)
            part, _ = attended(Quest(page=page, attended=4, dense_layers=0, least_pages=1), layer)
            assert page == 16 or not torch.allclose(part, full, atol=1e-3)


def test_attention_is_exact_over_the_chosen_pages() -> None:
    """A softmax over what is visible, nothing else."""
    form = Quest(page=4, attended=8, dense_layers=0, least_pages=1)
    output, cache = attended(form, 1)
    query = torch.randn(ROWS, HEADS * GROUP, 1, DIM, generator=torch.Generator().manual_seed(77))[:, :, 0]
    keys, values, _ = cache.read(1)
    for row in range(ROWS):
        for head in range(HEADS * GROUP):
            kv = head // GROUP
            slots, _ = chosen_slots(form, keys[row, kv], int(cache.counts[1, row, kv]), query[row, head])
            index = sorted(slots)
            weights = torch.softmax(keys[row, kv, index] @ query[row, head] * 0.5, dim=0)
            torch.testing.assert_close(output[row, head], weights @ values[row, kv, index])


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_bytes_read_are_the_union_of_pages_and_their_bounds(form: Quest) -> None:
    """Of the last step, per KV head; dense layers read everything and no bounds. Held bytes have a page's bounds each."""
    _, cache = attended(form, 0)
    query = torch.randn(ROWS, HEADS * GROUP, 1, DIM, generator=torch.Generator().manual_seed(77))[:, :, 0]
    vector = DIM * 4
    for row in range(ROWS):
        read = held = 0
        for layer in range(LAYERS):
            keys, _, _ = cache.read(layer)
            for kv in range(HEADS):
                n = int(cache.counts[layer, row, kv])
                n_pages = math.ceil(n / form.page)
                held += 2 * vector * (n + n_pages)
                union: set[int] = set()
                for member in range(GROUP):
                    union |= chosen_slots(form, keys[row, kv], n, query[row, kv * GROUP + member])[0]
                read += 2 * vector * (n if layer < form.dense_layers else len(union) + n_pages)
        assert int(cache.held_bytes(cache.counts)[row]) == held
        assert int(cache.read_bytes(cache.counts)[row]) == read


def test_resident_bytes_by_the_formula() -> None:
    """4 D N + 4 D ceil(N / 16) in two-byte numbers: one page bound more for 16 tokens, 6.25 %."""
    store = Quest().allocate(room(capacity=1000, dim=128, dtype=torch.bfloat16))
    assert store.held_bytes(torch.tensor([[[1000]]])).tolist() == [4 * 128 * (1000 + 63)]
    assert store.held_bytes(torch.tensor([[[960]]])).tolist() == [4 * 128 * 960 * 17 // 16]


def test_bounds_are_formed_anew_at_an_event() -> None:
    """After a row is cut, its pages bound the slots as they are packed now, and pages that emptied bound nothing."""
    form = Quest(page=4, attended=4, dense_layers=0, least_pages=1)
    cache = filled(form)
    rows = torch.tensor([0])
    context = RunContext(cache.geometry, cache.width)
    view = cache.view(rows, context, torch.tensor([3]))
    keep = view.valid & (view.positions % 3 == 1)
    cache.compact(rows, len(rows), view, CompressionResult(packing_order(keep), keep.sum(dim=-1)))
    store = cache.store
    assert isinstance(store, QuestStore)
    for layer in range(LAYERS):
        keys, _, _ = cache.read(layer)
        for row in range(ROWS):
            for head in range(HEADS):
                n = int(cache.counts[layer, row, head])
                for page, start in enumerate(range(0, n, 4)):
                    members = keys[row, head, start : min(start + 4, n)]
                    assert torch.equal(store.lowest[layer, row, head, page], members.amin(dim=0))
                    assert torch.equal(store.highest[layer, row, head, page], members.amax(dim=0))


# In the engine -------------------------------------------------------------------------------------------------------


def requests() -> list[Request]:
    """Prompts of mixed length, some longer than the budget."""
    lengths = (5, 13, 24, 18, 9, 30)
    ids = [torch.randperm(50, generator=torch.Generator().manual_seed(i))[:n] + 2 for i, n in enumerate(lengths)]
    return [Request(f"p{i}", tuple(x.tolist()), stream_key(7, f"p{i}", 0)) for i, x in enumerate(ids)]


def engine(form: Any, scoring: Any, cadence: Any, routing: Any = None) -> Engine:
    """Three rows of a toy model, without a budget or at a mean of 12 tokens."""
    mechanism = Mechanism("test", scoring, routing or Uniform(), cadence, form, Greedy())
    budget = Budget(12) if cadence.compresses else None
    return Engine(toy_model(), mechanism, budget, rows=3, max_new_tokens=14, max_prompt_tokens=30)


def run(engine: Engine, todo: list[Request]) -> dict[str, Generation]:
    """Return generations by problem."""
    return {g.problem_id: g for g in engine.generate(todo)}


SMALL = Quest(page=2, attended=4, dense_layers=1, least_pages=2)


@pytest.mark.parametrize(
    ("scoring", "cadence", "routing"),
    [
        (Full(), Never(), Uniform()),
        (StreamingLLM(sinks=1), EveryK(k=4), Uniform()),
        (H2O(recent=3), Hysteresis(slack=4), AdaKV()),
    ],
    ids=lambda x: x.kind,
)
def test_rows_do_not_depend_on_their_neighbours(scoring: Any, cadence: Any, routing: Any) -> None:
    """Tokens and bytes read; a budget of everything gives the tokens of the plain cache."""
    together = run(engine(SMALL, scoring, cadence, routing), requests())
    single = engine(SMALL, scoring, cadence, routing)
    alone = {request.problem_id: run(single, [request])[request.problem_id] for request in requests()}
    plain = run(engine(FullPrecision(), scoring, cadence, routing), requests())
    wide = run(engine(Quest(page=2, dense_layers=0), scoring, cadence, routing), requests())

    for problem, g in together.items():
        assert g.token_ids == alone[problem].token_ids
        assert g.mean_read_bytes == alone[problem].mean_read_bytes
        assert g.mean_read_bytes < g.mean_cache_bytes
        assert wide[problem].token_ids == plain[problem].token_ids
        assert wide[problem].mean_read_bytes == wide[problem].mean_cache_bytes > plain[problem].mean_cache_bytes
        assert wide[problem].cache_tokens_per_step == plain[problem].cache_tokens_per_step
    assert any(together[problem].token_ids != plain[problem].token_ids for problem in plain)


@pytest.mark.parametrize("form", [Quest(), SMALL], ids=str)
def test_the_contract_of_representations(form: Quest) -> None:
    """The published kit, but for the byte-by-byte probe: not every bit of a bound changes which pages are read."""
    check_strategy(form, exempt=("held bytes are real",))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"page": 0}, "page must be at least 1, got page=0"),
        ({"attended": 0}, "attended must be at least 1, got attended=0"),
        ({"dense_layers": -1}, "dense_layers must be at least 0, got dense_layers=-1"),
        ({"least_pages": 0}, "least_pages must be at least 1, got least_pages=0"),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, int], message: str) -> None:
    """With the rule and what came."""
    with pytest.raises(DeclarationError, match=message):
        Quest(**wrong)
