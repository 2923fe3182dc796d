"""Nearest-neighbour merging: hand vectors, a slow reference, counts that reproduce full attention, engine runs."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import Budget, Contents, Generation, Geometry, Mechanism, Needs, Observed, Request, View
from designspace.axes.randomness import stream_key
from designspace.axes.ranking import packing_order
from designspace.cache.attention import DecodePass
from designspace.cache.layer_call import LayerCall
from designspace.cache.packing import CompressionResult, Prompt
from designspace.cache.slots import SlotCache
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
from families.representation.full import FullPrecision
from families.representation.nearest_merge import CountedMerge, NearestMerge
from families.scoring.h2o import H2O
from families.scoring.knorm import KNorm
from families.scoring.random import Random
from families.scoring.selectors.top_k import TopK
from families.scoring.streaming_llm import StreamingLLM
from tests.conftest import toy_model

FORMS = [
    NearestMerge(),
    NearestMerge(weighting="norm"),
    NearestMerge(merge="both", threshold=0.2),
    NearestMerge(weighting="norm", merge="both"),
    CountedMerge(),
    CountedMerge(weighting="norm", merge="both"),
    CountedMerge(threshold=0.3),
]


def norm(x: list[float]) -> float:
    """Return the length of a vector."""
    return math.sqrt(sum(a * a for a in x))


def cosine(a: list[float], b: list[float]) -> float:
    """Return the cosine of two vectors, 0 where one is zero."""
    product = norm(a) * norm(b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / product if product else 0.0


def reference(form: NearestMerge, view: View, keep: Tensor, head: tuple[int, ...]) -> dict:
    """What one head holds after an event: slot -> (key, value, mass)."""
    n = int((view.positions[head] >= 0).sum())
    keys, values = view.keys[head].tolist(), view.values[head].tolist()
    mass = view.mass[head].tolist() if view.mass is not None else [1] * len(keys)
    kept = [i for i in range(n) if keep[head][i]]
    joined: dict[int, list[tuple[int, float]]] = {j: [] for j in kept}
    for e in (i for i in range(n) if i not in kept):
        if not kept:
            break
        target = max(kept, key=lambda j: (round(cosine(keys[e], keys[j]), 6), j))
        similar = cosine(keys[e], keys[target])
        if similar < form.threshold:
            continue
        if form.weighting == "cosine":
            u = (similar + 1) / 2
        else:
            both = norm(values[e]) + norm(values[target])
            u = max(similar, 0.0) * norm(values[e]) / both if both else 0.0
        joined[target].append((e, u))
    held = {}
    for j in kept:
        total = mass[j] + sum(mass[e] * u for e, u in joined[j])
        value, key = (
            [(mass[j] * x[j][d] + sum(mass[e] * u * x[e][d] for e, u in joined[j])) / total for d in range(len(x[j]))]
            for x in (values, keys)
        )
        held[j] = (key if form.merge == "both" else keys[j], value, mass[j] + sum(mass[e] for e, _ in joined[j]))
    return held


def events(seed: int, masses: bool) -> Iterator[tuple[View, Tensor, Tensor, Tensor]]:
    """Random events of many shapes: view, scores, shares and the selector's choice."""
    for case in cases(Needs(), sinks=1, recent=2, seed=seed):
        generator = torch.Generator().manual_seed(seed)
        mass = torch.randint(1, 9, case.view.positions.shape, generator=generator) if masses else None
        view = replace(case.view, mass=mass)
        shares = torch.minimum(case.shares, view.counts)
        yield view, case.scores, shares, TopK().select(view, case.scores, shares)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_an_event_equals_the_slow_reference(form: NearestMerge, seed: int) -> None:
    """Ragged shares, groups, pins, zero keys, empty heads: every head by loops over its tokens."""
    n_changed = 0
    for view, scores, shares, keep in events(seed, form.carries_mass):
        folded = form.merge_evicted(view, scores, shares, keep)
        assert torch.equal(folded.keep, keep)
        keys = view.keys if folded.keys is None else folded.keys
        for head in torch.cartesian_prod(*(torch.arange(n) for n in shares.shape)).tolist():
            at = tuple(head)
            for slot, (key, value, mass) in reference(form, view, keep, at).items():
                torch.testing.assert_close(keys[at][slot].tolist(), key, rtol=1e-4, atol=1e-4)
                torch.testing.assert_close(folded.values[at][slot].tolist(), value, rtol=1e-4, atol=1e-4)
                assert folded.mass is None or int(folded.mass[at][slot]) == mass
                n_changed += folded.values[at][slot].tolist() != view.values[at][slot].tolist()
    assert n_changed > 50


