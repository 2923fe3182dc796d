"""G-KV: the formulas spelled out in loops, and what is remembered from event to event in a running engine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from designspace.axes import Budget, Needs, Request, View
from designspace.cache.observers import Observers
from designspace.engine.engine import Engine
from designspace.errors import DeclarationError, InvariantViolation
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.registry import mechanism
from designspace.testing.views import view_of
from families.decoding.greedy import Greedy
from families.scoring.g_kv import GKV, GlobalScore
from families.scoring.key_similarity import row_similarity

WINDOW = 3


def random_event(scoring: GKV, n: int, seed: int) -> View:
    """An event over two layers, two rows and two KV heads in groups of two; some tokens have been scored before."""
    generator = torch.Generator().manual_seed(seed)
    (tracker,) = scoring.needs().trackers
    keys = torch.randn(2, 2, 2, n, 4, generator=generator)
    queries = torch.randn(2, 2, 4, WINDOW, 4, generator=generator)
    history = torch.rand(2, 2, 2, n, 1, generator=generator) * (torch.rand(2, 2, 2, n, 1, generator=generator) < 0.6)
    return view_of(keys, queries=queries, recent=WINDOW, tracked={tracker: history})


def slow_global(scoring: GKV, view: View, layer: int, row: int, head: int) -> list[float]:
    """The global scores of one head, token by token."""
    n = view.positions.shape[-1]
    keys, queries = view.keys[layer, row, head], view.queries[layer, row, 2 * head : 2 * head + 2]
    (history,) = (state[layer, row, head, :, 0].tolist() for state in view.observed.tracked.values())
    fresh = [0.0] * n
    for w in range(WINDOW):
        last = n - WINDOW + w
        rows = []
        for query in queries[:, w]:
            exponents = [math.exp(float(query @ keys[i]) / 2) for i in range(last + 1)]
            rows.append([x / sum(exponents) for x in exponents] + [0.0] * (n - 1 - last))
        for i in range(n - WINDOW):
            fresh[i] += max(one[i] for one in rows) / WINDOW
    if scoring.normalise == "max":
        fresh = [x / max(fresh) for x in fresh]
    found = []
    for i in range(n - WINDOW):
        old = history[i] if history[i] > 0 else (0.0 if scoring.smooth == "sum" else fresh[i])
        alpha = scoring.alpha
        found.append({
            "max": max(alpha * old, fresh[i]),
            "mean": alpha * old + (1 - alpha) * fresh[i],
            "sum": alpha * old + fresh[i],
        }[scoring.smooth])  # fmt: skip
    return found


def slow_rows(keys: Tensor, threshold: float) -> list[float]:
    """The row means of one head's cosines [N,D], entry by entry, before the softmax."""
    n = len(keys)
    unit = keys / keys.norm(dim=-1, keepdim=True)
    spent, sums = set(), [0.0] * n
    for stop in range(n, 0, -16):
        rows = range(max(stop - 16, 0), stop)
        for start in range(0, n, 64):
            newly = set()
            for i in rows:
                cosines = {j: float(unit[i] @ unit[j]) for j in range(start, min(start + 64, n)) if j != i}
                alike = [j for j, cosine in cosines.items() if cosine > threshold and j not in spent]
                if alike:
                    newly.add(alike[-1])
                    cosines[alike[-1]] = 0.0
                sums[i] += sum(cosines.values())
            spent |= newly
    return [x / n for x in sums]


@pytest.mark.parametrize("smooth", ["max", "mean", "sum"])
@pytest.mark.parametrize("normalise", ["max", "none"])
def test_global_scores(smooth: Any, normalise: Any) -> None:
    """Each head's scores are those of the formula, for tokens with and without a history; the window has none."""
    scoring = GKV(lam=1.0, alpha=0.7, smooth=smooth, normalise=normalise, recent=WINDOW)
    view = random_event(scoring, 11, seed=3)
    scores = scoring.score(view)

    for layer, row, head in torch.cartesian_prod(*[torch.arange(2)] * 3).tolist():
        found = scores[layer, row, head]
        assert found[:-WINDOW].tolist() == pytest.approx(slow_global(scoring, view, layer, row, head), rel=1e-5)
        assert found[-WINDOW:].tolist() == [0.0] * WINDOW


