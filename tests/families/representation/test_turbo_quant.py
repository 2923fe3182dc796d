"""TurboQuant next to a slow reference: codes, what is read, events, layers left alone, and bytes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.linalg import hadamard
from scipy.stats import norm
from torch import Tensor

from designspace.axes import Geometry
from families.representation.turbo_quant import TurboQuant, TurboQuantStore, centroids, rotation
from tests.families.representation.drive import Driver

DIM, LAYERS, ROWS, HEADS, N = 16, 3, 2, 2, 9
GEOMETRY = Geometry(LAYERS, 4, HEADS, DIM, torch.ones(DIM // 2))
CONFIGS = [
    TurboQuant(skip=0), TurboQuant(skip=1, key_bits=3, value_bits=3), TurboQuant(skip=0, renormalise=False, signs=True),
    TurboQuant(skip=0, key_bits=2, value_bits=2), TurboQuant(skip=0, key_bits=8),
]  # fmt: skip


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


KEYS, VALUES = 3 * numbers(LAYERS, ROWS, HEADS, N, DIM), numbers(LAYERS, ROWS, HEADS, N, DIM, seed=1)


def half(x: float) -> float:
    """Return a number as 16 bits hold it."""
    return float(np.float16(x))


def read_key(key: np.ndarray, form: TurboQuant) -> np.ndarray:
    """Return what is read of a key, component by component."""
    if form.key_bits == 8:
        return torch.tensor(key).to(torch.float8_e4m3fn).double().numpy()
    matrix = rotation(DIM, signs=form.signs).double().numpy()
    length, levels = math.sqrt(sum(x * x for x in key)), centroids(DIM, form.key_bits)
    direction = [sum(key[i] / length * matrix[i, j] for i in range(DIM)) for j in range(DIM)]
    nearest = [min(levels, key=lambda level, x=x: abs(level - x)) for x in direction]  # type: ignore[misc]
    size = math.sqrt(sum(x * x for x in nearest)) if form.renormalise else 1.0
    return np.array([half(length) * sum(nearest[j] / size * matrix[i, j] for j in range(DIM)) for i in range(DIM)])


def read_value(value: np.ndarray, form: TurboQuant) -> np.ndarray:
    """Return what is read of a value."""
    low, steps = min(value), 2**form.value_bits - 1
    scale = (max(value) - low) / steps
    return np.array([min(max(math.floor((x - low) / scale + 0.5), 0), steps) * half(scale) + half(low) for x in value])


def reference(keys: Tensor, values: Tensor, form: TurboQuant) -> tuple[np.ndarray, np.ndarray]:
    """Return what is read of keys and values [L,B,H,N,D]."""
    k, v = keys.double().numpy().copy(), values.double().numpy().copy()
    for layer, row, head, slot in np.ndindex(*k.shape[:4]):
        if form.skip <= layer < LAYERS - form.skip:
            k[layer, row, head, slot] = read_key(k[layer, row, head, slot], form)
            v[layer, row, head, slot] = read_value(v[layer, row, head, slot], form)
    return k, v


@pytest.mark.parametrize("form", CONFIGS, ids=str)
def test_what_is_read_is_what_the_formulas_say(form: TurboQuant) -> None:
    """Loaded at once, and token by token."""
    expected = reference(KEYS, VALUES, form)
    loaded, written = Driver(form, GEOMETRY, rows=ROWS), Driver(form, GEOMETRY, rows=ROWS)
    loaded.load(KEYS, VALUES)
    written.append_all(KEYS, VALUES)
    for ours in (loaded.read(), written.read()):
        for x, y in zip(ours, expected, strict=True):
            np.testing.assert_allclose(x[:, :, :, :N].numpy(), y, atol=2e-5)


@pytest.mark.parametrize("form", CONFIGS, ids=str)
def test_events_change_nothing_of_what_they_keep(form: TurboQuant) -> None:
    """To the bit, through many events: a code found again from what was read would drift."""
    d = Driver(form, GEOMETRY, rows=ROWS, capacity=16)
    d.load(KEYS, VALUES)
    for event in range(6):
        read = d.read()
        positions = d.positions.clone()
        keep = (numbers(*d.positions.shape, seed=event) > -1.0) & (d.positions >= 0)
        d.keep(keep)
        after = d.read()
        for layer, row, head in np.ndindex(LAYERS, ROWS, HEADS):
            was = {int(p): slot for slot, p in enumerate(positions[layer, row, head]) if p >= 0}
            for slot in range(int(d.counts[layer, row, head])):
                before = was[int(d.positions[layer, row, head, slot])]
                for x, y in zip(read, after, strict=True):
                    assert torch.equal(x[layer, row, head, before], y[layer, row, head, slot])


def test_merged_contents_are_coded_anew() -> None:
    """A slot whose content an event has changed is not what was read of it."""
    d = Driver(TurboQuant(skip=0), GEOMETRY, rows=ROWS)
    d.load(KEYS, VALUES)
    d.load(KEYS + 1, VALUES)
    fresh = Driver(TurboQuant(skip=0), GEOMETRY, rows=ROWS)
    fresh.load(KEYS + 1, VALUES)
    for x, y in zip(d.read(), fresh.read(), strict=True):
        assert torch.equal(x[:, :, :, :N], y[:, :, :, :N])


@pytest.mark.parametrize(("form", "per_token"), [
    (TurboQuant(skip=0), 16 * 4 // 8 + 2 + 16 * 4 // 8 + 4),
    (TurboQuant(skip=0, key_bits=3, value_bits=3), 16 * 3 // 8 + 2 + 16 * 3 // 8 + 4),
    (TurboQuant(skip=0, key_bits=8), 16 + 16 * 4 // 8 + 4),
])  # fmt: skip
def test_bytes_are_those_of_the_tensors(form: TurboQuant, per_token: int) -> None:
    """Every byte that a token takes lies in a tensor; the positions are counted by the cache."""
    d = Driver(form, GEOMETRY, rows=ROWS, capacity=N)
    d.load(KEYS, VALUES)
    assert isinstance(d.store, TurboQuantStore)
    assert d.store.held_bytes(d.counts).tolist() == [LAYERS * HEADS * N * per_token] * ROWS
    assert d.store.allocated_bytes() - d.store.positions.nbytes == ROWS * LAYERS * HEADS * N * per_token


def test_layers_that_stay_in_full_are_counted_in_full() -> None:
    """The first and the last of three; half of all layers at most."""
    d = Driver(TurboQuant(skip=1), GEOMETRY, rows=ROWS)
    d.load(KEYS, VALUES)
    coded, plain = TurboQuant().token_bytes(DIM), 2 * DIM * 4
    assert d.store.held_bytes(d.counts).tolist() == [HEADS * N * (coded + 2 * plain)] * ROWS
    assert [TurboQuant().codes_layer(layer, 6) for layer in range(6)] == [False, False, True, True, False, False]
    assert [TurboQuant().codes_layer(layer, 3) for layer in range(3)] == [False, True, False]
    assert not any(TurboQuant().codes_layer(layer, 4) for layer in range(4))


def test_levels_are_of_least_squared_error() -> None:
    """Each is the mean of its cell under the normal distribution, but for the trapezoids of the release."""
    levels = np.array(centroids(64, 4))
    edges = [-np.inf, *(levels[:-1] + levels[1:]) / 2, np.inf]
    sigma = 1 / 8
    for level, low, high in zip(levels, edges[:-1], edges[1:], strict=True):
        mass = norm.cdf(high, scale=sigma) - norm.cdf(low, scale=sigma)
        mean = quad(lambda x: x * norm.pdf(x, scale=sigma), max(low, -2), min(high, 2))[0] / mass
        assert level == pytest.approx(mean, abs=6e-4)


def test_the_rotation_is_hadamards() -> None:
    """With and without signs an orthogonal matrix."""
    np.testing.assert_allclose(rotation(DIM, signs=False).numpy(), hadamard(DIM) / 4, atol=1e-7)
    signed = rotation(DIM, signs=True)
    torch.testing.assert_close(signed @ signed.T, torch.eye(DIM))
    assert len({float(row[0] > 0) for row in signed}) == 2


def test_what_it_cannot_hold_is_refused_and_what_it_leaves_alone_is_said() -> None:
    """A head dimension without such a matrix; a model whose layers all stay as they are."""
    from designspace.registry import mechanism

    odd = Geometry(4, 4, 2, 24, torch.ones(12))
    assert "a power of two and at least 8, got head_dim=24" in str(TurboQuant().unsupported_reason(odd))
    arm, shallow = mechanism("turboquant"), Geometry(4, 4, 2, 16, torch.ones(8))
    schedule = arm.bind(None)
    assert arm.idle_axes(schedule, shallow)["representation"].startswith("skip=2 leaves all 4 layers")
    assert "representation" not in arm.idle_axes(schedule, Geometry(6, 4, 2, 16, torch.ones(8)))
