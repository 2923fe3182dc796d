"""SkipKV: the penalty spelled out sentence by sentence, and the composition with R-KV's score."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from designspace.axes import View
from designspace.testing.views import view_of
from families.scoring.r_kv import RKV
from families.scoring.skip_kv import RELEASED_ENDS, SkipKV, repeated

WINDOW = 3
N = 60


def telling(view: View, ends: Tensor, sums: Tensor) -> View:
    """Return an event whose texts have these sentences; ends: [E,S], sums: [E,S,hidden]."""
    return replace(view, observed=replace(view.observed, sentence_ends=ends, sentence_sums=sums))


def random_event(seed: int, n_layers: int = 2, n_rows: int = 3) -> View:
    """An event whose heads hold some of N positions, and rows with as many sentences as they happen to have."""
    random = torch.Generator().manual_seed(seed)
    heads = (n_layers, n_rows, 2)
    order = torch.rand(*heads, N - WINDOW, generator=random).argsort(dim=-1)[..., : N // 3]
    window = torch.arange(N - WINDOW, N).expand(*heads, WINDOW)
    positions = torch.cat([order.sort(dim=-1).values, window], dim=-1)
    ends = torch.full((n_rows, 40), -1)
    for row in range(n_rows):
        at = (torch.rand(N, generator=random) < 0.1 + 0.2 * row).nonzero().flatten()
        ends[row, : len(at)] = at
    directions = torch.randn(4, 12, generator=random)
    sums = directions[torch.randint(4, ends.shape, generator=random)]
    sums = (sums + 0.2 * torch.randn(sums.shape, generator=random)) * torch.rand(*ends.shape, 1, generator=random)
    keys = torch.randn(*positions.shape, 4, generator=random)
    queries = torch.randn(n_layers, n_rows, 4, WINDOW, 4, generator=random)
    return telling(view_of(keys, positions=positions, queries=queries, recent=WINDOW, next_position=N), ends, sums)


def cosine(a: Tensor, b: Tensor) -> float:
    """The cosine of two vectors, number by number."""
    x, y = a.tolist(), b.tolist()
    return math.fsum(i * j for i, j in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y)


def slow_penalty(view: View, alike: float, layer: int, row: int, head: int) -> dict[int, float]:
    """The penalty of every held position of one head: each pair of sentences in the order in which the release meets them."""
    assert view.observed.sentence_ends is not None and view.observed.sentence_sums is not None
    ends = [end for end in view.observed.sentence_ends[row].tolist() if end >= 0]
    spans = list(zip([0, *(end + 1 for end in ends)], ends, strict=False))
    told: dict[tuple[int, int], float] = {}
    for earlier in range(len(spans)):
        for later in range(earlier + 1, len(spans)):
            similarity = cosine(view.observed.sentence_sums[row, earlier], view.observed.sentence_sums[row, later])
            if similarity > alike:
                told[spans[earlier]] = similarity
    held = view.positions[layer, row, head].tolist()
    penalty = dict.fromkeys(held, 0.0)
    for (first, last), similarity in told.items():
        mine = [place for place in held if first <= place <= last]
        if len(mine) > 1:
            penalty |= dict.fromkeys(mine, similarity)
    return penalty


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alike", [0.5, 0.95])
def test_every_sentence_by_hand(seed: int, alike: float) -> None:
    """In every layer, row and head; the window has no scores, and without a penalty R-KV's are left."""
    view, scoring = random_event(seed), SkipKV(alike=alike, recent=WINDOW)
    found, plain = scoring.score(view), RKV(recent=WINDOW).score(view)
    n_penalised = 0
    for layer, row, head in torch.cartesian_prod(*map(torch.arange, view.counts.shape)).tolist():
        wanted = slow_penalty(view, alike, layer, row, head)
        for slot, place in enumerate(view.positions[layer, row, head].tolist()):
            penalty = wanted[place] if place < N - WINDOW else 0.0
            expected = float(plain[layer, row, head, slot]) - penalty
            assert float(found[layer, row, head, slot]) == pytest.approx(expected, abs=2e-6)
            n_penalised += penalty > 0
    assert n_penalised > 20


def test_the_last_pair_counts() -> None:
    """Not the most similar one; and the last of a chain repeats nothing."""
    turned = [0.0, 10.0, 25.0, 24.0]
    states = torch.tensor([[math.cos(math.radians(x)), math.sin(math.radians(x))] for x in turned])
    wanted = [math.cos(math.radians(x)) for x in (24.0, 14.0, 1.0)]
    assert repeated(states, 0.9).tolist() == pytest.approx([*wanted, 0.0])
    assert repeated(states, 0.92).tolist() == pytest.approx([math.cos(math.radians(10.0)), *wanted[1:], 0.0])


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_sentences_to_repeat_one(n: int) -> None:
    """None, or one: nothing is penalised, also in a row beside others."""
    assert repeated(torch.ones(n, 3), 0.5).tolist() == [0.0] * n
    view = random_event(0)
    assert view.observed.sentence_ends is not None
    view.observed.sentence_ends[1, n:] = -1
    assert not SkipKV(alike=0.0, recent=WINDOW).penalty(view)[:, 1].any()


def test_a_sentence_of_which_a_head_holds_one_token_is_not_penalised() -> None:
    """Two heads hold the same sentence, one of them a single token of it, which then scores as in R-KV."""
    positions = torch.tensor([[0, 1, 4, 5, 8, 9], [1, 3, 4, 5, 8, 9]]).view(1, 1, 2, 6)
    view = view_of(
        torch.randn(1, 1, 2, 6, 4, generator=torch.Generator().manual_seed(0)), positions=positions, recent=2
    )
    # The sentences are 0-2, 3-6 and 7; the last one has a single token and repeats both.
    view = telling(view, torch.tensor([[2, 6, 7, -1]]), torch.ones(1, 4, 3))
    assert SkipKV(recent=2).penalty(view)[0, 0].tolist() == [
        pytest.approx([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
        pytest.approx([0.0, 1.0, 1.0, 1.0, 0.0, 0.0]),
    ]


def test_released_defaults() -> None:
    """The released script's, whose texts all end in a line feed."""
    scoring = SkipKV()
    assert (scoring.lam, scoring.alike, scoring.threshold, scoring.kernel, scoring.recent) == (0.1, 0.95, 0.5, 7, 8)
    assert len(RELEASED_ENDS) == 7
    assert all(text.endswith("\n") for text in RELEASED_ENDS)
