"""The fused decode attention against the plain path, slot for slot."""

from __future__ import annotations

import pytest
import torch

from designspace.axes import Geometry, Needs
from designspace.cache.attention import DecodePass
from designspace.cache.layer_call import LayerCall
from designspace.cache.slots import SlotCache
from families.representation.full import FullPrecision
from families.representation.nearest_merge import CountedMerge
from tests.designspace.kernels import HAS_COMPILER

ROWS, HEADS, CAPACITY, LAYERS = 5, 2, 41, 2

pytestmark = pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler on this machine")


def filled_cache(
    dim: int, group: int, needs: Needs, *, merges: bool = False, fused: bool, dtype: torch.dtype = torch.float32
) -> SlotCache:
    """Return a cache whose heads hold different numbers of tokens; row 3 is inactive and empty."""
    geometry = Geometry(LAYERS, HEADS * group, HEADS, dim, inv_freq=torch.ones(dim // 2))
    cache = SlotCache(
        geometry, CountedMerge() if merges else FullPrecision(), needs,
        rows=ROWS, capacity=CAPACITY, dtype=dtype, device=torch.device("cpu"), width=200,
    )  # fmt: skip
    assert (cache.fused is not None) and (fused or not setattr(cache, "fused", None))
    random = torch.Generator().manual_seed(dim + group)
    cache.store.keys.copy_(torch.randn(cache.store.keys.shape, generator=random))
    cache.store.values.copy_(torch.randn(cache.store.values.shape, generator=random))
    counts = torch.randint(1, CAPACITY - 1, (LAYERS, ROWS, HEADS), generator=random)
    counts[:, 3] = 0
    counts[0, 0, 0], counts[0, 1, 0] = CAPACITY - 1, 16  # the last slot, and a whole vector of slots
    cache.counts.copy_(counts)
    ages = torch.rand(cache.positions.shape, generator=random).argsort(dim=-1).sort(dim=-1).values * 2
    cache.positions.copy_(ages.masked_fill(torch.arange(CAPACITY) >= counts[..., None], -1))
    cache.active[:] = torch.tensor([True, True, True, False, True])
    cache.next_position[:] = torch.tensor([100, 101, 90, 0, 83])
    if cache.mass is not None:
        cache.mass.copy_(torch.randint(1, 5, cache.mass.shape, generator=random))
    return cache


@pytest.mark.parametrize("dim", [16, 32, 40, 64, 96, 128, 256])
@pytest.mark.parametrize("group", [1, 2, 5])
@pytest.mark.parametrize(
    ("needs", "window", "merges"),
    [
        (Needs(), None, False),
        (Needs(last=True, accumulated=True), None, False),
        (Needs(), 30, False),
        (Needs(), None, True),
    ],
    ids=["plain", "weights", "window", "mass"],
)
def test_equals_the_plain_path(dim: int, group: int, needs: Needs, window: int | None, merges: bool) -> None:
    """Outputs and attention weights agree to 1e-5; what is written is equal to the bit. Two steps, so that it is read back."""
    outputs, caches = [], []
    for fused in (True, False):
        cache = filled_cache(dim, group, needs, merges=merges, fused=fused)
        random, found = torch.Generator().manual_seed(1), []
        for layer in (0, 1, 0):
            if layer == 0 and found:
                cache.counts.clamp_(max=CAPACITY - 1)
                cache.end_step()
            # A transposed view, as the model hands them over.
            query = torch.randn(ROWS, 1, HEADS * group, dim, generator=random).transpose(1, 2)
            key, value = (torch.randn(ROWS, 1, HEADS, dim, generator=random).transpose(1, 2) for _ in range(2))
            found.append(DecodePass(cache).attend(LayerCall(layer, dim**-0.5, window), query, key, value))
        outputs.append(torch.stack(found))
        caches.append(cache)

    active = caches[0].active
    assert (outputs[0] - outputs[1])[:, active].abs().max() < 1e-5
    assert torch.isfinite(outputs[0]).all()
    for name in ("counts", "positions"):
        assert torch.equal(getattr(caches[0], name), getattr(caches[1], name))
    assert torch.equal(caches[0].store.keys[:, active], caches[1].store.keys[:, active])
    assert torch.equal(caches[0].store.values[:, active], caches[1].store.values[:, active])
    if needs.weights:
        for name in ("last", "accumulated"):
            seen = [getattr(cache.observers, name)[:, active] for cache in caches]
            assert (seen[0] - seen[1]).abs().max() < 1e-5


@pytest.mark.parametrize("dim", [16, 32, 40, 64, 128, 256])
@pytest.mark.parametrize("group", [1, 2, 5])
@pytest.mark.parametrize("window", [None, 30])
def test_bfloat16_is_read_and_written_as_it_is(dim: int, group: int, window: int | None) -> None:
    """Against float32 arithmetic on the same bfloat16 numbers: weights to 1e-5, outputs to bfloat16's own rounding."""
    needs, found = Needs(last=True), []
    for dtype in (torch.bfloat16, torch.float32):
        cache = filled_cache(dim, group, needs, fused=dtype == torch.bfloat16, dtype=dtype)
        for held in (cache.store.keys, cache.store.values):
            held.copy_(held.bfloat16())
        random = torch.Generator().manual_seed(1)
        query = torch.randn(ROWS, 1, HEADS * group, dim, generator=random).transpose(1, 2)
        key, value = (torch.randn(ROWS, 1, HEADS, dim, generator=random).transpose(1, 2) for _ in range(2))
        query, key, value = (x.bfloat16().to(dtype) for x in (query, key, value))
        output = DecodePass(cache).attend(LayerCall(1, dim**-0.5, window), query, key, value)
        found.append((output, cache))
    (half, stored), (reference, plain) = found

    active = stored.active
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half[active].float(), reference[active], rtol=2**-8, atol=1e-5)
    assert torch.allclose(stored.observers.last[:, active], plain.observers.last[:, active], atol=1e-5)
    assert torch.equal(stored.store.keys[:, active].float(), plain.store.keys[:, active])
    assert torch.equal(stored.store.values[:, active].float(), plain.store.values[:, active])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_does_not_depend_on_its_place(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same row at another place in the batch, among others, on another number of threads: equal to the bit."""
    cache = filled_cache(32, 2, Needs(), fused=True, dtype=dtype)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    order = torch.tensor([4, 2, 0, 3, 1])
    moved = filled_cache(32, 2, Needs(), fused=True, dtype=dtype)
    for name in ("counts", "positions"):
        getattr(moved, name).copy_(getattr(cache, name)[:, order])
    for name in ("keys", "values"):
        getattr(moved.store, name).copy_(getattr(cache.store, name)[:, order])
    for name in ("active", "next_position"):
        getattr(moved, name).copy_(getattr(cache, name)[order])
    query = torch.randn(ROWS, 4, 1, 32, generator=torch.Generator().manual_seed(2)).to(dtype)
    key, value = torch.randn(2, ROWS, HEADS, 1, 32, generator=torch.Generator().manual_seed(3)).to(dtype)

    straight = DecodePass(cache).attend(LayerCall(0, 0.2), query, key, value)
    other = DecodePass(moved).attend(LayerCall(0, 0.2), query[order], key[order], value[order])

    assert torch.equal(straight[order], other)