@pytest.mark.parametrize("n", [5, 16, 37, 150])
@pytest.mark.parametrize("threshold", [0.5, 0.0])
def test_row_similarity(n: int, threshold: float) -> None:
    """Blocks of 16 rows from the newest on and of 64 columns, also where they do not divide the number of tokens."""
    keys = torch.randn(1, 1, 2, n, 4, generator=torch.Generator().manual_seed(n))
    found = row_similarity(view_of(keys), threshold)

    for head in range(2):
        expected = torch.tensor(slow_rows(keys[0, 0, head], threshold)).softmax(dim=-1)
        torch.testing.assert_close(found[0, 0, head], expected, atol=1e-6, rtol=1e-5)


def test_the_mix() -> None:
    """The similarity is divided by its largest before the window, not by the window's."""
    scoring = GKV(lam=0.3, recent=WINDOW)
    view = random_event(scoring, 20, seed=5)
    alike = row_similarity(view, 0.5)[..., :-WINDOW]
    attended = GKV(lam=1.0, recent=WINDOW).score(view)[..., :-WINDOW]

    expected = 0.3 * attended - 0.7 * alike / alike.amax(dim=-1, keepdim=True)
    torch.testing.assert_close(scoring.score(view)[..., :-WINDOW], expected)


@dataclass(frozen=True)
class Written(GKV):
    """G-KV that writes down the events it scores."""

    book: list[View] = field(default_factory=list, compare=False, repr=False)

    def score(self, view: View) -> Tensor:
        """Write the event down and score it."""
        self.book.append(view)
        return super().score(view)


def by_token(view: View, numbers: Tensor, row: int) -> dict[tuple[int, ...], float]:
    """Numbers per slot [L,E,H,C] of a row, by layer, head and position."""
    held = view.positions[:, row]
    return {(*at[:2], int(held[tuple(at)])): float(numbers[:, row][tuple(at)]) for at in (held >= 0).nonzero().tolist()}


def test_what_an_event_finds_is_what_the_last_one_left() -> None:
    """In a running engine, refilled rows included: kept tokens keep their score, later ones and other texts have none."""
    loaded = load_model(ModelSpec.bundled("pocket-llama"))
    scoring = Written(recent=4)
    system = mechanism("g-kv").override("written", scoring=scoring, decoding=Greedy())
    engine = Engine(loaded, system, Budget(20), rows=2, max_new_tokens=40, max_prompt_tokens=30)
    prompts = [tuple(range(5, 5 + n)) for n in (28, 12, 25, 19)]
    list(engine.generate([Request(f"p{i}", ids, str(i).encode()) for i, ids in enumerate(prompts)]))

    tracker, left, n_compared = scoring._tracker, {}, 0
    for view in scoring.book:
        before, after = view.tracked(tracker)[..., 0], tracker.at_event(view)[..., 0]
        for row, stream in enumerate(view.streams.tolist()):
            found = by_token(view, before, row)
            assert found == {token: left.get(stream, {}).get(token, 0.0) for token in found}
            n_compared += sum(score > 0 for score in found.values())
        left |= {stream: by_token(view, after, row) for row, stream in enumerate(view.streams.tolist())}
    assert len(left) == 4 and n_compared > 100


def test_a_kernel_has_a_middle() -> None:
    """Even kernels are refused."""
    with pytest.raises(DeclarationError, match="kernel must be odd"):
        GKV(kernel=4)


def test_what_a_tracker_needs_is_declared() -> None:
    """A tracker that reads more queries than are kept is a programmer's mistake."""
    with pytest.raises(InvariantViolation, match="must keep the 8 queries"):
        Needs(queries=4, trackers=(GlobalScore(8, 0.8, "max", "max"),))


def test_no_attention_is_formed_for_what_waits_for_an_event() -> None:
    """It costs four bytes per slot and nothing per query."""
    needs = GKV().needs()
    geometry = random_event(GKV(recent=WINDOW), 4, seed=1).geometry
    observers = Observers(needs, geometry, 2, 8, torch.float32, torch.device("cpu"))
    counts = torch.tensor([[[3, 2], [0, 1]], [[1, 1], [4, 0]]])
    per_row = 2 * 4 * 8 * 4 * 4  # layers x query heads x window x head dimension x bytes

    assert not needs.weights
    assert observers.held_bytes(counts).tolist() == [4 * 7 + per_row, 4 * 5 + per_row]
