"""SCOPE's two rankings against a slow reference of the released decode step, and its system at a divided budget."""

from __future__ import annotations

import torch

from designspace.axes import Budget
from designspace.registry import mechanism
from designspace.testing.conformance import check_mechanism
from designspace.testing.views import view_of
from families.scoring.scope import Scope
from tests.conftest import toy_model


def test_the_scores_are_attention_per_query() -> None:
    """Of the prompt by all queries, of the trace by the newest; groups of two query heads."""
    torch.manual_seed(0)
    n, n_prompt = 9, 5
    last = torch.rand(1, 1, 4, n)
    accumulated = torch.rand(1, 1, 2, n) * 7
    view = view_of(
        torch.randn(1, 1, 2, n, 4), last=last, accumulated=accumulated, n_prompt_tokens=n_prompt, next_position=12
    )
    scores = Scope().score(view)
    for head in range(2):
        for slot in range(n):
            newest = float(last[0, 0, 2 * head, slot] + last[0, 0, 2 * head + 1, slot]) / 2
            expected = float(accumulated[0, 0, head, slot]) / 12 if slot < n_prompt else newest
            assert abs(float(scores[0, 0, head, slot]) - expected) < 1e-6


def test_the_trace_is_cut_as_released() -> None:
    """One decode step of `slide`: the newest of the trace, the best of the others by the newest query, the prompt alone."""
    from designspace.engine.compress import compress

    torch.manual_seed(1)
    n_prompt, trace, recent = 6, 8, 3
    n = n_prompt + trace + 1
    queries, keys = torch.randn(2, 8), torch.randn(2, n, 8)
    weights = torch.softmax((queries[:, None] * keys).sum(-1) / 8**0.5, dim=-1)  # [H,n]
    view = view_of(
        keys[None, None], last=weights[None, None], accumulated=torch.zeros(1, 1, 2, n), n_prompt_tokens=n_prompt,
        target=n - 1, recent=recent,
    )  # fmt: skip
    view.context = type(view.context)(**{**vars(view.context), "prompt_slots": n_prompt, "smallest_size": n - 1})
    kept = compress(mechanism("scope").override("s", scoring=Scope(recent=recent)), view)
    for head in range(2):
        ranked = sorted(range(n_prompt, n - recent), key=lambda i: -float(weights[head, i]))[: trace - recent]
        expected = [*range(n_prompt), *sorted(ranked), *range(n - recent, n)]
        assert kept.order[0, 0, head, : n - 1].tolist() == expected


def test_the_system_at_a_divided_budget() -> None:
    """Ledger, batch invariance and protection."""
    check_mechanism(mechanism("scope"), toy_model(), Budget(48, prompt=20), n_new_tokens=60)
