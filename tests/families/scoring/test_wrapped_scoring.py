"""Scorings that rework another scoring's scores: hand vectors, slow references, protection, refusals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from designspace.axes import Mechanism, Needs, Scoring, Selector, View, WindowShare
from designspace.engine.compress import compress
from designspace.errors import DeclarationError, InvariantViolation
from designspace.testing.views import view_of
from families.cadence.every_k import EveryK
from families.head_routing.ada_kv import AdaKV
from families.head_routing.uniform import Uniform
from families.representation.full import FullPrecision
from families.scoring.caote import CAOTE
from families.scoring.critical_kv import CriticalKV
from families.scoring.expected_attention import ExpectedAttention
from families.scoring.full import Full
from families.scoring.h2o import H2O
from families.scoring.keydiff import KeyDiff
from families.scoring.knorm import KNorm
from families.scoring.scissorhands import Scissorhands
from families.scoring.selectors.diversity import Diversity
from families.scoring.selectors.mmr import MMR
from families.scoring.selectors.top_k import TopK
from families.scoring.snapkv import SnapKV
from families.scoring.streaming_llm import StreamingLLM
from families.scoring.tova import TOVA
from families.scoring.variant_b import VariantB
from families.scoring.vatp import VATP

WEIGHTED = [VATP, CAOTE, CriticalKV]
LAYERS, ROWS, KV_HEADS, GROUP, SLOTS, DIM, HIDDEN, WINDOW = 2, 3, 2, 3, 11, 4, 7, 4
FREE = -1


def one_head(base: list[float], values: list[list[float]], **more: Any) -> View:
    """One layer, row and head whose H2O score is `base`."""
    v = torch.tensor(values).view(1, 1, 1, len(base), -1)
    return view_of(torch.zeros_like(v), v, accumulated=torch.tensor(base).view(1, 1, 1, -1), **more)


def random_view(seed: int = 0, *, rows: slice = slice(None), free: float = 0.0, **more: Any) -> View:
    """Several layers, rows and heads that hold different tokens; the first slots' heads have free slots at the end.

    Free slots hold `free` everywhere, so that a strategy which reads them shows.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    positions = torch.stack(
        [torch.randperm(20, generator=generator)[:SLOTS].sort().values for _ in range(LAYERS * ROWS * KV_HEADS)]
    ).view(LAYERS, ROWS, KV_HEADS, SLOTS)
    positions[0, 1, 1, -3:] = FREE
    positions[1, 2, 0, -1:] = FREE
    gap = positions == FREE
    keys = normal(LAYERS, ROWS, KV_HEADS, SLOTS, DIM).masked_fill(gap[..., None], free)
    values = normal(LAYERS, ROWS, KV_HEADS, SLOTS, DIM).masked_fill(gap[..., None], free)
    mass = normal(LAYERS, ROWS, KV_HEADS, SLOTS).abs().masked_fill(gap, free)
    by_query = normal(LAYERS, ROWS, KV_HEADS * GROUP, SLOTS)
    last = by_query.masked_fill(gap.repeat_interleave(GROUP, 2), -math.inf).softmax(dim=-1)
    last = last.masked_fill(gap.repeat_interleave(GROUP, 2), free)
    queries = normal(LAYERS, ROWS, KV_HEADS * GROUP, WINDOW, DIM)
    projection = normal(LAYERS, KV_HEADS * GROUP, DIM, HIDDEN)
    view = view_of(
        keys[:, rows],
        values[:, rows],
        positions=positions[:, rows],
        next_position=20,
        accumulated=mass[:, rows],
        last=last[:, rows],
        queries=queries[:, rows],
        output_projection=projection,
        **more,
    )
    assert view.geometry.group == GROUP
    return view


def heads(view: View) -> list[tuple[int, int, int]]:
    """Every (layer, row, KV head)."""
    return [(a, b, c) for a in range(view.keys.shape[0]) for b in range(view.keys.shape[1]) for c in range(KV_HEADS)]


