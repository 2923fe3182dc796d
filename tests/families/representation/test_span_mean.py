"""Span means: a slow reference, spans of equal mass, full attention reproduced, no token's mass ever lost."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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
from families.representation.span_mean import SpanMean, carriers
from families.scoring.h2o import H2O
from families.scoring.knorm import KNorm
from families.scoring.random import Random
from families.scoring.selectors.diversity import Diversity
from families.scoring.selectors.top_k import TopK
from families.scoring.snapkv import SnapKV
from families.scoring.streaming_llm import StreamingLLM
from tests.conftest import toy_model

FORMS = [
    SpanMean(),
    SpanMean(synthetic=1.0),
    SpanMean(synthetic=0.2),
    SpanMean(mode="dynamic"),
    SpanMean(mode="dynamic", mass_share=0.9),
    SpanMean(keys="unrotated"),
]


def spans_of(masses: list[int], n_spans: int) -> list[list[int]]:
    """Cut members 0 ... r-1 into spans by where their middles lie, then see to it that none is empty."""
    r, total = len(masses), sum(masses)
    first = [0]
    for k in range(1, n_spans):
        before, n_left = 0, 0
        for mass in masses:
            if (before + mass / 2) * n_spans <= k * total:
                n_left += 1
            before += mass
        first.append(min(max(n_left, first[-1] + 1), r - (n_spans - k)))
    return [list(range(a, b)) for a, b in zip(first, [*first[1:], r], strict=True)]


def n_synthetic_of(form: SpanMean, scores: list[float], chosen: list[int], candidates: list[int]) -> int:
    """How many of the slots that the selector gave to `chosen` become synthetic."""
    free = len(chosen)
    if free == 0:
        return 0
    if form.mode == "static":
        return math.ceil(round(form.synthetic * free, 9))
    low, high = min(scores[i] for i in candidates), max(scores[i] for i in candidates)
    scaled = {i: (scores[i] - low) / (high - low) if high > low else 0.5 for i in candidates}
    held, n_exact = 0.0, 0
    for i in sorted(chosen, key=lambda i: -scaled[i]):
        if held >= form.mass_share * sum(scaled.values()):
            break
        held += scaled[i]
        n_exact += 1
    return max(free - n_exact, 1)


def turn(key: list[float], by: int, inv_freq: list[float]) -> list[float]:
    """Rotate a key by so many positions, the half layout."""
    half, out = len(key) // 2, list(key)
    for f, frequency in enumerate(inv_freq):
        cos, sin = math.cos(by * frequency), math.sin(by * frequency)
        out[f] = key[f] * cos - key[half + f] * sin
        out[half + f] = key[f] * sin + key[half + f] * cos
    return out


def reference(form: SpanMean, view: View, scores: Tensor, share: int, keep: Tensor, head: tuple[int, ...]) -> dict:
    """What one head holds after an event: slot -> (key, value, mass)."""
    n = int((view.positions[head] >= 0).sum())
    keys, values = view.keys[head].tolist(), view.values[head].tolist()
    mass = view.mass[head].tolist() if view.mass is not None else [1] * len(keys)
    everything = {i: (keys[i], values[i], mass[i]) for i in range(n)}
    if share >= n:
        return everything
    score, protected = scores[head].tolist(), view.protected[head].tolist()
    kept = [i for i in range(n) if keep[head][i]]
    chosen = [i for i in kept if not protected[i]]
    candidates = [i for i in range(n) if not protected[i]]
    n_exact = len(chosen) - n_synthetic_of(form, score, chosen, candidates)
    best = sorted(chosen, key=lambda i: (-score[i], -i))[:n_exact]
    exact = [i for i in kept if protected[i]] + best
    rest = [i for i in range(n) if i not in exact]
    held = {i: everything[i] for i in exact}
    if share == len(exact):
        return held
    inv_freq = view.geometry.inv_freq.tolist()
    for span in spans_of([mass[i] for i in rest], share - len(exact)):
        members = [rest[i] for i in span]
        carrier, total = members[-1], sum(mass[i] for i in members)
        key, value = [0.0] * len(keys[0]), [0.0] * len(keys[0])
        for i in members:
            by = int(view.positions[head][carrier] - view.positions[head][i])
            moved = turn(keys[i], by, inv_freq) if form.keys == "unrotated" else keys[i]
            key = [a + mass[i] * b / total for a, b in zip(key, moved, strict=True)]
            value = [a + mass[i] * b / total for a, b in zip(value, values[i], strict=True)]
        held[carrier] = (key, value, total)
    return held


def events(seed: int) -> Iterator[tuple[View, Tensor, Tensor, Tensor]]:
    """Random events of many shapes, with random masses: view, scores, shares and the selector's choice."""
    for case in cases(Needs(), sinks=1, recent=2, seed=seed):
        generator = torch.Generator().manual_seed(seed)
        mass = torch.randint(1, 9, case.view.positions.shape, generator=generator)
        view = replace(case.view, mass=mass)
        shares = torch.minimum(case.shares, view.counts)
        yield view, case.scores, shares, TopK().select(view, case.scores, shares)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_an_event_equals_the_slow_reference(form: SpanMean, seed: int) -> None:
    """Ragged shares, groups, pins, masses: every head by loops over its tokens."""
    n_merged = 0
    for view, scores, shares, keep in events(seed):
        folded = form.merge_evicted(view, scores, shares, keep)
        for head in torch.cartesian_prod(*(torch.arange(n) for n in shares.shape)).tolist():
            at = tuple(head)
            expected = reference(form, view, scores, int(shares[at]), keep, at)
            assert folded.keep[at].nonzero()[:, 0].tolist() == sorted(expected)
            for slot, (key, value, mass) in expected.items():
                torch.testing.assert_close(folded.keys[at][slot].tolist(), key, rtol=1e-4, atol=1e-4)
                torch.testing.assert_close(folded.values[at][slot].tolist(), value, rtol=1e-4, atol=1e-4)
                assert int(folded.mass[at][slot]) == mass
                n_merged += mass > 8
    assert n_merged > 20


