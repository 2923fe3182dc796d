"""Non-uniform codes of un-rotated keys and of values, against loops over single numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from designspace.axes import Artefact, Geometry, Needs
from designspace.cache.prefill_pass import PrefillPass
from designspace.errors import CalibrationError, DeclarationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from families.calibrations.kvquant_calibration import k_means, measure
from families.representation.kvquant import KVQuant
from tests.families.representation.artefacts import artefact
from tests.families.representation.drive import Driver, geometry_of, numbers

GEOMETRY = geometry_of(layers=2, heads=2, dim=16)
ARTEFACT = artefact("kvquant", GEOMETRY)
KEYS, VALUES = numbers(2, 2, 2, 9, 16), numbers(2, 2, 2, 9, 16, seed=1)


def driver(
    config: KVQuant, found: Mapping[str, Tensor] | Artefact = ARTEFACT, geometry: Geometry = GEOMETRY, **extra: object
) -> Driver:
    """An empty store of two rows."""
    found = found if isinstance(found, Artefact) else Artefact("kvquant", found)
    return Driver(config, geometry, rows=2, artefacts={"kvquant": found}, **extra)  # type: ignore[arg-type]


def rotate(x: np.ndarray, position: int, geometry: Geometry, *, back: bool = False) -> np.ndarray:
    """Rotate a key to its position, pair by pair, or back."""
    out, half = x.copy(), len(x) // 2
    for f in range(half):
        angle = position * float(geometry.inv_freq[f]) * (-1 if back else 1)
        scale = 1 / geometry.attention_scaling if back else geometry.attention_scaling
        out[f] = scale * (x[f] * math.cos(angle) - x[f + half] * math.sin(angle))
        out[f + half] = scale * (x[f + half] * math.cos(angle) + x[f] * math.sin(angle))
    return out


def code(x: float, low: float, high: float, book: list[float]) -> float:
    """Return the number that stands for x."""
    half = (high - low) / 2 or 1.0
    u = (x - (high + low) / 2) / half
    nearest = min(book, key=lambda entry: abs(entry - u))
    return (high + low) / 2 + half * nearest


def code_vector(x: np.ndarray, low: np.ndarray, high: np.ndarray, book: list[float], places: int) -> np.ndarray:
    """Code a vector; of the elements outside, those furthest out (in half ranges) are exact, as far as there is place."""
    half = np.where(high > low, (high - low) / 2, 1.0)
    beyond = sorted(
        ((max(low[i] - x[i], x[i] - high[i]) / half[i], -i) for i in range(len(x)) if not low[i] <= x[i] <= high[i]),
        reverse=True,
    )
    exact = {-i for _, i in beyond[:places]}
    return np.array([x[i] if i in exact else code(x[i], low[i], high[i], book) for i in range(len(x))])


def value_range(row: np.ndarray, outliers: float) -> tuple[float, float]:
    """The least and largest of a token's elements that lie within its quantiles."""
    low, high = np.quantile(row, outliers / 2), np.quantile(row, 1 - outliers / 2)
    inside = row[(row >= low - 1e-12) & (row <= high + 1e-12)]
    return float(inside.min()), float(inside.max())


