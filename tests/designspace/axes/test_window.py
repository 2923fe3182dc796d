"""A protected window as a share of the size after an event: in tokens, in a mechanism, in an engine, in identities."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from designspace.axes import Budget, Cadence, Mechanism, WindowShare
from designspace.engine import Engine
from designspace.engine.cache_plan import CachePlan, needed_capacity
from designspace.errors import DeclarationError
from designspace.memory.probe_cache import ProbeCache
from designspace.models.loading import LoadedModel
from designspace.testing.conformance import check_mechanism, check_strategy
from families.cadence.annealed import Annealed
from families.cadence.every_k import EveryK
from families.cadence.every_step import EveryStep
from families.cadence.prefill_only import PrefillOnly
from families.decoding.greedy import Greedy
from families.head_routing.ada_kv import AdaKV
from families.head_routing.pyramid import Pyramid
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.h2o import H2O
from families.scoring.keydiff import KeyDiff
from families.scoring.snapkv import SnapKV
from tests.designspace.engine.test_engine import generate, requests, row

HALF = WindowShare(0.5)


def compose(scoring: object, cadence: Cadence, **axes: object) -> Mechanism:
    """Return a mechanism from two axes, the others at their baseline."""
    baseline = {"head_routing": Uniform(), "representation": FullPrecision(), "decoding": Greedy()}
    return Mechanism("test", scoring, cadence=cadence, **(baseline | axes))  # type: ignore[arg-type]


@pytest.mark.parametrize("percent", [1, 7, 25, 29, 50, 57, 99])
def test_tokens_are_rounded_down(percent: int) -> None:
    """As exact fractions are: 0.29 of 100 is 29, though the float product is a little less."""
    share = WindowShare(percent / 100)
    expected = [math.floor(Fraction(percent, 100) * size) for size in range(1, 400)]

    assert [share.tokens(size) for size in range(1, 400)] == expected


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1, float("nan"), "half", True])
def test_only_a_part_is_a_share(share: object) -> None:
    """Nothing and everything are no windows."""
    with pytest.raises(DeclarationError, match=r"^share must"):
        WindowShare(share)  # type: ignore[arg-type]


def test_a_number_of_tokens_has_the_identity_that_it_had() -> None:
    """And a share is told from every number."""
    number = {
        "kind": "h2o", "version": 1, "selector": {"kind": "top-k", "version": 1}, "sinks": 0, "recent": 8, "normalise": "sum"
    }  # fmt: skip

    assert H2O(recent=8).identity() == number
    assert H2O(recent=HALF).identity() == {**number, "recent": {"share": 0.5}}


@pytest.mark.parametrize(
    ("cadence", "budget", "tokens"),
    [
        (EveryStep(), Budget(48), 23),  # 47 are left
        (EveryK(k=16), Budget(48), 19),  # 39 and 40 in turn
        (EveryK(k=16), Budget(64, "nominal"), 32),
        (PrefillOnly(), Budget(21, "nominal"), 10),
    ],
)
def test_the_size_is_that_of_the_cadence(cadence: Cadence, budget: Budget, tokens: int) -> None:
    """The smaller one where it alternates, whatever the budget means."""
    low = compose(H2O(recent=HALF), cadence).bind(budget).low

    assert H2O(recent=HALF).n_recent(low) == tokens
    assert H2O(recent=HALF, sinks=4).n_protected(low) == tokens + 4
    assert H2O(recent=8).n_recent(low) == 8


def test_protection_must_leave_room() -> None:
    """The message has the number of tokens that the share comes to."""
    mechanism = compose(H2O(recent=HALF, sinks=24), EveryStep())

    assert mechanism.bind(Budget(50)).low == 24 + 24 + 1
    with pytest.raises(
        DeclarationError, match=r"sinks=24, recent=24 \(\{share: 0\.5\}\), after-event size=48 \(budget 49\)"
    ):
        mechanism.bind(Budget(49))


def test_a_window_of_queries_is_a_number() -> None:
    """It is known before any budget is."""
    with pytest.raises(DeclarationError, match=r"recent must be an integer, got recent=WindowShare"):
        SnapKV(recent=HALF)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cadence", "budget"),
    [(EveryStep(), Budget(12)), (EveryK(k=4), Budget(13)), (Annealed(k=4, horizon=16), Budget(16))],
)
@pytest.mark.parametrize("routing", [Uniform(), AdaKV(floor=0.3), Pyramid(beta=4.0)], ids=lambda routing: routing.kind)
def test_a_share_does_what_its_number_of_tokens_does(
    toy_llama: LoadedModel, cadence: Cadence, budget: Budget, routing: object
) -> None:
    """Texts, sizes and bytes, under routings that ask what is protected."""
    shared = compose(H2O(recent=HALF), cadence, head_routing=routing)
    low = shared.bind(budget).low
    counted = compose(H2O(recent=low // 2), cadence, head_routing=routing)
    found, expected = (generate(toy_llama, mechanism, budget, requests()) for mechanism in (shared, counted))
    other = generate(toy_llama, compose(H2O(recent=low // 2 - 3), cadence, head_routing=routing), budget, requests())

    assert low // 2 >= 4
    assert {k: row(g) for k, g in found.items()} == {k: row(g) for k, g in expected.items()}
    assert {k: row(g) for k, g in found.items()} != {k: row(g) for k, g in other.items()}


def test_slots_and_events_know_the_number(toy_llama: LoadedModel) -> None:
    """Capacity, the context of events, and the cache that memory is predicted with."""
    shared, counted = (compose(H2O(recent=recent), EveryK(k=4), head_routing=Pyramid()) for recent in (HALF, 10))
    budget, limits = Budget(23), {"max_prompt_tokens": 40, "max_new_tokens": 40}
    schedule = shared.bind(budget)
    slots = [needed_capacity(m, schedule, toy_llama.geometry, **limits) for m in (shared, counted)]
    plan = CachePlan.of(toy_llama, shared, budget, artefacts={}, **limits)
    probe = ProbeCache(plan, rows=1, layers=1, slots=12, target=9, hidden=8)

    assert schedule.low == 20
    assert (
        slots[0]
        == slots[1]
        < needed_capacity(
            compose(H2O(recent=1), EveryK(k=4), head_routing=Pyramid()), schedule, toy_llama.geometry, **limits
        )
    )
    assert Engine(toy_llama, shared, budget, rows=1, **limits).compressor.context.recent == 10
    assert probe.context.recent == 4


@pytest.mark.parametrize("scoring", [H2O(recent=HALF), KeyDiff(recent=WindowShare(0.25), sinks=2)])
def test_conformance(toy_llama: LoadedModel, scoring: object) -> None:
    """The kit knows shares too, and watches that the window stays."""
    check_strategy(scoring)  # type: ignore[arg-type]
    check_mechanism(compose(scoring, EveryK(k=4)), toy_llama, Budget(20))
