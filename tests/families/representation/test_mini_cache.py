"""Directions shared by two layers, against spherical interpolation written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from designspace.axes import Mechanism
from designspace.errors import DeclarationError
from families.cadence.every_k import EveryK
from families.cadence.never import Never
from families.head_routing.pyramid import Pyramid
from families.head_routing.uniform import Uniform
from families.representation.mini_cache import MiniCache, half_turns, merge
from families.scoring.full import Full
from families.scoring.knorm import KNorm
from families.scoring.selectors.diversity import Diversity
from families.scoring.streaming_llm import StreamingLLM
from families.scoring.triattention import TriAttention
from tests.families.representation.drive import Driver, geometry_of, numbers

GEOMETRY = geometry_of(layers=5, heads=2, dim=8)


def near(seed: int, n: int = 11) -> torch.Tensor:
    """Numbers [5,2,2,n,8] whose layers are alike, more or less."""
    return numbers(1, 2, 2, n, 8, seed=seed) + numbers(5, 2, 2, n, 1, seed=seed + 1).abs() * numbers(
        5, 2, 2, n, 8, seed=seed + 2
    )


KEYS, VALUES = near(0), near(10)


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the angle in half turns, and what is read of a and b once they share a direction."""
    x, y = a / np.linalg.norm(a), b / np.linalg.norm(b)
    angle = math.acos(max(-1.0, min(1.0, float(x @ y))))
    e = (math.sin((1 - t) * angle) * x + math.sin(t * angle) * y) / math.sin(angle)
    return angle / math.pi, np.linalg.norm(a) * e, np.linalg.norm(b) * e


def test_hand_vector() -> None:
    """x=(1,0), y=(0,1), t=.6: e=(.58779,.80902)."""
    both = merge(torch.tensor([1.0, 0]), torch.tensor([0, 1.0]), 0.6)

    assert both.direction.tolist() == pytest.approx([0.58779, 0.80902], abs=1e-5)
    assert both.norms.tolist() == [1.0, 1.0]
    assert float(half_turns(torch.tensor([1.0, 0]), torch.tensor([0, 1.0]))) == pytest.approx(0.5)


def test_ends_and_identical_vectors() -> None:
    """Weights 0 and 1 give one of them; equal vectors, zero vectors and opposite ones stay finite and right."""
    a, b = numbers(8), numbers(8, seed=1)
    assert torch.allclose(merge(a, b, 0.0).direction, a / a.norm(), atol=1e-6)
    assert torch.allclose(merge(a, b, 1.0).direction, b / b.norm(), atol=1e-6)
    same = merge(a, 3 * a, 0.6)
    assert torch.allclose(same.direction * same.norms[1], 3 * a, atol=1e-5)
    assert bool(torch.isfinite(merge(a, -a, 0.5).direction).all())
    assert bool(torch.isfinite(merge(a, 0 * a, 0.6).direction).all())
    assert float(half_turns(a, -2 * a)) == pytest.approx(1.0)
    assert float(half_turns(a, 2 * a)) < 1e-4


def expected_after_load(keys: torch.Tensor, values: torch.Tensor, config: MiniCache, firsts: list[int]) -> tuple:
    """What is read of keys, values [L,B,H,N,D], and which tokens [P,B,H,N] are merged."""
    k, v = keys.double().numpy(), values.double().numpy()
    out_k, out_v = k.copy(), v.copy()
    merged = np.zeros((len(firsts), *k.shape[1:4]), dtype=bool)
    for pair, first in enumerate(firsts):
        for row, head in np.ndindex(*k.shape[1:3]):
            n = k.shape[3]
            angles = [
                slerp(k[first, row, head, i], k[first + 1, row, head, i], config.interpolation)[0] for i in range(n)
            ]
            if config.retained is None:
                apart = {i for i in range(n) if angles[i] > config.threshold}
            else:
                apart = set(sorted(range(n), key=lambda i: -angles[i])[: math.ceil(config.retained * n)])
            for i in set(range(n)) - apart:
                merged[pair, row, head, i] = True
                for x, out in ((k, out_k), (v, out_v)):
                    _, *two = slerp(x[first, row, head, i], x[first + 1, row, head, i], config.interpolation)
                    out[first, row, head, i], out[first + 1, row, head, i] = two
    return out_k, out_v, merged


CONFIGS = [
    (MiniCache(retained=0.3), [2]),
    (MiniCache(start=0, retained=0.2, interpolation=0.3), [0, 2]),
    (MiniCache(start=1, retained=None, threshold=0.3), [1, 3]),
]