def reference(
    keys: Tensor, values: Tensor, positions: Tensor, config: KVQuant, places: int, found: Artefact, geometry: Geometry
) -> tuple[np.ndarray, np.ndarray]:
    """What must be read of keys, values [L,B,H,N,D] at positions [L,B,H,N]."""
    k, v = keys.double().numpy(), values.double().numpy()
    chosen = 0 if config.outliers == 0 else 1
    tables = {name: x[:, chosen].double().numpy() for name, x in found.tensors.items()}
    out_k, out_v = np.zeros_like(k), np.zeros_like(v)
    for layer, row, head, slot in np.ndindex(*k.shape[:4]):
        position = int(positions[layer, row, head, slot])
        if 0 <= position < config.exact:
            out_k[layer, row, head, slot], out_v[layer, row, head, slot] = (
                k[layer, row, head, slot], v[layer, row, head, slot],
            )  # fmt: skip
            continue
        plain = rotate(k[layer, row, head, slot], position, geometry, back=True)
        low, high = tables["key_low"][layer, head], tables["key_high"][layer, head]
        book = tables[f"key_book_{config.bits}"][layer].tolist()
        out_k[layer, row, head, slot] = rotate(code_vector(plain, low, high, book, places), position, geometry)
        holders = positions[layer, row].numpy() == position  # [H,N]
        low_v, high_v = value_range(v[layer, row][holders].ravel(), config.outliers)
        book = tables[f"value_book_{config.bits}"][layer].tolist()
        out_v[layer, row, head, slot] = code_vector(
            v[layer, row, head, slot], np.full(k.shape[-1], low_v), np.full(k.shape[-1], high_v), book, places
        )
    return out_k, out_v


CONFIGS = [KVQuant(bits=2), KVQuant(bits=3, exact=2), KVQuant(bits=4, outliers=0.0, exact=0), KVQuant(most_outliers=1)]


@pytest.mark.parametrize("scaling", [1.0, 1.3])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_what_is_read_is_what_the_formulas_say(config: KVQuant, scaling: float) -> None:
    """Loaded at once, and token by token."""
    geometry = Geometry(2, 4, 2, 16, GEOMETRY.inv_freq, scaling)
    positions = torch.arange(9).expand(2, 2, 2, 9)
    places = 2 if config.most_outliers is None else config.most_outliers
    expected = reference(KEYS, VALUES, positions, config, places, ARTEFACT, geometry)
    loaded, written = driver(config, geometry=geometry), driver(config, geometry=geometry)
    loaded.load(KEYS, VALUES)
    written.append_all(KEYS, VALUES)

    for ours in (loaded.read(), written.read()):
        for x, y in zip(ours, expected, strict=True):
            assert np.allclose(x[:, :, :, :9].numpy(), y, atol=2e-5)