def one_head(keys: list[list[float]], values: list[list[float]], keep: list[bool], **more: Any) -> tuple[View, Tensor]:
    """Return a view of one head and which of its slots are kept."""
    k, v = (torch.tensor(x)[None, None, None] for x in (keys, values))
    return view_of(k, v, **more), torch.tensor(keep)[None, None, None]


def folded_values(form: NearestMerge, view: View, keep: Tensor) -> list[list[float]]:
    """Return the values of the kept slots after an event."""
    folded = form.merge_evicted(view, torch.zeros(keep.shape), keep.sum(dim=-1), keep)
    return folded.values[keep].tolist()


def test_norm_aware_by_hand() -> None:
    """Kept (1,0), evicted (0,1), cosine 1: u = 1/2, so (2/3, 1/3)."""
    view, keep = one_head([[2.0, 0.0], [3.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [True, False])
    assert folded_values(NearestMerge(weighting="norm"), view, keep) == [pytest.approx([2 / 3, 1 / 3])]


def test_cosine_weights_by_hand() -> None:
    """Cosine 1 weighs 1, cosine 0 weighs 1/2: ((1,0) + (0,1) + (0,2)/2) / 2.5."""
    keys = [[1.0, 0.0], [5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    view, keep = one_head(keys, [[1.0, 0.0], [0.0, 1.0], [0.0, 2.0], [9.0, 9.0]], [True, False, False, False])
    # The opposite key weighs nothing.
    assert folded_values(NearestMerge(), view, keep) == [pytest.approx([1 / 2.5, 2 / 2.5])]
    assert folded_values(NearestMerge(threshold=0.5), view, keep) == [pytest.approx([0.5, 0.5])]


def test_equal_similarity_goes_to_the_larger_position() -> None:
    """Two kept slots with the same key."""
    view, keep = one_head([[1.0, 0.0]] * 3, [[1.0], [2.0], [4.0]], [True, True, False])
    assert folded_values(NearestMerge(), view, keep) == [[1.0], [3.0]]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_nothing_changes_where_nothing_is_evicted_or_nothing_comes(form: NearestMerge) -> None:
    """Bit for bit; slots that are not kept are never touched."""
    for view, scores, shares, keep in events(2, form.carries_mass):
        same = form.merge_evicted(view, scores, view.counts, view.valid)
        assert same.keys is None or torch.equal(same.keys, view.keys)
        assert torch.equal(same.values, view.values)
        folded = form.merge_evicted(view, scores, shares, keep)
        assert torch.equal(folded.values[~keep], view.values[~keep])
        assert (folded.keys is None) == (form.merge == "values")


def test_counts_are_conserved() -> None:
    """With nothing below the threshold every token goes on in some slot, whatever it weighs."""
    for form in (CountedMerge(), CountedMerge(weighting="norm")):
        for view, scores, shares, keep in events(3, True):
            folded = form.merge_evicted(view, scores, shares, keep)
            before, after = ((m * held).sum(dim=-1) for m, held in ((view.mass, view.valid), (folded.mass, keep)))
            assert torch.equal(before[shares > 0], after[shares > 0])


@pytest.mark.parametrize("form", [CountedMerge(), CountedMerge(weighting="norm", merge="both")], ids=str)
def test_identical_tokens_with_counts_reproduce_full_attention(form: CountedMerge) -> None:
    """Copies of tokens, scattered over the text, are merged into one each; without counts the output differs."""
    generator = torch.Generator().manual_seed(7)
    distinct = torch.randn(2, 2, 1, 2, 4, 8, generator=generator)  # keys and values, L 2, H 2, 4 tokens
    keys, values = (x[..., [0, 1, 2, 3, 0, 0, 2, 1, 0, 3], :] for x in distinct)
    keep = (torch.arange(10) < 4).expand(2, 1, 2, 10)
    view = view_of(keys, values, n_query_heads=4)

    def attended(form: NearestMerge) -> list[tuple[Tensor, Tensor]]:
        cache = SlotCache(
            Geometry(2, 4, 2, 8, torch.ones(4)), form, Needs(), rows=1, capacity=6, dtype=torch.float32,
            device=torch.device("cpu"), width=20,
        )  # fmt: skip
        mass = torch.ones(2, 1, 2, 10, dtype=torch.int64) if form.carries_mass else None
        folded = form.merge_evicted(replace(view, mass=mass), torch.zeros(keep.shape), keep.sum(dim=-1), keep)
        kept = CompressionResult(
            packing_order(keep), keep.sum(dim=-1), Contents(folded.keys, folded.values), folded.mass
        )
        cache.load(0, Prompt(keys, values, view.positions, Observed(), 10), kept, stream=0)
        cache.begin_step()
        new = torch.Generator().manual_seed(8)
        pairs = []
        for layer in range(2):
            query, key, value = (torch.randn(1, n, 1, 8, generator=new) for n in (4, 2, 2))
            output = DecodePass(cache).attend(LayerCall(layer, 0.3), query, key, value)
            for head in range(4):
                all_keys = torch.cat([keys[layer, 0, head // 2], key[0, head // 2]])
                all_values = torch.cat([values[layer, 0, head // 2], value[0, head // 2]])
                full = torch.softmax(all_keys @ query[0, head, 0] * 0.3, dim=0) @ all_values
                pairs.append((output[0, 0, head], full))
        return pairs

    for output, full in attended(form):
        torch.testing.assert_close(output, full)
    assert not any(torch.allclose(output, full, atol=1e-3) for output, full in attended(NearestMerge()))


# In the engine -------------------------------------------------------------------------------------------------------


def requests() -> list[Request]:
    """Prompts of mixed length, some longer than the budget."""
    lengths = (5, 13, 24, 18, 9, 30)
    ids = [torch.randperm(50, generator=torch.Generator().manual_seed(i))[:n] + 2 for i, n in enumerate(lengths)]
    return [Request(f"p{i}", tuple(x.tolist()), stream_key(7, f"p{i}", 0)) for i, x in enumerate(ids)]


class MassChecks(EngineHook):
    """After each step compares the tokens that slots stand for with the tokens seen."""

    def __init__(self, engine: Engine) -> None:
        self.cache, self.n_checked = engine.cache, 0

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Compare."""
        for row in (state.index for state in states):
            if self.cache.mass is not None:
                stands_for = (self.cache.mass[:, row] * (self.cache.positions[:, row] >= 0)).sum(dim=-1)
                assert stands_for.unique().tolist() == [int(self.cache.next_position[row])]
                self.n_checked += 1


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
        (Random(recent=2), Hysteresis(slack=3), Uniform()),
    ],
    ids=lambda x: x.kind,
)
@pytest.mark.parametrize("form", [NearestMerge(weighting="norm"), CountedMerge(merge="both")], ids=str)
def test_rows_do_not_depend_on_their_neighbours(form: Any, scoring: Any, cadence: Any, routing: Any) -> None:
    """Each prompt by itself gives the tokens that it gives in company, and they are not those of plain eviction."""
    company = engine(form, scoring, cadence, routing)
    company.hook = mass_checks = MassChecks(company)
    together = {k: g.token_ids for k, g in run(company, requests()).items()}
    single = engine(form, scoring, cadence, routing)
    alone = {request.problem_id: run(single, [request])[request.problem_id].token_ids for request in requests()}
    plain = run(engine(FullPrecision(), scoring, cadence, routing), requests())

    assert together == alone
    assert together != {k: g.token_ids for k, g in plain.items()}
    assert mass_checks.n_checked == (6 * 13 if form.carries_mass else 0)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_contract_of_representations(form: NearestMerge) -> None:
    """The published kit."""
    check_strategy(form, only=("layout", "bytes", "merge", "merge independence", "purity"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weighting": "mean"}, "weighting must be 'cosine' or 'norm', got weighting='mean'"),
        ({"merge": "keys"}, "merge must be 'values' or 'both', got merge='keys'"),
        ({"threshold": 1.5}, r"threshold must lie in \[-1, 1\], got threshold=1.5"),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any], message: str) -> None:
    """With the rule and what came."""
    with pytest.raises(DeclarationError, match=message):
        NearestMerge(**wrong)
