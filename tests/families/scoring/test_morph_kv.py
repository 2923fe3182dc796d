"""MorphKV against a slow transcription of the formula, one head and one query at a time."""

from __future__ import annotations

from dataclasses import replace
from math import exp, sqrt

import pytest
import torch

from designspace.axes import Budget, View
from designspace.engine.compress import compress
from designspace.registry import mechanism
from designspace.testing.conformance import check_mechanism
from designspace.testing.views import view_of
from families.scoring.morph_kv import MorphKV
from tests.conftest import toy_model


def case(n_slots: int = 14, window: int = 4) -> View:
    """Two layers, two rows, two KV heads of two query heads each."""
    generator = torch.Generator().manual_seed(4)
    keys = torch.randn(2, 2, 2, n_slots, 6, generator=generator)
    queries = torch.randn(2, 2, 4, window, 6, generator=generator)
    return view_of(keys, queries=queries, recent=window, target=9)


def slow(view: View, layer: int, row: int, head: int, fuse: str) -> list[float]:
    """The fused attention over the tokens before the window, by loops over plain numbers."""
    window, dim = view.queries.shape[3], view.keys.shape[-1]
    keys = view.keys[layer, row, head].tolist()
    past = len(keys) - window
    rows = []
    for w in range(window):
        logits = [0.0] * past
        for member in range(2):
            query = view.queries[layer, row, 2 * head + member, w].tolist()
            for i in range(past):
                logits[i] += sum(a * b for a, b in zip(query, keys[i], strict=True)) / sqrt(dim)
        total = sum(map(exp, logits))
        rows.append([exp(x) / total for x in logits])
    together = zip(*rows, strict=True)
    return [sum(column) if fuse == "sum" else max(column) for column in together]


@pytest.mark.parametrize("fuse", ["sum", "max"])
def test_the_scores_are_those_of_the_formula(fuse: str) -> None:
    """Logits of a group added, a softmax over the past alone for each query, then the sum or the maximum."""
    view = case()
    scores = MorphKV(fuse=fuse, recent=4).score(view)  # type: ignore[arg-type]
    for layer in range(2):
        for row in range(2):
            for head in range(2):
                expected = slow(view, layer, row, head, fuse)
                assert scores[layer, row, head, :10].tolist() == pytest.approx(expected, abs=1e-6)
    assert bool((scores[..., 10:] == 0).all())


def test_the_window_and_the_best_before_it_are_kept() -> None:
    """As many as the event leaves; the sum and the maximum choose differently here."""
    view, chosen = case(), {}
    for fuse in ("sum", "max"):
        arm = mechanism("morph-kv").override("m", scoring=MorphKV(fuse=fuse, recent=4))  # type: ignore[arg-type]
        kept = compress(arm, view)
        for layer in range(2):
            expected = slow(view, layer, 0, 1, fuse)
            best = sorted(range(10), key=lambda i: -expected[i])[:5]
            assert kept.order[layer, 0, 1, :9].tolist() == [*sorted(best), 10, 11, 12, 13]
        chosen[fuse] = kept.order[..., :9].tolist()
    assert chosen["sum"] != chosen["max"]


def test_what_a_slot_stands_for_counts_once() -> None:
    """A mass of three is three equal tokens, whatever the size of the group."""
    view = case()
    mass = torch.ones_like(view.positions)
    mass[..., 2] = 3
    weighed = MorphKV(recent=4).score(replace(view, mass=mass))
    plain = MorphKV(recent=4).score(view)
    for w in (0, 5):
        ratio = weighed[..., 2] / weighed[..., w]
        assert torch.all(ratio > plain[..., 2] / plain[..., w])


def test_the_system_runs_with_a_constant_cache() -> None:
    """Ledger, batch invariance, protection."""
    check_mechanism(mechanism("morph-kv"), toy_model(), Budget(48), n_new_tokens=30)