def test_a_prompt_that_was_cut_takes_value_ranges_from_the_heads_that_hold_the_token() -> None:
    """Heads with different tokens: slots do not line up, positions do."""
    positions = torch.tensor([[0, 2, 3, 7, 8], [1, 2, 5, 7, 11]]).expand(2, 2, 2, 5)
    keys, values = KEYS[:, :, :, :5], 2 * VALUES[:, :, :, :5]
    config = KVQuant(bits=3)
    d = driver(config)
    d.load(keys, values, positions)

    for x, y in zip(d.read(), reference(keys, values, positions, config, 2, ARTEFACT, GEOMETRY), strict=True):
        assert np.allclose(x[:, :, :, :5].numpy(), y, atol=2e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_events_change_nothing_of_what_they_keep(config: KVQuant) -> None:
    """Ten events with new tokens between them: values are bit-equal, keys up to the rounding of their rotation."""
    d = driver(config, capacity=20)
    d.load(KEYS, VALUES)
    d.append(numbers(2, 2, 2, 16, seed=8), numbers(2, 2, 2, 16, seed=9), 9)
    keys, values = d.read()
    keep = (numbers(2, 2, 2, 20, seed=5) > -0.3) & (d.positions >= 0)
    order = [[[keep[i, j, k].nonzero()[:, 0] for k in range(2)] for j in range(2)] for i in range(2)]
    d.keep(keep)
    for step in range(9):
        d.append(numbers(2, 2, 2, 16, seed=20 + step), numbers(2, 2, 2, 16, seed=40 + step), 10 + step)
        last = d.counts[..., None] - 1
        d.keep((d.positions >= 0) & (torch.arange(20) != last))

    for i, j, k in np.ndindex(2, 2, 2):
        slots = order[i][j][k]
        after_keys, after_values = (x[i, j, k, : len(slots)] for x in d.read())
        assert torch.equal(after_values, values[i, j, k, slots])
        assert (after_keys - keys[i, j, k, slots]).abs().max() < 1e-4


def test_the_first_positions_are_exact_while_they_are_held() -> None:
    """Bit for bit; once position 0 is gone, nothing takes its place."""
    d = driver(KVQuant(bits=2, exact=2))
    d.load(KEYS, VALUES)
    keys, values = d.read()
    assert torch.equal(keys[:, :, :, :2], KEYS[:, :, :, :2])
    assert torch.equal(values[:, :, :, :2], VALUES[:, :, :, :2])
    assert not bool((keys[:, :, :, 2] == KEYS[:, :, :, 2]).all())

    per_token = d.store.held_bytes(torch.full((2, 2, 2), 3))
    d.keep((d.positions > 0) & (d.positions < 4))  # positions 1, 2, 3: one exact, as two of 0, 1, 2 were
    exact, after = 2 * 16 * 4, d.store.held_bytes(torch.full((2, 2, 2), 1))
    assert after.tolist() == [4 * exact] * 2
    assert bool((per_token > 4 * 2 * exact).all())


def test_outliers_are_exact() -> None:
    """With a place for every element, whatever lies outside is reproduced: values to the bit."""
    keys, values = KEYS.clone(), VALUES.clone()
    keys[0, 0, 0, 4, :] *= 40
    values[0, 0, 0, 4, 3], values[0, 0, 0, 4, 11] = 50.0, -60.0
    d = driver(KVQuant(bits=2, most_outliers=16))
    d.load(keys, values)
    read_keys, read_values = d.read()

    assert read_values[0, 0, 0, 4, 3] == 50.0
    assert read_values[0, 0, 0, 4, 11] == -60.0
    outside = np.abs(rotate(keys[0, 0, 0, 4].double().numpy(), 4, GEOMETRY, back=True)) > 5
    assert outside.sum() > 10
    back = rotate(read_keys[0, 0, 0, 4].double().numpy(), 4, GEOMETRY, back=True)
    truth = rotate(keys[0, 0, 0, 4].double().numpy(), 4, GEOMETRY, back=True)
    assert np.allclose(back[outside], truth[outside], rtol=1e-4)


def test_a_codebook_of_every_value_is_lossless() -> None:
    """Numbers on 16 levels, and a codebook that has them all: keys too, through rotation and back."""
    levels = torch.linspace(-1, 1, 16)
    drawn = torch.randint(0, 16, (2, 2, 2, 2, 9, 16), generator=torch.Generator().manual_seed(0))
    drawn[1, ..., 0], drawn[1, ..., 1] = 0, 15  # every token's own range is the whole one
    plain, values = 3 * levels[drawn[0]], 3 * levels[drawn[1]]
    keys = plain.clone()
    for index in np.ndindex(2, 2, 2, 9):
        keys[index] = torch.tensor(rotate(plain[index].double().numpy(), index[-1], GEOMETRY))
    tensors = {"key_low": torch.full((2, 2, 2, 16), -3.0), "key_high": torch.full((2, 2, 2, 16), 3.0)}
    tensors |= {f"{of}_book_4": levels.expand(2, 2, 16).contiguous() for of in ("key", "value")}
    d = driver(KVQuant(bits=4, outliers=0.0, exact=0), tensors)
    d.load(keys, values)

    for x, y in zip(d.read(), (keys, values), strict=True):
        assert (x[:, :, :, :9] - y).abs().max() < 1e-5


def test_even_codebooks_without_outliers_are_a_uniform_quantiser_with_static_ranges() -> None:
    """Position 0, where no key is turned: code = round((x - low) / step) within 0 … 15, per channel."""
    tensors = dict(ARTEFACT.tensors)
    tensors["key_book_4"] = torch.linspace(-1, 1, 16).expand(2, 2, 16).contiguous()
    d = driver(KVQuant(bits=4, outliers=0.0, exact=0), tensors)
    keys = 3 * KEYS[:, :, :, :1]
    d.load(keys, VALUES[:, :, :, :1])
    low, high = (tensors[name][:, 0][:, None, :, None] for name in ("key_low", "key_high"))
    step = (high - low) / 15
    expected = torch.round((keys.clamp(low, high) - low) / step).clamp(0, 15) * step + low
    inside = (keys >= low) & (keys <= high)

    assert bool(inside.float().mean() < 1)
    assert torch.allclose(d.read()[0][:, :, :, :1][inside], expected[inside], atol=1e-5)


@pytest.mark.parametrize(("bits", "published"), [(3, 3.32), (4, 4.32)])
def test_bytes_of_a_hundredth_of_outliers(bits: int, published: float) -> None:
    """100 tokens of 128 elements, 128 of which lie outside: b + 0.32 bits per element, at 16 bits."""
    geometry = geometry_of(layers=1, heads=1, dim=128)
    tensors = {"key_low": torch.full((1, 2, 1, 128), -1.0), "key_high": torch.full((1, 2, 1, 128), 1.0)}
    tensors |= {f"{of}_book_{bits}": torch.linspace(-1, 1, 2**bits).expand(1, 2, -1) for of in ("key", "value")}
    keys = torch.zeros(1, 1, 1, 100, 128)
    d = Driver(
        KVQuant(bits=bits, exact=0), geometry, capacity=100, artefacts={"kvquant": Artefact("kvquant", tensors)},
        dtype=torch.float16,
    )  # fmt: skip
    d.load(keys.half(), torch.zeros_like(keys).half())
    without = d.held_bytes()[0]
    d.store.key_places.view(-1)[:128] = 5  # places in use
    values_only = 100 * (128 * bits // 8 + 4)

    assert without == 100 * 128 * bits // 8 + values_only
    assert (d.held_bytes()[0] - values_only) * 8 / 12800 == pytest.approx(published)


def test_bytes_are_those_of_the_filled_tensors() -> None:
    """Codes, ranges, and the outliers in use, slot by slot; exact tokens in full."""
    d = driver(KVQuant(bits=3, exact=2), dtype=torch.bfloat16)
    d.load((2 * KEYS).bfloat16(), VALUES.bfloat16())
    d.append(numbers(2, 2, 2, 16, seed=8).bfloat16(), numbers(2, 2, 2, 16, seed=9).bfloat16(), 9)
    store, totals = d.store, [0, 0]
    for layer, row, head in np.ndindex(2, 2, 2):
        at = (layer, row, head)
        totals[row] += store.exact_keys[at].nbytes + store.exact_values[at].nbytes
        for slot in range(2, 10):
            totals[row] += sum(x[at][slot].nbytes for x in (store.key_codes, store.value_codes))
            totals[row] += sum(x[at][slot].nbytes for x in (store.value_low, store.value_high))
            for x, places in ((store.key_outliers, store.key_places), (store.value_outliers, store.value_places)):
                in_use = places[at][slot] >= 0
                totals[row] += x[at][slot][in_use].nbytes + places[at][slot][in_use].nbytes

    assert d.held_bytes() == totals
    assert len(set(totals)) == 2  # the rows' outliers differ in number
    assert store.allocated_bytes() == sum(x.nbytes for x in vars(store).values() if isinstance(x, Tensor))


def test_k_means_is_lloyds() -> None:
    """Against rounds written out, from the same start, until nothing moves."""
    data = numbers(300, seed=2).pow(3).sort().values
    centroids = [float(data[int((i + 0.5) / 4 * 300)]) for i in range(4)]
    while True:
        members: list[list[float]] = [[] for _ in centroids]
        for x in data.tolist():
            members[min(range(4), key=lambda i: abs(centroids[i] - x))].append(x)
        new = [sum(m) / len(m) if m else c for m, c in zip(members, centroids, strict=True)]
        if new == centroids:
            break
        centroids = new

    assert k_means(data, 4).tolist() == pytest.approx(centroids, rel=1e-5)


def test_k_means_of_few_numbers_has_them_all() -> None:
    """As many centroids as different numbers, each with its share: exact."""
    data = torch.tensor([-0.9, -0.2, 0.1, 0.8]).repeat_interleave(25)

    assert k_means(data, 4).tolist() == pytest.approx([-0.9, -0.2, 0.1, 0.8])


def test_calibration_is_of_un_rotated_keys_and_of_what_lies_inside(toy_llama: LoadedModel) -> None:
    """Ranges are numpy's quantiles; codebooks are centroids: each is the mean of the numbers nearest to it."""
    ids = (torch.randperm(90, generator=torch.Generator().manual_seed(3))[:60] + 2).tolist()  # no two keys alike
    texts = (tuple(ids[:25]), tuple(ids[25:]))
    with torch.inference_mode():
        found = measure(toy_llama, Corpus(texts, (), "random"))
    plain, values = [], []
    for text in texts:
        seen = PrefillPass(Needs(), toy_llama.geometry, len(text))
        toy_llama.model(input_ids=torch.tensor([text]), use_cache=False, slots=seen)
        prompt = seen.prompt()
        k = prompt.keys[:, 0].double().numpy()
        for index in np.ndindex(k.shape[:3]):
            k[index] = rotate(k[index], index[2], toy_llama.geometry, back=True)
        plain.append(k)
        values.append(prompt.values[:, 0].double().numpy())
    k, v = np.concatenate(plain, axis=2), np.concatenate(values, axis=2)  # [L,H,N,D]

    low, high = np.quantile(k, 0.005, axis=2), np.quantile(k, 0.995, axis=2)
    assert np.allclose(found["key_low"][:, 1], low, atol=1e-5)
    assert np.allclose(found["key_high"][:, 1], high, atol=1e-5)
    assert np.allclose(found["key_low"][:, 0], k.min(axis=2), atol=1e-5)
    for layer in range(2):
        u = (k[layer] - (high + low)[layer, :, None] / 2) / ((high - low)[layer, :, None] / 2)
        check_centroids(found["key_book_3"][layer, 1], u[np.abs(u) <= 1 + 1e-9])
        scaled = []
        for token in range(v.shape[2]):
            row = v[layer, :, token].ravel()
            a, b = value_range(row, 0.01)
            scaled.extend((x - (a + b) / 2) / ((b - a) / 2) for x in row if a <= x <= b)
        check_centroids(found["value_book_2"][layer, 1], np.array(scaled))


def check_centroids(book: Tensor, data: np.ndarray) -> None:
    """Each centroid is the mean of its members."""
    nearest = np.abs(data[:, None] - book.double().numpy()).argmin(axis=1)
    for i, centroid in enumerate(book.tolist()):
        assert data[nearest == i].mean() == pytest.approx(centroid, abs=2e-3)


def test_refusals(toy_llama: LoadedModel) -> None:
    """Parameters, partial rotary embeddings, odd head dimensions."""
    for extra in ({"bits": 5}, {"outliers": 0.3}, {"exact": -1}, {"most_outliers": -1}):
        with pytest.raises(DeclarationError, match=f"{next(iter(extra))} must be"):
            KVQuant(**extra)  # type: ignore[arg-type]
    partial = Geometry(1, 2, 2, 16, torch.ones(4))
    assert "this model rotates 8" in str(KVQuant().unsupported_reason(partial))
    assert "got head_dim=12" in str(KVQuant().unsupported_reason(geometry_of(dim=12)))
    assert "for head_dim=16" in str(KVQuant(most_outliers=17).unsupported_reason(GEOMETRY))
    assert KVQuant().unsupported_reason(GEOMETRY) is None
    with pytest.raises(CalibrationError, match="this model rotates 8"):
        measure(LoadedModel(toy_llama.model, None, partial, frozenset()), Corpus((), (), ""))