def test_only_kept_slots_change_and_exact_ones_stay_bit_for_bit() -> None:
    """Also where keys are turned."""
    for form in FORMS:
        for view, scores, shares, keep in events(2):
            folded = form.merge_evicted(view, scores, shares, keep)
            for now, before in ((folded.keys, view.keys), (folded.values, view.values)):
                assert torch.equal(now[~folded.keep], before[~folded.keep])
            single = folded.keep & (folded.mass == view.mass)
            assert torch.equal(folded.keys[single], view.keys[single])
            assert torch.equal(folded.values[single], view.values[single])


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_nothing_changes_where_nothing_is_evicted(form: SpanMean) -> None:
    """Shares of everything: not even all-synthetic forms touch a slot."""
    for view, scores, _, _ in events(3):
        folded = form.merge_evicted(view, scores, view.counts, view.valid)

        assert torch.equal(folded.keep, view.valid)
        for now, before in ((folded.keys, view.keys), (folded.values, view.values), (folded.mass, view.mass)):
            assert torch.equal(now[view.valid], before[view.valid])


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_masses_are_conserved_unless_protection_fills_the_share(form: SpanMean) -> None:
    """Every head with an unprotected slot stands for as many tokens as before."""
    for view, scores, shares, keep in events(4):
        folded = form.merge_evicted(view, scores, shares, keep)
        before, after = ((m * held).sum(dim=-1) for m, held in ((view.mass, view.valid), (folded.mass, folded.keep)))
        has_room = (shares > (keep & view.protected).sum(dim=-1)) | (shares == view.counts)

        assert bool(has_room.any())
        assert torch.equal(before[has_room], after[has_room])


def spans(masses: list[int], n_spans: int) -> list[list[int]]:
    """The masses of each span, of one head that has nothing but them."""
    mass = torch.tensor(masses)[None, None, None]
    last = carriers(torch.ones_like(mass, dtype=torch.bool), mass, torch.full((1, 1, 1), n_spans))[0, 0, 0].tolist()
    return [[m for m, where in zip(masses, last, strict=True) if where == end] for end in sorted(set(last))]


@pytest.mark.parametrize(
    ("masses", "n_spans", "expected"),
    [
        ([1, 1, 1, 1, 1, 1], 3, [[1, 1], [1, 1], [1, 1]]),
        ([4, 1, 1, 1, 1], 2, [[4], [1, 1, 1, 1]]),  # an old mean weighs as many tokens as it stands for
        ([1, 5, 2], 2, [[1, 5], [2]]),
        ([10, 1, 1, 1], 3, [[10], [1], [1, 1]]),  # nobody's middle is in the second third: it takes the next slot
        ([1, 1, 1, 10], 3, [[1, 1], [1], [10]]),
        ([7, 7], 2, [[7], [7]]),
        ([3, 1, 2], 1, [[3, 1, 2]]),
    ],
)
def test_spans_by_hand(masses: list[int], n_spans: int, expected: list[list[int]]) -> None:
    """Borders lie where the mass is halved, thirded and so on; no span is empty."""
    assert spans(masses, n_spans) == expected