@pytest.mark.parametrize(("config", "firsts"), CONFIGS, ids=str)
def test_a_prompt_is_merged_as_the_formulas_say(config: MiniCache, firsts: list[int]) -> None:
    """Numbers, which tokens, bytes; a layer left over and those before the start are as they were."""
    d = Driver(config, GEOMETRY, rows=2, dtype=torch.float32)
    d.load(KEYS, VALUES)
    keys, values, merged = expected_after_load(KEYS, VALUES, config, firsts)
    read = d.read()

    assert np.array_equal(d.store.merged[..., :11].numpy(), merged)
    assert 0 < merged.mean() < 1
    assert np.allclose(read[0][:, :, :, :11], keys, atol=1e-5)
    assert np.allclose(read[1][:, :, :, :11], values, atol=1e-5)
    for layer in set(range(5)) - {layer for first in firsts for layer in (first, first + 1)}:
        assert torch.equal(read[0][layer, :, :, :11], KEYS[layer])
    for pair, first in enumerate(firsts):
        kept = torch.tensor(~merged[pair])
        for side in (0, 1):
            assert torch.equal(read[0][first + side, :, :, :11][kept], KEYS[first + side][kept])
            assert torch.equal(read[1][first + side, :, :, :11][kept], VALUES[first + side][kept])


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (10, 1), (19, 1), (20, 1), (21, 2), (39, 2), (40, 2)])
def test_a_twentieth_is_rounded_up(n: int, expected: int) -> None:
    """Of the tokens of each head; rounded down, a prompt of nineteen would keep none in full."""
    d = Driver(MiniCache(start=0), geometry_of(layers=2, heads=2, dim=8), capacity=n)
    d.load(numbers(2, 1, 2, n, 8), numbers(2, 1, 2, n, 8, seed=1))

    assert (~d.store.merged).sum(dim=-1).unique().tolist() == [expected]  # type: ignore[attr-defined]


def test_written_equals_loaded_where_a_threshold_decides() -> None:
    """Token by token, each pair of layers one after the other."""
    config = MiniCache(start=1, retained=None, threshold=0.3)
    loaded, written = Driver(config, GEOMETRY, rows=2), Driver(config, GEOMETRY, rows=2)
    loaded.load(KEYS, VALUES)
    written.append_all(KEYS, VALUES)

    assert torch.equal(loaded.store.merged[..., :11], written.store.merged[..., :11])
    assert loaded.held_bytes() == written.held_bytes()
    for a, b in zip(loaded.read(), written.read(), strict=True):
        assert (a - b)[:, :, :, :11].abs().max() < 1e-6


def test_the_newest_token_is_exact_until_the_second_layer_has_it() -> None:
    """The first layer reads its own vector in the step that writes it, and the shared direction from then on."""
    config = MiniCache(start=0, retained=None, threshold=1.0)
    d = Driver(config, geometry_of(layers=2, heads=2, dim=8))
    keys, values = KEYS[:2, :1, :, 0], VALUES[:2, :1, :, 0]
    d.positions[:, :, :, 0] = 0
    slot = torch.zeros(1, 2, dtype=torch.int64)
    d.store.write(0, slot, keys[0], values[0], d._held(0))
    assert torch.equal(d.store.read(0, d._held(0))[0][:, :, 0], keys[0])

    d.store.write(1, slot, keys[1], values[1], d._held(1))
    for head in range(2):
        _, *two = slerp(keys[0, 0, head].double().numpy(), keys[1, 0, head].double().numpy(), 0.6)
        for layer in range(2):
            assert np.allclose(d.store.read(layer, d._held(layer))[0][0, head, 0], two[layer], atol=1e-5)


