"""The kernel of linear scores over rotary bands against float64 arithmetic, and where it declines."""

from __future__ import annotations

import pytest
import torch

from designspace.kernels.band_scores import band_scores
from tests.designspace.kernels import HAS_COMPILER

needs_compiler = pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler on this machine")


@needs_compiler
@pytest.mark.parametrize("dim", [32, 64, 96, 128])
@pytest.mark.parametrize(("n_slots", "group"), [(1, 1), (16, 2), (37, 3), (48, 16)])
def test_equals_the_sum_over_bands(dim: int, n_slots: int, group: int) -> None:
    """Two layers, three rows, two heads; the weights of the moduli are the same in all rows; one key is all zeros."""
    random = torch.Generator().manual_seed(dim + n_slots)
    keys = torch.randn(2, 3, 2, n_slots, dim, generator=random)
    keys[0, 0, 0, 0] = 0.0
    halves = torch.randn(2, 3, 2, group, dim, generator=random)
    moduli = torch.rand(2, 1, 2, group, dim // 2, generator=random)

    scores = band_scores(keys, halves, moduli)

    bands = torch.complex(*keys.double().chunk(2, dim=-1))
    weights = torch.complex(*halves.double().chunk(2, dim=-1))
    expected = torch.einsum("lehgf,lehcf->lehgc", weights, bands.conj()).real
    expected += torch.einsum("lehgf,lehcf->lehgc", moduli.double().expand(2, 3, 2, group, -1), bands.abs())
    assert scores is not None
    assert torch.allclose(scores.double(), expected, rtol=1e-5, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
def test_bfloat16_keys_are_widened_and_nothing_else(threads: int) -> None:
    """The same bits as from keys that were widened before, also of halves whose lowest and sign bits are set."""
    bits = torch.randint(-(2**15), 2**15, (2, 3, 2, 37, 64), dtype=torch.int16)
    keys = torch.where((bits & 0x7F80) == 0x7F80, 0, bits).view(torch.bfloat16).clamp(-1e4, 1e4)
    halves, moduli = torch.randn(2, 3, 2, 3, 64), torch.rand(2, 1, 2, 3, 32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = band_scores(keys, halves, moduli)
    finally:
        torch.set_num_threads(before)

    assert found is not None
    assert torch.equal(found, band_scores(keys.float(), halves, moduli))


@needs_compiler
def test_a_row_does_not_depend_on_its_neighbours() -> None:
    """The same row alone and among others: the same bits."""
    keys, halves, moduli = torch.randn(2, 5, 2, 21, 32), torch.randn(2, 5, 2, 2, 32), torch.rand(2, 1, 2, 2, 16)
    together, alone = band_scores(keys, halves, moduli), band_scores(keys[:, 3:4], halves[:, 3:4], moduli)
    assert together is not None
    assert alone is not None
    assert torch.equal(together[:, 3:4], alone)


@pytest.mark.parametrize(
    ("dim", "group", "dtype"), [(48, 2, torch.float32), (32, 17, torch.float32), (32, 2, torch.float64)]
)
def test_declines_what_it_is_not_made_for(dim: int, group: int, dtype: torch.dtype) -> None:
    """Bands that do not fill a vector, groups beyond the registers, other types: the caller takes the plain path."""
    keys, halves, moduli = (
        torch.zeros(n, size, dtype=dtype) for n, size in ((5, dim), (group, dim), (group, dim // 2))
    )
    assert band_scores(keys, halves, moduli) is None


def test_declines_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are switched off or cannot be built: the caller takes the plain path."""
    monkeypatch.setattr("designspace.kernels.band_scores.load_library", lambda name: None)
    assert band_scores(torch.zeros(5, 32), torch.zeros(2, 32), torch.zeros(2, 16)) is None