def held(view: View, at: tuple[int, int, int]) -> list[int]:
    """Slots in use of one head."""
    return [slot for slot in range(SLOTS) if int(view.positions[at][slot]) != FREE]


def top(scores: list[float], k: int) -> list[int]:
    """The k largest, ties to the later."""
    return sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], -i))[:k])


def kept(view: View, scores: Tensor, budget: int) -> list[int]:
    """Slots that a top-k keeps in the first head."""
    return TopK().select(view, scores, torch.full(view.counts.shape, budget))[0, 0, 0].nonzero()[:, 0].tolist()


# --- VATP


def test_vatp_hand_vector_s10() -> None:
    """Base [.6, .3, .1] times L1 norms [1, 4, 2] is [.6, 1.2, .2]."""
    view = one_head([0.6, 0.3, 0.1], [[1.0, 0.0], [-1.0, 3.0], [2.0, 0.0]])

    assert VATP(sinks=0).score(view).flatten().tolist() == pytest.approx([0.6, 1.2, 0.2])
    l2 = VATP(sinks=0, norm="l2").score(view).flatten().tolist()
    assert l2 == pytest.approx([0.6, 0.3 * 10**0.5, 0.2])


def test_vatp_of_equal_norms_is_the_base_s10() -> None:
    """The ranking does not change."""
    base = [0.2, 0.5, 0.1, 0.4]
    view = one_head(base, [[1.0, 1.0], [-1.0, 1.0], [2.0, 0.0], [0.0, -2.0]])

    assert VATP().score(view).flatten().tolist() == pytest.approx([2 * x for x in base])


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_vatp_against_loops(norm: str) -> None:
    """Every head, with the base's normalised form."""
    view = random_view(1)
    scores = VATP(scoring=H2O(normalise="mean"), norm=norm).score(view)  # type: ignore[arg-type]

    for at in heads(view):
        for slot in held(view, at):
            base = float(view.accumulated[at][slot]) / (20 - int(view.positions[at][slot]))
            parts = [abs(float(x)) for x in view.values[at][slot]]
            size = sum(parts) if norm == "l1" else sum(x * x for x in parts) ** 0.5
            assert float(scores[at][slot]) == pytest.approx(base * size, rel=1e-5)


def test_vatp_keeps_twenty_sinks_unless_told_otherwise() -> None:
    """The published protection, and the window of the base."""
    assert (VATP().sinks, VATP().recent) == (20, H2O().recent)
    assert VATP(sinks=0).sinks == 0


# --- CAOTE


