"""RocketKV's second stage: the ranking against a slow transcription, what is read, and full attention where all fits."""

from __future__ import annotations

from math import exp, sqrt

import pytest
import torch

from designspace.axes import Budget
from designspace.registry import mechanism
from designspace.testing.conformance import check_mechanism
from families.representation.quest import Quest
from families.representation.rocket import Rocket, RocketStore
from families.scoring.snapkv import SnapKV
from tests.conftest import toy_model
from tests.families.representation.test_quest import CAPACITY, DIM, GROUP, HEADS, LAYERS, ROWS, filled


def slow_ranking(form: Rocket, keys: torch.Tensor, n: int, queries: torch.Tensor) -> list[float]:
    """The mean probability of each page's tokens, for the queries [G,D] of one head with n of its keys [C,D] filled."""
    pages = [list(range(start, min(start + form.page, n))) for start in range(0, n, form.page)]
    mean_size = [sum(abs(float(q[d])) for q in queries) / len(queries) for d in range(DIM)]
    used = sorted(range(DIM), key=lambda d: -mean_size[d])[: form.channels]
    total = [0.0] * len(pages)
    for q in queries:
        scale = sqrt(DIM * sum(abs(float(q[d])) for d in used) / sum(abs(float(x)) for x in q))
        logits = []
        for page in pages:
            logit = 0.0
            for d in used:
                upward = sum(float(other[d]) for other in queries) > 0
                logit += float(q[d]) * (max if upward else min)(float(keys[i, d]) for i in page)
            logits.append(logit / scale)
        norm = sum(exp(logit) * len(page) for logit, page in zip(logits, pages, strict=True))
        total = [t + exp(logit) / norm / len(queries) for t, logit in zip(total, logits, strict=True)]
    return total


FORMS = [
    Rocket(page=4, attended=8, channels=2),
    Rocket(page=3, attended=8, channels=1),
    Rocket(page=2, attended=6),
    Rocket(page=5, attended=3, channels=3),
]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_visible_equals_the_slow_reference(form: Rocket, seed: int) -> None:
    """Ragged heads, groups that read alike, partly filled pages, and the last page always."""
    cache = filled(form, seed=seed)  # type: ignore[arg-type]
    query = torch.randn(ROWS, HEADS * GROUP, DIM, generator=torch.Generator().manual_seed(seed + 9))
    n_hidden = 0
    for layer in range(LAYERS):
        visible = cache.visible(layer, query)
        assert visible is not None
        keys, _, positions = cache.read(layer)
        for row in range(ROWS):
            for head in range(HEADS):
                n = int((positions[row, head] >= 0).sum())
                seen = {i for i in range(CAPACITY) if bool(visible[row, head, 0, i]) and i < n}
                assert bool((visible[row, head] == visible[row, head, :1]).all())
                if n <= form.attended:
                    assert seen == set(range(n))
                    continue
                ranking = slow_ranking(form, keys[row, head], n, query[row, head * GROUP : (head + 1) * GROUP])
                last = (n - 1) // form.page
                others = sorted(range(last), key=lambda p: -ranking[p])
                best = [last, *others[: max(form.attended // form.page, 1) - 1]]
                assert seen == {i for p in best for i in range(p * form.page, min((p + 1) * form.page, n))}
                n_hidden += n - len(seen)
    assert n_hidden > 0, "everything was read: nothing is proved"


def test_the_bytes_read_are_those_of_the_pages_and_of_the_channels() -> None:
    """Two vectors per token read, one bound of as many channels per page; held is what Quest holds."""
    form = Rocket(page=4, attended=8, channels=3)
    cache = filled(form)  # type: ignore[arg-type]
    store = cache.store
    assert isinstance(store, RocketStore)
    query = torch.randn(ROWS, HEADS * GROUP, DIM, generator=torch.Generator().manual_seed(1))
    seen = [cache.visible(layer, query) for layer in range(LAYERS)]
    expected = torch.zeros(ROWS, dtype=torch.int64)
    for layer, visible in enumerate(seen):
        assert visible is not None
        filled_slots = torch.arange(CAPACITY) < cache.counts[layer][..., None]
        expected += (visible[:, :, 0] & filled_slots).sum(dim=(1, 2)) * 2 * DIM * 4
        expected += (-(-cache.counts[layer].long() // 4)).sum(dim=1) * 3 * 4
    assert torch.equal(cache.read_bytes(cache.counts), expected)
    twin = filled(Quest(page=4, attended=8, dense_layers=0, least_pages=1))
    assert torch.equal(cache.held_bytes(cache.counts), twin.held_bytes(twin.counts))


def test_with_all_channels_of_one_query_pages_rank_as_in_quest() -> None:
    """Where a group has one query head, the estimate is Quest's bound, scaled."""
    generator = torch.Generator().manual_seed(5)
    for _ in range(20):
        keys, query = torch.randn(12, DIM, generator=generator), torch.randn(1, DIM, generator=generator)
        form = Rocket(page=4, attended=4)
        ranking = slow_ranking(form, keys, 12, query)
        bounds = [
            sum(max(float(query[0, d] * keys[i, d]) for i in range(p, p + 4)) for d in range(DIM)) for p in (0, 4, 8)
        ]
        assert sorted(range(3), key=lambda p: ranking[p]) == sorted(range(3), key=lambda p: bounds[p])


def test_the_system_cuts_the_prompt_and_reads_less_than_it_holds() -> None:
    """Ledger and batch invariance, with the released settings made small; the settings of the release."""
    system = mechanism("rocket-kv")
    assert isinstance(system.scoring, SnapKV)
    assert (system.scoring.recent, system.scoring.kernel, system.representation) == (32, 63, Rocket())
    small = system.override(
        "small", scoring=SnapKV(recent=4, kernel=7), representation=Rocket(page=2, attended=8, channels=4)
    )
    check_mechanism(small, toy_model(), Budget(24, "nominal"), n_new_tokens=20)
