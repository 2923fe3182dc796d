"""The quantiser's hand vectors and the packing of codes."""

from __future__ import annotations

import pytest
import torch

from designspace.axes import StoreSpec
from families.representation.kivi import Kivi
from families.representation.quantiser import dequantise, pack, quantise, unpack
from tests.conftest import toy_model
from tests.families.representation.drive import Driver, geometry_of, numbers


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


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8])
def test_packing_round_trip(bits: int) -> None:
    """Bytes hold 8 / bits codes each."""
    codes = torch.randint(0, 2**bits, (3, 5, 16), dtype=torch.uint8)

    assert pack(codes, bits).shape == (3, 5, 16 * bits // 8)
    assert torch.equal(unpack(pack(codes, bits), bits), codes)


def test_kivi_bytes_q1() -> None:
    """N=1000, R=128, g=32, 2 bits, D=128 in fp16: 144,256 bytes, 3.549 times less than full."""
    geometry = toy_model("llama").geometry
    geometry = type(geometry)(1, 1, 1, 128, geometry.inv_freq)
    store = Kivi().allocate(StoreSpec(geometry, 1, 1000, torch.float16, torch.device("cpu"), {}))

    assert store.held_bytes(torch.tensor([[[1000]]])).tolist() == [144_256]


def test_eight_codes_of_three_bits_lie_in_three_bytes() -> None:
    """The first code in the low bits: 1 + 2*8 + 7*64 + 5*512 + 0 + 3*2^15 + 4*2^18 + 6*2^21, in bytes from the lowest."""
    packed = pack(torch.tensor([1, 2, 7, 5, 0, 3, 4, 6], dtype=torch.uint8), 3)
    word = 1 + 2 * 8 + 7 * 64 + 5 * 512 + 3 * 2**15 + 4 * 2**18 + 6 * 2**21

    assert packed.tolist() == [word % 256, word // 256 % 256, word // 65536]


def test_values_may_have_their_own_width() -> None:
    """Keys read like those of a store with their bits, values like those of one with theirs; so do the bytes."""
    keys, values = numbers(2, 2, 2, 21, 16), numbers(2, 2, 2, 21, 16, seed=1)
    mixed, narrow, wide = (
        Driver(config, geometry_of(), rows=2, dtype=torch.float16)
        for config in (Kivi(2, 8, 8, value_bits=4), Kivi(2, 8, 8), Kivi(4, 8, 8))
    )
    for d in (mixed, narrow, wide):
        d.load(keys[:, :, :, :13].half(), values[:, :, :, :13].half())
        for position in range(13, 21):
            d.append(keys[:, :, :, position].half(), values[:, :, :, position].half(), position)

    assert torch.equal(mixed.read()[0], narrow.read()[0])
    assert torch.equal(mixed.read()[1], wide.read()[1])
    # Of 21 tokens, 16 keys and 13 values are in codes: 16 elements of b bits, and 4 bytes of scales for each 8.
    per_head = 16 * (4 + 8) + 5 * 32 + 13 * (8 + 8) + 8 * 32
    assert mixed.held_bytes() == [4 * per_head] * 2


def test_an_odd_width_of_values_is_checked_against_the_head_dimension() -> None:
    """Eight elements of one bit fill a byte, four do not."""
    assert Kivi(bits=2, group=4, residual=4, value_bits=1).unsupported_reason(geometry_of(dim=4)) is not None
    assert Kivi(bits=2, group=4, residual=4).unsupported_reason(geometry_of(dim=4)) is None