def test_caote_hand_vector_s12() -> None:
    """Probabilities [.5, .3, .2], v = (1,0), (0,1), (1,1): o = (.7, .5), c = [.58310, .36867, .14577]; any scale."""
    for scale in (1.0, 7.0):
        view = one_head([0.5 * scale, 0.3 * scale, 0.2 * scale], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        scores = CAOTE().score(view).flatten().tolist()
        assert scores == pytest.approx([0.58310, 0.36867, 0.14577], abs=1e-5)


def test_caote_is_the_move_of_the_output_s12() -> None:
    """Taking token 0 out and scaling the others up gives (.4, 1), .58310 away from (.7, .5)."""
    moved = math.dist(((0 * 0.3 + 1 * 0.2) / 0.5, (1 * 0.3 + 1 * 0.2) / 0.5), (0.7, 0.5))

    view = one_head([0.5, 0.3, 0.2], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert float(CAOTE().score(view)[0, 0, 0, 0]) == pytest.approx(moved, abs=1e-6)


def test_caote_of_a_token_at_the_output_is_zero_s12() -> None:
    """Nothing moves without a token whose value is the output."""
    view = one_head([0.25, 0.5, 0.25], [[1.0, 0.0], [2.0, 1.0], [3.0, 2.0]])

    assert float(CAOTE().score(view)[0, 0, 0, 1]) == pytest.approx(0.0, abs=1e-6)


def test_caote_fast_variant() -> None:
    """The mean of the held values stands for the output."""
    view = one_head([0.5, 0.3, 0.2], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    mean = (2 / 3, 2 / 3)
    expected = [
        a / (1 - a) * math.dist(mean, v) for a, v in zip((0.5, 0.3, 0.2), ((1, 0), (0, 1), (1, 1)), strict=True)
    ]

    assert CAOTE(centre="mean").score(view).flatten().tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("centre", ["output", "mean"])
def test_caote_keeps_a_token_with_all_the_attention(centre: str) -> None:
    """At a = 1 the formula is 0/0: the distance to the mean of the held values is taken."""
    view = one_head([3.0, 0.0, 0.0], [[1.0, 0.0], [0.0, 9.0], [5.0, 0.0]])
    scores = CAOTE(centre=centre).score(view).flatten()  # type: ignore[arg-type]

    assert scores.tolist() == pytest.approx([math.dist((1, 0), (2, 3)), 0.0, 0.0])


def test_caote_mean_is_over_held_tokens() -> None:
    """Free slots take no part in the fast variant either."""
    view = random_view(16, free=3.0)
    scores = CAOTE(centre="mean").score(view)

    for at in heads(view):
        slots = held(view, at)
        mass, values = view.accumulated[at][slots].tolist(), view.values[at][slots].tolist()
        mean = [sum(column) / len(slots) for column in zip(*values, strict=True)]
        expected = [m / sum(mass) / (1 - m / sum(mass)) * math.dist(mean, v) for m, v in zip(mass, values, strict=True)]
        assert scores[at][slots].tolist() == pytest.approx(expected, rel=1e-4)


def test_caote_without_any_mass_is_all_zero() -> None:
    """Nothing is known, so recency decides."""
    assert CAOTE().score(one_head([0.0, 0.0], [[1.0, 2.0], [3.0, 4.0]])).flatten().tolist() == [0.0, 0.0]


def moves(alpha: list[float], values: list[list[float]]) -> list[float]:
    """How far the output moves without each token, by doing just that."""
    n, dim = len(alpha), len(values[0])
    whole = [sum(alpha[i] * values[i][d] for i in range(n)) for d in range(dim)]
    out = []
    for gone in range(n):
        left = sum(alpha[i] for i in range(n) if i != gone)
        rest = [sum(alpha[i] * values[i][d] for i in range(n) if i != gone) / left for d in range(dim)]
        out.append(math.dist(whole, rest))
    return out


def check_caote(view: View, scores: Tensor, alphas: dict[tuple[int, int, int], list[list[float]]]) -> None:
    """Compare with the mean over a group's distributions of the moves."""
    for at in heads(view):
        slots = held(view, at)
        values = view.values[at][slots].double().tolist()
        per_head = [moves(alpha, values) for alpha in alphas[at]]
        expected = [sum(column) / len(per_head) for column in zip(*per_head, strict=True)]
        assert scores[at][slots].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_caote_of_base_scores_against_evicting() -> None:
    """The meta form: base scores over their sum."""
    view = random_view(2, free=3.0)
    alphas = {}
    for at in heads(view):
        mass = view.accumulated[at][held(view, at)].double().tolist()
        alphas[at] = [[m / sum(mass) for m in mass]]

    check_caote(view, CAOTE().score(view), alphas)


def test_caote_of_the_newest_attention_against_evicting() -> None:
    """Per query head, mean over the group."""
    view = random_view(3, free=3.0)
    alphas = {
        at: [view.last[at[0], at[1], at[2] * GROUP + g][held(view, at)].double().tolist() for g in range(GROUP)]
        for at in heads(view)
    }

    check_caote(view, CAOTE(scoring=TOVA(), probabilities="attention").score(view), alphas)


def naive_window(view: View, at: tuple[int, int, int], query_head: int) -> list[float]:
    """Causal attention of the last queries over the held tokens, each as many as its slot stands for; mean over queries."""
    slots = held(view, at)
    total = [0.0] * len(slots)
    for w in range(WINDOW):
        query = view.queries[at[0], at[1], query_head, w].double().tolist()
        exponents = [
            (1 if view.mass is None else int(view.mass[at][s]))
            * math.exp(sum(a * b for a, b in zip(query, view.keys[at][s].double().tolist(), strict=True)) / DIM**0.5)
            if int(view.positions[at][s]) <= 20 - WINDOW + w
            else 0.0
            for s in slots
        ]
        total = [t + e / sum(exponents) / WINDOW for t, e in zip(total, exponents, strict=True)]
    return total


@pytest.mark.parametrize("merged", [False, True], ids=["tokens", "merged"])
def test_caote_of_the_window_against_evicting(*, merged: bool) -> None:
    """Per query head, mean over the window's queries, no pooling; slots may stand for several tokens."""
    generator = torch.Generator().manual_seed(0)
    mass = torch.randint(1, 9, (LAYERS, ROWS, KV_HEADS, SLOTS), generator=generator) if merged else None
    view = random_view(4, free=3.0, mass=mass)
    alphas = {at: [naive_window(view, at, at[2] * GROUP + g) for g in range(GROUP)] for at in heads(view)}

    check_caote(view, CAOTE(scoring=SnapKV(recent=WINDOW), probabilities="attention").score(view), alphas)


def test_caote_refuses_attention_that_its_base_does_not_observe() -> None:
    """H2O holds sums over the group only."""
    with pytest.raises(DeclarationError, match="probabilities='attention' must"):
        CAOTE(probabilities="attention")


# --- CriticalKV


def naive_critical(
    base: list[float], norms: list[float], protected: list[bool], budget: int, alpha: float, epsilon: float
) -> list[int]:
    """Both stages as two loops: protected and the base's best up to floor(alpha b), then the best of the rest."""
    chosen = [i for i, kept_anyway in enumerate(protected) if kept_anyway]
    order = sorted((i for i in range(len(base)) if not protected[i]), key=lambda i: (-base[i], -i))
    while len(chosen) < math.floor(alpha * budget + 1e-9) and order:
        chosen.append(order.pop(0))
    order.sort(key=lambda i: (-(base[i] + epsilon) * norms[i], -i))
    while len(chosen) < budget and order:
        chosen.append(order.pop(0))
    return sorted(chosen)


def naive_norms(view: View, at: tuple[int, int, int]) -> list[float]:
    """Mean over the group of |v W|_1 for each slot."""
    out = []
    for slot in range(SLOTS):
        value = view.values[at][slot].double().tolist()
        total = 0.0
        for g in range(GROUP):
            weights = view.output_projection[at[0], at[2] * GROUP + g].double().tolist()  # [D][hidden]
            total += sum(abs(sum(value[d] * weights[d][c] for d in range(DIM))) for c in range(HIDDEN))
        out.append(total / GROUP)
    return out


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("protection", [{}, {"sinks": 3, "recent": 4}], ids=str)
def test_critical_kv_against_two_loops(alpha: float, protection: dict[str, int]) -> None:
    """Every head, protected tokens count among the first stage."""
    budget = 8
    view = random_view(5, free=50.0, target=budget, **protection)
    scoring = CriticalKV(scoring=H2O(recent=0), alpha=alpha, epsilon=0.05)
    scores = scoring.score(view)
    keep = TopK().select(view, scores, torch.full(view.counts.shape, budget).minimum(view.counts))

    for at in heads(view):
        slots = held(view, at)
        norms = naive_norms(view, at)
        expected = naive_critical(
            view.accumulated[at][slots].tolist(),
            [norms[s] for s in slots],
            view.protected[at][slots].tolist(),
            budget,
            alpha,
            0.05,
        )
        assert keep[at].nonzero()[:, 0].tolist() == [slots[i] for i in expected]


def test_critical_kv_share_of_the_free_places() -> None:
    """floor(alpha (b - protected)) places of the base besides the protected tokens, and only those that are held."""
    view = random_view(6, target=8, sinks=3, recent=4)
    places = CriticalKV(scoring=H2O(recent=0), alpha=0.5, share_of="free").first_places(view)

    for at in heads(view):
        protected = sum(view.protected[at].tolist())
        assert int(places[at]) == math.floor(0.5 * (8 - protected))


def test_critical_kv_takes_the_target_of_each_row() -> None:
    """Rows of one event may be cut to different sizes."""
    view = random_view(7, target=torch.tensor([4, 7, 10]))

    assert CriticalKV(scoring=H2O(recent=0)).first_places(view)[0, :, 0].tolist() == [2, 3, 5]


def test_critical_kv_with_alpha_one_is_the_base_s11() -> None:
    """Whatever the values, at every budget."""
    for budget in range(1, 8):
        view = random_view(8, target=budget)
        shares = torch.full(view.counts.shape, budget)
        base = TopK().select(view, view.accumulated, shares)
        assert torch.equal(TopK().select(view, CriticalKV(scoring=H2O(recent=0), alpha=1.0).score(view), shares), base)


def test_critical_kv_of_equal_norms_is_the_base_s11() -> None:
    """One value and one projection for all: the base's set."""
    base = [0.2, 0.5, 0.0, 0.1, 0.4]
    weights = torch.randn(1, 1, 2, 6, generator=torch.Generator().manual_seed(0))
    for budget in range(1, 5):
        view = one_head(base, [[1.0, 2.0]] * 5, output_projection=weights, target=budget)
        assert kept(view, CriticalKV(scoring=H2O(recent=0)).score(view), budget) == top(base, budget)


def test_critical_kv_epsilon_tells_unattended_tokens_apart_s11() -> None:
    """At base 0 the norm decides, if epsilon lets it."""
    view = one_head([0.0, 0.0, 0.0], [[3.0], [1.0], [2.0]], output_projection=torch.ones(1, 1, 1, 2), target=1)

    assert kept(view, CriticalKV(scoring=H2O(recent=0), alpha=0.0).score(view), 1) == [0]
    assert kept(view, CriticalKV(scoring=H2O(recent=0), alpha=0.0, epsilon=0.0).score(view), 1) == [2]


@pytest.mark.parametrize("scale", [0.0, 1e-25, 1.0, 1e20])
def test_critical_kv_stages_do_not_mix_at_any_scale(scale: float) -> None:
    """The first stage ranks above the second and in the base's order, however large or small the values are."""
    view = random_view(9, target=8)
    view.values.mul_(scale)
    scores = CriticalKV(scoring=H2O(recent=0)).score(view)

    assert bool(torch.isfinite(scores).all())
    for at in heads(view):
        slots = held(view, at)
        order = sorted(slots, key=lambda s: -float(view.accumulated[at][s]))
        first, rest = order[:4], order[4:]
        ranked = scores[at][first].tolist()
        assert ranked == sorted(ranked, reverse=True)
        assert len(set(ranked)) == 4
        assert ranked[-1] > max(scores[at][rest].tolist())


def test_critical_kv_is_formed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One query head at a time gives what all at once give."""
    view = random_view(10, target=6)
    whole = CriticalKV(scoring=H2O(recent=0)).score(view)
    monkeypatch.setattr("families.scoring.critical_kv._CHUNK", 1)

    assert torch.allclose(CriticalKV(scoring=H2O(recent=0)).score(view), whole, rtol=1e-6, atol=0)


def test_critical_kv_declares_the_output_projection() -> None:
    """And what its base needs."""
    assert CriticalKV().needs() == Needs(queries=8, output_projection=True, keys=True, values=True)


def test_critical_kv_lets_heads_compete_for_the_second_stage() -> None:
    """Under Ada-KV every head keeps its first stage, and the total is exact."""
    scoring = CriticalKV(scoring=H2O(recent=0))
    mechanism = Mechanism("x", scoring, AdaKV(), EveryK(), FullPrecision())
    view = random_view(11, target=6, comparable_scores=scoring.comparable)
    outcome = compress(mechanism, view)

    assert outcome.counts.sum(dim=(0, 2)).tolist() == [6 * LAYERS * KV_HEADS] * ROWS
    for at in heads(view):
        order = sorted(held(view, at), key=lambda s: -float(view.accumulated[at][s]))
        stays = set(outcome.order[at][: int(outcome.counts[at])].tolist())
        assert set(order[:3]) <= stays


# --- what all wrappers share


@pytest.mark.parametrize("kind", [*WEIGHTED, VariantB])
def test_free_slots_do_not_matter(kind: type[Scoring]) -> None:
    """What a free slot holds changes no held token's score."""
    scoring = kind(scoring=H2O())  # type: ignore[call-arg]
    clean, dirty = random_view(12, target=6), random_view(12, target=6, free=1e4)

    assert torch.equal(scoring.score(clean)[clean.valid], scoring.score(dirty)[dirty.valid])


@pytest.mark.parametrize("kind", [*WEIGHTED, VariantB])
def test_rows_do_not_depend_on_their_neighbours(kind: type[Scoring]) -> None:
    """A row alone gets the scores that it gets in a batch."""
    scoring = kind(scoring=SnapKV(recent=WINDOW))  # type: ignore[call-arg]
    whole = scoring.score(random_view(13, target=6, n_prompt_tokens=12))
    alone = scoring.score(random_view(13, rows=slice(1, 2), target=6, n_prompt_tokens=12))

    valid = random_view(13).valid[:, 1:2]
    assert torch.allclose(whole[:, 1:2][valid], alone[valid], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [*WEIGHTED, VariantB])
def test_protection_covers_the_base(kind: type[Scoring]) -> None:
    """0 takes over the base's window, more is more, less is refused: it may hold tokens that the base never scored."""
    base = SnapKV(recent=8, sinks=2)
    over = kind(scoring=base)  # type: ignore[call-arg]
    assert (over.sinks, over.recent) == (20 if kind is VATP else 2, 8)
    assert kind(scoring=base, recent=9).recent == 9  # type: ignore[call-arg]
    with pytest.raises(DeclarationError, match="recent must be 0 or at least the base's 8, got recent=7"):
        kind(scoring=base, recent=7)  # type: ignore[call-arg]
    with pytest.raises(DeclarationError, match="sinks must be 0 or at least the base's 2, got sinks=1"):
        kind(scoring=base, sinks=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [*WEIGHTED, VariantB])
def test_protection_covers_a_base_whose_window_is_a_share(kind: type[Scoring]) -> None:
    """Shares are compared with shares; with a number only where the base protects nothing."""
    half, most = WindowShare(0.5), WindowShare(0.75)
    assert kind(scoring=H2O(recent=half)).recent == half  # type: ignore[call-arg]
    assert kind(scoring=H2O(recent=half), recent=most).recent == most  # type: ignore[call-arg]
    assert kind(scoring=H2O(recent=0), recent=half).recent == half  # type: ignore[call-arg]
    for base, own in ((most, half), (half, 99), (8, most)):
        with pytest.raises(
            DeclarationError, match=r"^recent must be 0 or at least the base's (\{share: 0\.\d+\}|8), got"
        ):
            kind(scoring=H2O(recent=base), recent=own)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [*WEIGHTED, VariantB])
def test_the_selector_is_the_wrappers(kind: type[Scoring]) -> None:
    """A base's selector would have no effect."""
    assert kind(selector=MMR()).selector == MMR()
    with pytest.raises(DeclarationError, match="selector belongs to the outer scoring"):
        kind(scoring=H2O(selector=Diversity()))  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [*WEIGHTED, VariantB])
def test_a_base_must_rank(kind: type[Scoring]) -> None:
    """The whole cache has no scores."""
    with pytest.raises(DeclarationError, match="must rank tokens, got scoring='full'"):
        kind(scoring=Full())  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", WEIGHTED)
@pytest.mark.parametrize("base", [KeyDiff(), KNorm(), StreamingLLM(), Scissorhands()], ids=lambda base: base.kind)
def test_value_weights_need_attention(kind: type[Scoring], base: Scoring) -> None:
    """A product with a score that may be negative would turn the order around."""
    with pytest.raises(DeclarationError, match="must have attention-like scores"):
        kind(scoring=base)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", WEIGHTED)
def test_a_share_of_queries_may_be_weighted(kind: type[Scoring]) -> None:
    """A number of queries less a constant may not: it is nearly the same for all tokens."""
    assert kind(scoring=Scissorhands(normalise="rate")).recent == 10  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", WEIGHTED)
@pytest.mark.parametrize("base", [ExpectedAttention(), VATP(), CAOTE(), CriticalKV()], ids=lambda base: base.kind)
def test_values_are_weighed_once(kind: type[Scoring], base: Scoring) -> None:
    """Expected attention must leave its own norm out; wrappers of values do not stack."""
    with pytest.raises(DeclarationError, match="must not weigh values itself"):
        kind(scoring=base)  # type: ignore[call-arg]
    assert kind(scoring=ExpectedAttention(value_norm=False)).needs().queries == 64  # type: ignore[call-arg]


@dataclass(frozen=True)
class Lying(Scoring):
    """Says that its scores are attention, and gives negative ones."""

    kind: ClassVar[str] = "lying"
    comparable: ClassVar[bool] = True

    selector: Selector = field(default=TopK())

    def score(self, view: View) -> Tensor:
        """Return minus one."""
        return -torch.ones(view.positions.shape)


@pytest.mark.parametrize("kind", WEIGHTED)
def test_negative_scores_are_found_out(kind: type[Scoring]) -> None:
    """At run time, where a declaration was not true."""
    with pytest.raises(InvariantViolation, match="scoring 'lying' gave a negative one"):
        kind(scoring=Lying()).score(random_view(14, target=6))  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [*WEIGHTED, VariantB])
