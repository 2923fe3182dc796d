"""RPC: the formula in loops, and heads that hold different tokens."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from designspace.axes import View
from designspace.testing.views import view_of
from families.scoring.rpc import RPC


def event(scoring: RPC, positions: torch.Tensor, *, protect: bool, seed: int = 0) -> View:
    """An event of one layer and row over two KV heads in groups of two; positions: [2,N], the prompt has 4 tokens."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randn(1, 1, 2, positions.shape[-1], 4, generator=generator)
    queries = torch.randn(1, 1, 4, scoring.needs().queries, 4, generator=generator)
    view = view_of(keys, queries=queries, positions=positions[None, None], recent=scoring.recent, n_prompt_tokens=4)
    return replace(view, context=replace(view.context, protects_prompt=protect))


def slow(scoring: RPC, view: View, *, protect: bool) -> list[dict[int, float]]:
    """The scores of each KV head by position, from the formula."""
    queries, keys, last = view.queries[0, 0], view.keys[0, 0], int(view.next_position[0]) - scoring.recent
    candidates = [
        {int(p): slot for slot, p in enumerate(view.positions[0, 0, head]) if (4 if protect else 0) <= p < last}
        for head in range(2)
    ]
    given: list[dict[int, float]] = []  # by query head
    for head in range(4):
        total = dict.fromkeys(candidates[head // 2], 0.0)
        times = [1.0] * (queries.shape[1] - 1) + [2.0 if scoring.newest == "twice" and scoring.recent > 1 else 1.0]
        for query, weight in zip(queries[head], times, strict=True):
            exponents = {
                p: math.exp(float(query @ keys[head // 2, slot]) / 2) for p, slot in candidates[head // 2].items()
            }
            for p, x in exponents.items():
                total[p] += weight * x / sum(exponents.values())
        given.append(total)
    found = []
    for head in range(2):
        reduced = {}
        for p in candidates[head]:
            holders = [given[q][p] for q in range(4) if p in given[q] and (scoring.heads == "all" or q // 2 == head)]
            reduced[p] = sum(holders) / len(holders) if scoring.reduce == "mean" else max(holders)
        order, half = sorted(reduced), scoring.kernel // 2
        pooled = {}
        for i, p in enumerate(order):
            near = [reduced[q] for q in order[max(i - half, 0) : i + half + 1]]
            pooled[p] = sum(near) / scoring.kernel if scoring.pool == "avg" else max(near)
        found.append(pooled)
    return found


SAME = torch.arange(20).expand(2, -1)
RAGGED = torch.stack(
    [torch.arange(24)[torch.arange(24) % 3 > 0], torch.cat([torch.arange(1, 14), torch.arange(21, 24)])]
)


@pytest.mark.parametrize("protect", [True, False])
@pytest.mark.parametrize("positions", [SAME, RAGGED], ids=["same tokens", "other tokens"])
@pytest.mark.parametrize(
    "options",
    [{}, {"newest": "once"}, {"heads": "group"}, {"reduce": "amax", "pool": "max"}, {"recent": 1}, {"kernel": 1}],
    ids=str,
)
def test_scores(options: dict[str, Any], positions: torch.Tensor, protect: bool) -> None:
    """Every head's scores by position."""
    scoring = RPC(**{"recent": 5, "kernel": 3, **options})
    view = event(scoring, positions, protect=protect)
    scores = scoring.score(view)[0, 0]

    for head, expected in enumerate(slow(scoring, view, protect=protect)):
        found = {int(p): float(score) for p, score in zip(positions[head], scores[head], strict=True)}
        assert {p: found[p] for p in expected} == pytest.approx(expected, abs=1e-6)
        assert all(found[p] == 0 for p in found.keys() - expected.keys())
