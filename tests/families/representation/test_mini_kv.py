"""MiniKV's codes: how many tokens stay exact, and what is read back, against a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from designspace.errors import DeclarationError
from families.representation.mini_kv import MiniKV, MiniKVStore
from tests.families.representation.drive import Driver, geometry_of, numbers

GEOMETRY = geometry_of(layers=2, heads=2, dim=16)


def exact(d: Driver) -> list[int]:
    """How many keys (and values) of a head are exact: the same in all heads of these tests."""
    store = d.store
    assert isinstance(store, MiniKVStore)
    keys, values = store.n_coded(d.counts, (slice(None), slice(None)))
    assert torch.equal(keys, values)
    return (d.counts - keys).unique().tolist()


@pytest.mark.parametrize(("n", "expected"), [(64, 0), (127, 15), (128, 0), (200, 8), (9, 9), (1, 1)])
def test_what_a_prompt_leaves_exact(n: int, expected: int) -> None:
    """The tokens that do not fill a group of sixteen, and no others."""
    d = Driver(MiniKV(), GEOMETRY, capacity=200)
    keys, values = numbers(2, 1, 2, n, 16), numbers(2, 1, 2, n, 16, seed=1)
    d.load(keys, values)

    assert exact(d) == [expected]
    for read, given in zip(d.read(), (keys, values), strict=True):
        same = (read[..., :n, :] == given).all(dim=-1)
        assert bool(same[..., n - expected :].all())
        assert not bool(same[..., : n - expected].any())


@pytest.mark.parametrize("n", [40, 64, 127])
def test_all_are_encoded_when_there_are_enough(n: int) -> None:
    """Keys and values together, whenever 128 are exact, counted from what the prompt left."""
    d = Driver(MiniKV(), GEOMETRY, capacity=n + 300)
    d.load(numbers(2, 1, 2, n, 16), numbers(2, 1, 2, n, 16, seed=1))
    for step in range(1, 290):
        d.append(numbers(2, 1, 2, 16, seed=step), numbers(2, 1, 2, 16, seed=-step), n + step - 1)
        assert exact(d) == [(n % 16 + step) % 128]


def quantised(x: list[float], bits: int) -> list[float]:
    """Quantise a group and back, in the numbers of the store: codes of codes often lie halfway between two codes."""
    numbers = np.array(x, dtype=np.float32)
    low = numbers.min()
    step = (numbers.max() - low) / np.float32(2**bits - 1) or np.float32(1)
    return [float(np.rint((y - low) / step) * step + low) for y in numbers]


class Reference:
    """One head's lists of tokens, in codes and exact."""

    def __init__(self, config: MiniKV) -> None:
        self.config = config
        self.coded: list[tuple[list[float], list[float]]] = []
        self.exact: list[tuple[list[float], list[float]]] = []

    def encode(self, tokens: list[tuple[list[float], list[float]]]) -> None:
        """Append tokens, a number of whole groups, to the codes."""
        group, bits = self.config.group, self.config.bits
        for start in range(0, len(tokens), group):
            block = tokens[start : start + group]
            channels = [quantised([key[c] for key, _ in block], bits) for c in range(16)]
            for i, (_, value) in enumerate(block):
                parts = [y for c in range(0, 16, group) for y in quantised(value[c : c + group], bits)]
                self.coded.append(([channel[i] for channel in channels], parts))

    def load(self, tokens: list[tuple[list[float], list[float]]]) -> None:
        """Begin with a prompt."""
        whole = len(tokens) - len(tokens) % self.config.group
        self.coded, self.exact = [], tokens[whole:]
        self.encode(tokens[:whole])

    def append(self, key: list[float], value: list[float]) -> None:
        """Take in one token."""
        self.exact.append((key, value))
        if len(self.exact) == self.config.residual:
            self.encode(self.exact)
            self.exact = []

    def bytes(self) -> int:
        """Codes, a scale and a minimum of four bytes per group, exact tokens, the number of either."""
        per_token = 2 * (16 * self.config.bits // 8 + 2 * 4 * 16 // self.config.group)
        return len(self.coded) * per_token + len(self.exact) * 2 * 16 * 4 + 4


CONFIGS = [MiniKV(bits=2, group=4, residual=8), MiniKV(bits=4, group=8, residual=8), MiniKV(bits=1, residual=16)]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("n", [2, 8, 13])
def test_what_is_read_equals_the_slow_reference(config: MiniKV, n: int) -> None:
    """A prompt, tokens, an event that drops some, and more tokens; bytes too."""
    keys, values = numbers(2, 1, 2, 45, 16), numbers(2, 1, 2, 45, 16, seed=1)
    d = Driver(config, GEOMETRY, capacity=48)
    d.load(keys[:, :, :, :n], values[:, :, :, :n])
    heads = {at: Reference(config) for at in np.ndindex(2, 2)}

    def tokens(at: tuple[int, ...], start: int, end: int) -> list[tuple[list[float], list[float]]]:
        layer, head = at
        rows = (x[layer, 0, head, start:end].tolist() for x in (keys, values))
        return list(zip(*rows, strict=True))

    def check() -> None:
        read = d.read()
        for (layer, head), reference in heads.items():
            held = [*reference.coded, *reference.exact]
            for x, expected in zip(read, zip(*held, strict=True), strict=True):
                torch.testing.assert_close(x[layer, 0, head, : len(held)].tolist(), list(expected), rtol=0, atol=1e-5)
        assert d.held_bytes() == [sum(reference.bytes() for reference in heads.values())]

    for at, reference in heads.items():
        reference.load(tokens(at, 0, n))
    for position in range(n, 45):
        check()
        if position == 30:
            keep = (d.positions >= 0) & (d.positions % 3 != 1)
            for (layer, head), reference in heads.items():
                held = [*reference.coded, *reference.exact]
                reference.load([held[i] for i in keep[layer, 0, head].nonzero()[:, 0].tolist()])
            d.keep(keep)
            check()
        d.append(keys[:, :, :, position], values[:, :, :, position], position)
        for at, reference in heads.items():
            reference.append(*tokens(at, position, position + 1)[0])
    check()


def test_wrong_parameters_are_refused() -> None:
    """Exact tokens must be whole groups when they are encoded, and so must heads."""
    with pytest.raises(DeclarationError, match="residual must be a multiple of group, got residual=20, group=16"):
        MiniKV(residual=20)
    assert MiniKV().unsupported_reason(GEOMETRY) is None
    assert "group=16, head_dim=24" in str(MiniKV().unsupported_reason(geometry_of(dim=24)))
