"""The quantiser's hand vectors and the packing of codes."""

from __future__ import annotations

import pytest
import torch

from families.representation.kivi import Kivi
from families.representation.quantiser import dequantise, pack, quantise, unpack
from tests.conftest import toy_model


def test_hand_vectors() -> None:
    """[0,1,2,3] is exact; [-1,0,.5,2] has codes [0,1,2,3] and becomes [-1,0,1,2]."""
    assert dequantise(*quantise(torch.tensor([0.0, 1, 2, 3]), 2)).tolist() == [0, 1, 2, 3]
    coded = quantise(torch.tensor([-1.0, 0, 0.5, 2]), 2)

    assert coded.codes.tolist() == [0, 1, 2, 3]
    assert dequantise(*coded).tolist() == [-1, 0, 1, 2]


def test_constant_groups_are_exact() -> None:
    """The reference divides 0 by 0 here."""
    assert dequantise(*quantise(torch.full((4,), 0.7), 2)).tolist() == pytest.approx([0.7] * 4)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_error_is_at_most_half_a_step_and_requantising_changes_nothing(bits: int) -> None:
    """|x - x̂| ≤ Δ/2, and codes of x̂ in the same group are the same codes."""
    x = torch.randn(50, 32, generator=torch.Generator().manual_seed(bits))
    coded = quantise(x, bits)
    restored = dequantise(*coded)

    assert bool(((x - restored).abs() <= coded.scale / 2 + 1e-6).all())
    assert torch.equal(quantise(restored, bits).codes, coded.codes)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_packing_round_trip(bits: int) -> None:
    """Bytes hold 8 / bits codes each."""
    codes = torch.randint(0, 2**bits, (3, 5, 16), dtype=torch.uint8)

    assert pack(codes, bits).shape == (3, 5, 16 * bits // 8)
    assert torch.equal(unpack(pack(codes, bits), bits), codes)


def test_kivi_bytes_q1() -> None:
    """N=1000, R=128, g=32, 2 bits, D=128 in fp16: 144,256 bytes, 3.549 times less than full."""
    geometry = toy_model("llama").geometry
    geometry = type(geometry)(1, 1, 1, 128, geometry.inv_freq)
    store = Kivi().allocate(Room(geometry, 1, 1000, torch.float16, torch.device("cpu"), {}))

    assert store.held_bytes(torch.tensor([[[1000]]])).tolist() == [144_256]
