"""The kernels of an event against the plain path: the same bits, only faster."""

from __future__ import annotations

import pytest
import torch

from designspace.axes import Contents, Geometry, Needs, RunContext
from designspace.axes.ranking import packing_order
from designspace.cache.packing import CompressionResult
from designspace.cache.slots import SlotCache
from designspace.kernels import build
from families.representation.full import FullPrecision
from families.scoring.selectors.diversity import Penalised
from families.scoring.selectors.greedy_loop import mask_of, pick
from tests.designspace.kernels import HAS_COMPILER
from tests.designspace.kernels.greedy_case import greedy_case

needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler on this machine")


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_compaction_in_place_equals_gather_and_load(dtype: torch.dtype) -> None:
    """Some rows of a cache, ragged heads, a chunk padded with copies of its first row."""
    caches = []
    for in_place in (True, False):
        geometry = Geometry(2, 4, 2, 16, inv_freq=torch.ones(8))
        cache = SlotCache(
            geometry, FullPrecision(), Needs(accumulated=True),
            rows=5, capacity=23, dtype=dtype, device=torch.device("cpu"), width=64,
        )  # fmt: skip
        assert cache.move_in_place is not None
        if not in_place:
            cache.move_in_place = None
        random = torch.Generator().manual_seed(0)
        for tensor in (cache.store.keys, cache.store.values, cache.observers.accumulated):
            tensor.copy_(torch.randn(tensor.shape, generator=random))
        counts = torch.randint(5, 24, cache.counts.shape, generator=random)
        cache.counts.copy_(counts)
        cache.positions.copy_(
            torch.arange(23).expand(cache.positions.shape).masked_fill(torch.arange(23) >= counts[..., None], -1)
        )
        rows = torch.tensor([4, 1, 3, 4])
        view = cache.view(rows, RunContext(geometry, 64), torch.full((4,), 4))
        keep = (torch.rand(view.positions.shape, generator=random) < 0.5) & view.valid
        keep[:, 3] = keep[:, 0]
        cache.compact(rows, 3, view, CompressionResult(packing_order(keep), keep.sum(dim=-1)))
        caches.append(cache)

    filled = torch.arange(23) < caches[0].counts[..., None]
    for name in ("positions", "counts"):
        assert torch.equal(getattr(caches[0], name), getattr(caches[1], name))
    for name in ("keys", "values"):
        assert torch.equal(getattr(caches[0].store, name)[filled], getattr(caches[1].store, name)[filled])
    assert torch.equal(caches[0].observers.accumulated[filled], caches[1].observers.accumulated[filled])


def filled_cache(needs: Needs, *, in_place: bool = True) -> SlotCache:
    """Return a cache of random numbers in which every head of four rows holds nine tokens."""
    geometry = Geometry(2, 4, 2, 16, inv_freq=torch.ones(8))
    cache = SlotCache(
        geometry, FullPrecision(), needs,
        rows=4, capacity=11, dtype=torch.bfloat16, device=torch.device("cpu"), width=64,
    )  # fmt: skip
    random = torch.Generator().manual_seed(0)
    for tensor in (cache.store.keys, cache.store.values):
        tensor.copy_(torch.randn(tensor.shape, generator=random))
    cache.counts.fill_(9)
    cache.positions.copy_(torch.where(torch.arange(11) < 9, torch.arange(11), -1).expand(cache.positions.shape))
    if not in_place:
        cache.move_in_place = None
    return cache


@needs_compiler
@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize("values", [False, True])
def test_an_event_fetches_what_is_declared(keys: bool, values: bool) -> None:
    """Nothing else is copied where slots are moved in place; where they are loaded anew, both are needed."""
    needs, rows = Needs(keys=keys, values=values), torch.tensor([2, 0])
    cache, anew = filled_cache(needs), filled_cache(needs, in_place=False)
    shown, whole = (c.view(rows, RunContext(c.geometry, 64), torch.full((2,), 4)) for c in (cache, anew))

    assert (shown.contents.keys is not None, shown.contents.values is not None) == (keys, values)
    assert not keys or torch.equal(shown.keys, cache.store.keys[:, rows])
    assert not values or torch.equal(shown.values, cache.store.values[:, rows])
    assert torch.equal(whole.keys, anew.store.keys[:, rows]) and torch.equal(whole.values, anew.store.values[:, rows])


@needs_compiler
@pytest.mark.parametrize("changed", ["keys", "values"])
@pytest.mark.parametrize("in_place", [True, False])
def test_what_a_merge_leaves_alone_stays(changed: str, in_place: bool) -> None:
    """Also where nobody had declared it, so that it was not at hand."""
    cache, rows = filled_cache(Needs(), in_place=in_place), torch.tensor([2, 0])
    before = {name: getattr(cache.store, name).clone() for name in ("keys", "values")}
    view = cache.view(rows, RunContext(cache.geometry, 64), torch.full((2,), 4))
    keep = view.valid & (view.positions % 2 == 1)
    new = torch.ones(2, 2, 2, 11, 16, dtype=torch.bfloat16)
    merged = CompressionResult(packing_order(keep), keep.sum(dim=-1), Contents(**{changed: new}))
    cache.compact(rows, 2, view, merged)

    for name, old in before.items():
        after = getattr(cache.store, name)
        kept = torch.ones_like(old[:, rows, :, 1:9:2]) if name == changed else old[:, rows, :, 1:9:2]
        assert torch.equal(after[:, rows, :, :4], kept)
        assert torch.equal(after[:, [1, 3]], old[:, [1, 3]])


@needs_compiler
@pytest.mark.parametrize("n_slots", [1, 40, 70])
@pytest.mark.parametrize("floor", [True, False])
@pytest.mark.parametrize("seeded", [True, False])
def test_greedy_kernel_picks_what_the_loop_picks(
    n_slots: int, floor: bool, seeded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal masks, on one thread and on three, and no more than the candidates where a head is asked for more."""
    features, scores, candidates, seeds, n_picks = greedy_case(n_slots, seeded=seeded)

    def objective() -> Penalised:
        return Penalised(features, scores, seeds, 1.5, floor=floor)

    expected = mask_of(pick(objective(), candidates, n_picks), n_slots)
    for n_threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        chosen, all_of_them = (objective().chosen(candidates, n) for n in (n_picks, n_picks + n_slots))
        assert chosen is not None
        assert all_of_them is not None
        assert torch.equal(chosen, expected)
        assert torch.equal(all_of_them, candidates)


def test_kernels_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them, and without a compiler, the plain path runs."""
    monkeypatch.setenv("DESIGNSPACE_KERNELS", "0")
    assert build.load_library.__wrapped__("compact_slots") is None
    monkeypatch.delenv("DESIGNSPACE_KERNELS")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert build.load_library.__wrapped__("compact_slots") is None


def test_packing_order_is_a_stable_sort() -> None:
    """Kept slots first, both parts in slot order."""
    keep = torch.rand(3, 2, 4, 33, generator=torch.Generator().manual_seed(1)) < 0.4
    assert torch.equal(packing_order(keep), torch.argsort((~keep).to(torch.uint8), dim=-1, stable=True))