def test_identity_names_the_base(kind: type[Scoring]) -> None:
    """Two bases are two arms; so are two parameters of one base."""
    identities = [
        kind(scoring=base).identity()  # type: ignore[call-arg]
        for base in (H2O(), H2O(normalise="mean"), TOVA())
    ]

    assert [identity["scoring"]["kind"] for identity in identities] == ["h2o", "h2o", "tova"]
    assert all(a != b for i, a in enumerate(identities) for b in identities[:i])


@pytest.mark.parametrize("kind", [*WEIGHTED, VariantB])
def test_wrappers_run_through_an_event(kind: type[Scoring]) -> None:
    """Exact counts, the base's window kept."""
    scoring = kind(scoring=SnapKV(recent=WINDOW), selector=MMR(), sinks=1)  # type: ignore[call-arg]
    mechanism = Mechanism("x", scoring, Uniform(), EveryK(), FullPrecision())
    view = random_view(15, target=8, sinks=scoring.sinks, recent=scoring.recent, n_prompt_tokens=12)
    outcome = compress(mechanism, view)

    assert int(outcome.counts.sum()) == 8 * LAYERS * KV_HEADS * ROWS
    for at in heads(view):
        stays = set(outcome.order[at][: int(outcome.counts[at])].tolist())
        assert {s for s in held(view, at) if int(view.positions[at][s]) >= 20 - WINDOW} <= stays


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VATP(norm="l3"), "norm must be 'l1' or 'l2', got norm='l3'"),  # type: ignore[arg-type]
        (lambda: CAOTE(centre="origin"), "centre must be 'output' or 'mean', got centre='origin'"),  # type: ignore[arg-type]
        (lambda: CAOTE(probabilities="last"), "probabilities must be 'score' or 'attention', got"),  # type: ignore[arg-type]
        (lambda: CriticalKV(alpha=1.5), r"alpha must lie in \[0, 1\], got alpha=1.5"),
        (lambda: CriticalKV(epsilon=-1.0), "epsilon must be at least 0, got epsilon=-1.0"),
        (lambda: CriticalKV(share_of="all"), "share_of must be 'target' or 'free', got share_of='all'"),  # type: ignore[arg-type]
        (lambda: VariantB(lam=-0.5), "lam must be at least 0, got lam=-0.5"),
        (lambda: VariantB(over="text"), "over must be 'prompt' or 'all', got over='text'"),  # type: ignore[arg-type]
    ],
)
def test_bad_parameters_are_refused(make: Any, message: str) -> None:
    """One sentence each."""
    with pytest.raises(DeclarationError, match=message):
        make()