@settings(max_examples=100, deadline=None)
@given(masses=st.lists(st.integers(1, 60), min_size=1, max_size=20), n_spans=st.integers(1, 20))
def test_spans_are_contiguous_full_and_balanced(masses: list[int], n_spans: int) -> None:
    """As many as asked for; of single tokens none is longer than another by more than one."""
    n_spans = min(n_spans, len(masses))
    assert [m for span in spans(masses, n_spans) for m in span] == masses
    assert len(spans(masses, n_spans)) == n_spans
    assert spans(masses, n_spans) == [[masses[i] for i in span] for span in spans_of(masses, n_spans)]

    lengths = [len(span) for span in spans([1] * len(masses), n_spans)]
    assert max(lengths) - min(lengths) <= 1


def test_a_mean_of_means_is_the_mean() -> None:
    """Two events in a row leave the same single slot as one."""
    keys = torch.randn(1, 1, 1, 7, 4, generator=torch.Generator().manual_seed(0))
    form, zeros, ones = SpanMean(synthetic=1.0, keys="unrotated"), torch.zeros(1, 1, 1, 7), torch.ones(1, 1, 1, 7)
    view = view_of(keys, mass=ones.long(), inv_freq=torch.tensor([1.0, 0.3]))
    three = form.merge_evicted(
        view, zeros, torch.full((1, 1, 1), 3), TopK().select(view, zeros, torch.full((1, 1, 1), 3))
    )
    order = packing_order(three.keep)[0, 0, 0, :3]
    again = view_of(
        three.keys[:, :, :, order], three.values[:, :, :, order], positions=view.positions[..., order],
        mass=three.mass[..., order], inv_freq=torch.tensor([1.0, 0.3]),
    )  # fmt: skip
    one = torch.full((1, 1, 1), 1)
    twice = form.merge_evicted(again, zeros[..., :3], one, TopK().select(again, zeros[..., :3], one))
    once = form.merge_evicted(view, zeros, one, TopK().select(view, zeros, one))

    assert int(twice.mass[..., 2]) == int(once.mass[..., 6]) == 7
    torch.testing.assert_close(twice.keys[..., 2, :], once.keys[..., 6, :])
    torch.testing.assert_close(twice.values[..., 2, :], once.values[..., 6, :])


def test_averaging_before_rotation_is_averaging_before_rotation() -> None:
    """Keys rotated from unrotated ones: the slot holds their mean, rotated to its own position, scaling included."""
    generator = torch.Generator().manual_seed(1)
    raw, positions, inv_freq, scale = torch.randn(3, 4, generator=generator), [2, 5, 11], [0.9, 0.1], 1.3
    post = [[scale * x for x in turn(raw[i].tolist(), at, inv_freq)] for i, at in enumerate(positions)]
    view = view_of(
        torch.tensor(post)[None, None, None], positions=torch.tensor(positions)[None, None, None],
        inv_freq=torch.tensor(inv_freq), attention_scaling=scale, mass=torch.tensor([[[[2, 1, 1]]]]),
    )  # fmt: skip
    one, zeros = torch.ones(1, 1, 1, dtype=torch.int64), torch.zeros(1, 1, 1, 3)
    folded = SpanMean(keys="unrotated", synthetic=1.0).merge_evicted(view, zeros, one, TopK().select(view, zeros, one))
    mean = (2 * raw[0] + raw[1] + raw[2]) / 4

    expected = torch.tensor([scale * x for x in turn(mean.tolist(), 11, inv_freq)])
    torch.testing.assert_close(folded.keys[0, 0, 0, 2], expected)


def test_dynamic_by_hand() -> None:
    """Scores 9, 5, 1, 1, 1, 1 scale to 1, .5, 0 ...: half of 1.5 is held by one token, 90 % by two."""
    scores = torch.tensor([9.0, 1.0, 5.0, 1.0, 1.0, 1.0])[None, None, None]
    view = view_of(torch.eye(6)[None, None, None, :, :4], mass=torch.ones(1, 1, 1, 6, dtype=torch.int64))
    shares = torch.full((1, 1, 1), 4)
    keep = TopK().select(view, scores, shares)

    def held(mass_share: float) -> list[int]:
        folded = SpanMean(mode="dynamic", mass_share=mass_share).merge_evicted(view, scores, shares, keep)
        return folded.mass[folded.keep].tolist()

    assert held(0.5) == [1, 2, 1, 2]  # the best, then spans {1, 2}, {3}, {4, 5}: middles 1, 2.5, 4 of 5 by thirds
    assert held(0.9) == [1, 1, 2, 2]  # slots 0 and 2 are exact; spans {1, 3} and {4, 5} in the places of 3 and 5
    exact = SpanMean(mode="dynamic", mass_share=0.9).merge_evicted(view, scores, shares, keep)
    assert torch.equal(exact.keys[0, 0, 0, 2], view.keys[0, 0, 0, 2])


