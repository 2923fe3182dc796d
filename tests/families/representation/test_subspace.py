"""Values in a calibrated subspace, against sums written out and the singular values of the calibration texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from designspace.axes import Artefact, Needs
from designspace.cache.prefill_pass import PrefillPass
from designspace.errors import DeclarationError
from designspace.models.calibration import Corpus
from designspace.models.loading import LoadedModel
from families.calibrations.subspace_calibration import measure
from families.representation.subspace import Subspace
from tests.families.representation.artefacts import artefact
from tests.families.representation.drive import Driver, geometry_of, numbers

GEOMETRY = geometry_of(layers=2, heads=3, dim=16)
ARTEFACTS = {"v-pca": artefact("v-pca", GEOMETRY)}
KEYS, VALUES = numbers(2, 2, 3, 9, 16), numbers(2, 2, 3, 9, 16, seed=1)


def driver(rank: int, dtype: torch.dtype = torch.float32) -> Driver:
    """An empty store of two rows."""
    return Driver(Subspace(rank=rank), GEOMETRY, rows=2, artefacts=ARTEFACTS, dtype=dtype)


@pytest.mark.parametrize("rank", [1, 5, 16])
def test_values_are_the_mean_plus_their_components(rank: int) -> None:
    """Every token and head, one component after the other; keys are as they were."""
    d = driver(rank)
    d.load(KEYS, VALUES)
    keys, values = d.read()
    mean, basis = (ARTEFACTS["v-pca"][name].double().numpy() for name in ("mean", "basis"))

    for layer, row, head, slot in np.ndindex(2, 2, 3, 9):
        v = VALUES[layer, row, head, slot].double().numpy()
        expected = mean[layer, head].copy()
        for component in range(rank):
            direction = basis[layer, head, :, component]
            expected += direction * sum((v[i] - mean[layer, head, i]) * direction[i] for i in range(16))
        assert np.allclose(values[layer, row, head, slot], expected, atol=1e-5)
    assert torch.equal(keys[:, :, :, :9], KEYS)


def test_the_whole_head_dimension_is_lossless() -> None:
    """Rank D, to 1e-5."""
    d = driver(16)
    d.load(KEYS, VALUES)

    assert (d.read()[1][:, :, :, :9] - VALUES).abs().max() < 1e-5


def test_written_equals_loaded() -> None:
    """Token by token, or all at once."""
    loaded, written = driver(5), driver(5)
    loaded.load(KEYS, VALUES)
    written.append_all(KEYS, VALUES)

    for a, b in zip(loaded.read(), written.read(), strict=True):
        assert (a - b)[:, :, :, :9].abs().max() < 1e-6


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_events_find_the_same_coordinates(dtype: torch.dtype, tolerance: float) -> None:
    """Ten events in a row leave the survivors' coordinates where they were."""
    d = driver(5, dtype)
    d.load(KEYS.to(dtype), VALUES.to(dtype))
    before = d.store.coordinates.clone()
    keep = torch.zeros_like(d.positions, dtype=torch.bool)
    keep[:, :, 0, [0, 3, 8]] = keep[:, :, 1, [1, 2, 4]] = keep[:, :, 2, [6, 7, 8]] = True
    d.keep(keep)
    for _ in range(9):
        d.keep(d.positions >= 0)

    for head, slots in enumerate(([0, 3, 8], [1, 2, 4], [6, 7, 8])):
        off = d.store.coordinates[:, :, head, :3].float() - before[:, :, head, slots].float()
        assert off.abs().max() < tolerance


def test_bytes_are_those_of_the_filled_tensors() -> None:
    """Keys in full and r coordinates; rank 32 of 128 is 1.6 times smaller."""
    d = driver(5, torch.float16)
    d.load(KEYS.half(), VALUES.half())

    filled = sum(x[:, row, :, :9].nbytes for x in (d.store.keys, d.store.coordinates) for row in (0,))
    assert d.held_bytes() == [filled, filled]
    wide = geometry_of(layers=1, heads=1, dim=128)
    full = 2 * 128 * 2
    assert full / Driver(Subspace(32), wide, dtype=torch.float16).store.held_bytes(torch.tensor([[[1]]])).item() == 1.6


def texts(loaded: LoadedModel) -> Corpus:
    """Two random texts."""
    ids = torch.randint(2, 90, (70,), generator=torch.Generator().manual_seed(3)).tolist()
    return Corpus((tuple(ids[:30]), tuple(ids[30:])), (), "random")


def values_of(loaded: LoadedModel, corpus: Corpus) -> torch.Tensor:
    """Values [L,H,N,D] of all tokens of all texts."""
    parts = []
    for ids in corpus.texts:
        seen = PrefillPass(Needs(), loaded.geometry, len(ids))
        loaded.model(input_ids=torch.tensor([ids]), use_cache=False, slots=seen)
        parts.append(seen.prompt().values[:, 0])
    return torch.cat(parts, dim=2)


def test_the_error_on_the_calibration_texts_is_the_tail_of_the_singular_values(toy_llama: LoadedModel) -> None:
    """For every rank the summed squared error is that of the best subspace of that rank."""
    corpus = texts(toy_llama)
    tensors, values = measure(toy_llama, corpus), values_of(toy_llama, corpus)
    artefacts = {"v-pca": Artefact("v-pca", tensors)}

    assert (tensors["mean"] - values.mean(dim=2)).abs().max() < 1e-5
    for rank in (1, 4, 9, 16):
        d = Driver(Subspace(rank), toy_llama.geometry, capacity=70, artefacts=artefacts)
        d.load(torch.zeros_like(values[:, None]), values[:, None])
        error = (d.read()[1][:, 0] - values).double().square().sum(dim=(2, 3))
        for layer, head in np.ndindex(2, 2):
            centred = values[layer, head].double().numpy() - values[layer, head].double().numpy().mean(axis=0)
            tail = np.linalg.svd(centred, compute_uv=False)[rank:]
            assert float(error[layer, head]) == pytest.approx(float((tail**2).sum()), rel=1e-3, abs=1e-6)


def test_components_are_orthonormal_and_of_a_definite_sign(toy_llama: LoadedModel) -> None:
    """Their largest entry is positive."""
    basis = measure(toy_llama, texts(toy_llama))["basis"]

    assert torch.allclose(basis.mT @ basis, torch.eye(16).expand(2, 2, 16, 16), atol=1e-5)
    assert bool((basis.amax(dim=-2) >= -basis.amin(dim=-2)).all())


def test_refusals() -> None:
    """A rank below one is no declaration, one above the head dimension no model's."""
    with pytest.raises(DeclarationError, match="rank must be at least 1, got rank=0"):
        Subspace(rank=0)
    assert Subspace(rank=16).unsupported_reason(GEOMETRY) is None
    assert "got rank=17, head_dim=16" in str(Subspace(rank=17).unsupported_reason(GEOMETRY))