@pytest.mark.parametrize("config", [config for config, _ in CONFIGS], ids=str)
def test_events_leave_what_is_merged_as_it_is(config: MiniCache) -> None:
    """Ten events in a row: merged tokens stay merged, and nothing drifts. The fraction may merge more of the rest."""
    d = Driver(config, GEOMETRY, rows=2)
    d.load(KEYS, VALUES)
    before, merged = d.read(), d.store.merged.clone()
    slots = [0, 2, 3, 5, 6, 8, 9]
    keep = torch.zeros_like(d.positions, dtype=torch.bool)
    keep[..., slots] = True
    d.keep(keep)
    for _ in range(9):
        d.keep(d.positions >= 0)
    now = d.store.merged[..., : len(slots)]

    assert bool((now | ~merged[..., slots]).all())
    n_before, n_now = ((~x).sum(dim=-1) for x in (merged[..., slots], now))
    assert torch.equal(
        n_now, n_before if config.retained is None else n_before.clamp(max=math.ceil(config.retained * 7))
    )
    for a, b in zip(before, d.read(), strict=True):
        for pair, first in enumerate(config.firsts(GEOMETRY)):
            steady = now[pair] == merged[pair][..., slots]
            for layer in (first, first + 1):
                assert (a[layer][:, :, slots] - b[layer][:, :, : len(slots)])[steady].abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_bytes_are_those_of_the_tensors_in_use(dtype: torch.dtype) -> None:
    """Slot by slot: shared directions and norms, or both vectors and an index."""
    config = MiniCache(start=1, retained=0.3)
    d = Driver(config, GEOMETRY, rows=2, dtype=dtype)
    d.load(KEYS.to(dtype), VALUES.to(dtype))
    store, totals = d.store, [0, 0]
    for row, head, slot in np.ndindex(2, 2, 11):
        totals[row] += store.keys[0, row, head, slot].nbytes + store.values[0, row, head, slot].nbytes
        for pair, first in enumerate((1, 3)):
            totals[row] += store.keys[first, row, head, slot].nbytes + store.values[first, row, head, slot].nbytes
            if store.merged[pair, row, head, slot]:
                totals[row] += store.key_norms[pair, row, head, slot].nbytes
                totals[row] += store.value_norms[pair, row, head, slot].nbytes
            else:
                totals[row] += store.keys[first + 1, row, head, slot].nbytes * 2 + 4

    assert d.held_bytes() == totals


def test_published_ratio() -> None:
    """A pair of layers at 16 bits and D = 128: 50.8 % of full, 55.8 % and an index with 5 % kept."""
    geometry, keys = geometry_of(layers=2, heads=1, dim=128), numbers(2, 1, 1, 100, 128).half()
    full = 2 * 2 * 128 * 2 * 100
    for retained, ratio in ((0.0, (2 * 128 + 4) / (4 * 128)), (0.05, None)):
        d = Driver(MiniCache(start=0, retained=retained), geometry, capacity=100, dtype=torch.float16)
        d.load(keys, keys)
        share = d.held_bytes()[0] / full
        if ratio is not None:
            assert share == pytest.approx(ratio)
            assert round(share, 3) == 0.508
        else:
            # 95 tokens at 50.8 %, 5 at 100 %: 53.2 %, and 4 bytes for each of the 5.
            assert share == pytest.approx(0.95 * (260 / 512) + 0.05 * (1 + 4 / 1024))


def test_layers_that_hold_different_tokens_share_nothing_there() -> None:
    """A slot where positions differ is kept in full."""
    d = Driver(MiniCache(start=0, retained=None, threshold=1.0), geometry_of(layers=2, heads=2, dim=8), rows=2)
    positions = torch.arange(11).expand(2, 2, 2, 11).clone()
    positions[1, :, :, 5:] += 1
    d.load(KEYS[:2], VALUES[:2], positions)

    assert d.store.merged[0, 0, 0, :12].tolist() == [True] * 5 + [False] * 7
    assert torch.equal(d.read()[0][:, :, :, 5:11], KEYS[:2, :, :, 5:])


def compose(scoring: object, routing: object = Uniform(), cadence: object = EveryK(k=4)) -> Mechanism:
    """A mechanism with shared directions."""
    return Mechanism("test", scoring, routing, cadence, MiniCache())  # type: ignore[arg-type]


def test_compositions_that_hold_different_tokens_in_different_layers_are_refused() -> None:
    """One ranking, a selector that follows it, the same share everywhere; or no event at all."""
    compose(StreamingLLM())
    compose(TriAttention(selector=Diversity(scope="global")))
    compose(Full(), cadence=Never())
    for scoring, routing in (
        (KNorm(), Uniform()),
        (TriAttention(scope="layer-head"), Uniform()),
        (TriAttention(selector=Diversity(scope="layer-head")), Uniform()),
        (StreamingLLM(), Pyramid()),
    ):
        with pytest.raises(DeclarationError, match="'mini-cache' needs the same tokens in all layers"):
            compose(scoring, routing)


def test_refusals() -> None:
    """Parameters out of range, models without a pair."""
    for name in ("interpolation", "threshold", "retained"):
        with pytest.raises(DeclarationError, match=rf"{name} must lie in \[0, 1\].*, got {name}=1.5"):
            MiniCache(**{name: 1.5})  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="start must be at least 0 or None, got start=-1"):
        MiniCache(start=-1)
    assert MiniCache().unsupported_reason(GEOMETRY) is None
    assert "needs two layers from start=1 on" in str(MiniCache().unsupported_reason(geometry_of(layers=2)))