def test_the_selectors_choice_is_respected() -> None:
    """Exact tokens come from what the selector kept, not from the best scores alone."""
    generator = torch.Generator().manual_seed(5)
    keys = torch.randn(1, 1, 1, 12, 4, generator=generator)
    view = view_of(keys, mass=torch.ones(1, 1, 1, 12, dtype=torch.int64))
    scores, shares = torch.rand(1, 1, 1, 12, generator=generator) * 0.1, torch.full((1, 1, 1), 6)
    keep = Diversity(weight=5.0).select(view, scores, shares)
    folded = SpanMean(synthetic=0.3).merge_evicted(view, scores, shares, keep)
    exact = sorted(keep[0, 0, 0].nonzero()[:, 0].tolist(), key=lambda i: -float(scores[0, 0, 0, i]))[:4]

    assert not torch.equal(keep, TopK().select(view, scores, shares))
    assert bool(folded.keep[0, 0, 0, exact].all())
    assert torch.equal(folded.keys[0, 0, 0, exact], keys[0, 0, 0, exact])


def test_spans_of_identical_tokens_reproduce_full_attention() -> None:
    """Runs of equal keys and values, merged, give what attention over all of them gives."""
    generator = torch.Generator().manual_seed(7)
    distinct = torch.randn(2, 2, 1, 2, 4, 8, generator=generator)  # keys and values, L 2, H 2, 4 runs
    keys_held, values_held = (x.repeat_interleave(3, dim=-2) for x in distinct)  # 12 tokens
    geometry = Geometry(2, 4, 2, 8, torch.ones(4))
    form = SpanMean(synthetic=1.0)
    cache = SlotCache(
        geometry, form, Needs(), rows=1, capacity=6, dtype=torch.float32, device=torch.device("cpu"), width=20
    )
    view = view_of(keys_held, values_held, n_query_heads=4, mass=torch.ones(2, 1, 2, 12, dtype=torch.int64))
    shares = torch.full((2, 1, 2), 4)
    folded = form.merge_evicted(
        view, torch.zeros(2, 1, 2, 12), shares, TopK().select(view, torch.zeros(2, 1, 2, 12), shares)
    )
    kept = CompressionResult(packing_order(folded.keep), shares, Contents(folded.keys, folded.values), folded.mass)
    cache.load(0, Prompt(keys_held, values_held, view.positions, Observed(), 12), kept, stream=0)
    assert cache.mass is not None
    assert cache.mass[0, 0, 0].tolist() == [3, 3, 3, 3, 1, 1]

    cache.begin_step()
    for layer in range(2):
        query, key, value = (torch.randn(1, n, 1, 8, generator=generator) for n in (4, 2, 2))
        output = DecodePass(cache).attend(LayerCall(layer, 0.3), query, key, value)
        for head in range(4):
            all_keys = torch.cat([keys_held[layer, 0, head // 2], key[0, head // 2]])
            all_values = torch.cat([values_held[layer, 0, head // 2], value[0, head // 2]])
            full = torch.softmax(all_keys @ query[0, head, 0] * 0.3, dim=0) @ all_values
            torch.testing.assert_close(output[0, 0, head], full)


# In the engine -------------------------------------------------------------------------------------------------------


class MassChecks(EngineHook):
    """After each step compares the tokens that slots stand for with the tokens seen."""

    def __init__(self, engine: Engine) -> None:
        self.cache, self.n_checked, self.n_synthetic = engine.cache, 0, 0

    def on_compressed(self, states: Collection[RowState]) -> None:
        """Compare."""
        cache = self.cache
        assert cache.mass is not None
        for state in states:
            row = state.index
            stands_for = (cache.mass[:, row] * (cache.positions[:, row] >= 0)).sum(dim=-1)
            assert stands_for.unique().tolist() == [int(cache.next_position[row])]
            self.n_checked += 1
            self.n_synthetic += int((cache.mass[:, row] > 1).sum())


def requests() -> list[Request]:
    """Prompts of mixed length, some longer than the budget."""
    lengths = (5, 13, 24, 18, 9, 30)
    ids = [torch.randperm(50, generator=torch.Generator().manual_seed(i))[:n] + 2 for i, n in enumerate(lengths)]
    return [Request(f"p{i}", tuple(x.tolist()), stream_key(7, f"p{i}", 0)) for i, x in enumerate(ids)]


def compose(scoring: Any, cadence: Any, form: Any, routing: Any = None) -> Mechanism:
    """A mechanism around a representation."""
    return Mechanism("test", scoring, routing or Uniform(), cadence, form, Greedy())


def run(engine: Engine, todo: list[Request]) -> dict[str, Generation]:
    """Generations by problem."""
    return {g.problem_id: g for g in engine.generate(todo)}


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize(
    ("scoring", "cadence", "routing"),
    [
        (StreamingLLM(sinks=1), EveryK(k=4), None),
        (H2O(recent=3), Hysteresis(slack=4), AdaKV()),
        (SnapKV(recent=3), EveryK(k=4), AdaKV()),
        (KNorm(), EveryStep(), None),
        (Random(recent=2), Hysteresis(slack=3), None),
    ],
    ids=lambda x: getattr(x, "kind", "uniform"),
)
def test_slots_stand_for_every_token_seen_at_every_step(
    form: SpanMean, scoring: Any, cadence: Any, routing: Any
) -> None:
    """In every layer and head, after every step of every row."""
    mechanism = compose(scoring, cadence, form, routing)
    settings = {"rows": 3, "max_new_tokens": 14, "max_prompt_tokens": 30}
    engine = Engine(toy_model(), mechanism, Budget(12), **settings)
    engine.hook = mass_checks = MassChecks(engine)
    generations = run(engine, requests())

    assert mass_checks.n_checked == 6 * 13
    assert mass_checks.n_synthetic > 100
    assert all(g.n_events > 0 for g in generations.values() if g.n_prompt_tokens > 12)


@pytest.mark.parametrize("form", [SpanMean(), SpanMean(mode="dynamic", keys="unrotated")], ids=str)
def test_rows_do_not_depend_on_their_neighbours(form: SpanMean) -> None:
    """Each prompt by itself gives the tokens that it gives in company."""
    mechanism = compose(H2O(recent=3), EveryK(k=4), form, AdaKV())
    settings = {"rows": 3, "max_new_tokens": 14, "max_prompt_tokens": 30}
    together = run(Engine(toy_model(), mechanism, Budget(12), **settings), requests())
    engine = Engine(toy_model(), mechanism, Budget(12), **settings)
    alone = {request.problem_id: run(engine, [request])[request.problem_id] for request in requests()}
    plain = run(Engine(toy_model(), compose(H2O(recent=3), EveryK(k=4), FullPrecision(), AdaKV()), Budget(12), **settings),
                requests())  # fmt: skip

    assert {k: g.token_ids for k, g in together.items()} == {k: g.token_ids for k, g in alone.items()}
    assert {k: g.token_ids for k, g in together.items()} != {k: g.token_ids for k, g in plain.items()}
    per_token = 2 * 16 * 4 + 4  # key, value, mass; 2 layers of 2 heads hold it
    for g in together.values():
        assert g.mean_cache_bytes == pytest.approx(g.mean_cache_tokens * 4 * per_token)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_contract_of_representations(form: SpanMean) -> None:
    """The published kit."""
    check_strategy(form, only=("layout", "bytes", "merge", "merge independence", "purity"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"synthetic": 0.0}, r"synthetic must lie in \(0, 1\], got synthetic=0.0"),
        ({"synthetic": 1.1}, "got synthetic=1.1"),
        ({"mass_share": 1.0}, r"mass_share must lie in \(0, 1\), got mass_share=1.0"),
        ({"mode": "both"}, "mode must be 'static' or 'dynamic', got mode='both'"),
        ({"keys": "pre"}, "keys must be 'rotated' or 'unrotated', got keys='pre'"),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any], message: str) -> None:
    """With the rule and what came."""
    with pytest.raises(DeclarationError, match=message):
        SpanMean(**wrong)


def test_partly_rotated_keys_cannot_be_unrotated() -> None:
    """The other forms do not care."""
    partial = Geometry(1, 1, 1, 8, torch.ones(2))
    assert SpanMean().unsupported_reason(partial) is None
    assert "rotates 4" in str(SpanMean(keys="unrotated").unsupported_reason(partial))
