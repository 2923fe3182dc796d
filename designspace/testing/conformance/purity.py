"""Determinism and good manners: equal inputs give equal outputs, nothing handed in is changed, no global state is used."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from designspace.testing.conformance.verdict import expect, expect_equal


def tensors_in(thing: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor that can be reached from dataclasses, mappings, sequences and attributes, with its path."""
    if isinstance(thing, Tensor):
        yield name, thing
    elif isinstance(thing, dict):
        for key, value in thing.items():
            yield from tensors_in(value, f"{name}[{key!r}]")
    elif isinstance(thing, list | tuple):
        for i, value in enumerate(thing):
            yield from tensors_in(value, f"{name}[{i}]")
    elif is_dataclass(thing) and not isinstance(thing, type):
        parts = {f.name: getattr(thing, f.name) for f in fields(thing)} | vars(thing)
        for key, value in parts.items():
            yield from tensors_in(value, f"{name}.{key}" if name else key)


def check_pure(who: str, act: Callable[[], Any], inputs: Any) -> None:
    """Check that `act` gives the same tensors twice, changes no input, and neither reads nor moves global generators."""
    before = {path: x.clone() for path, x in tensors_in(inputs)}
    states = _generators()
    first = {path: x.clone() for path, x in tensors_in(act())}
    expect(
        _generators() == states,
        f"{who} uses a global random generator: take numbers from designspace.axes.randomness.hash_uniform",
    )
    for path, x in tensors_in(inputs):
        expect(torch.equal(x, before[path]), f"{who} changed its input {path}, which is only to be read")
    with _other_generators():
        second = dict(tensors_in(act()))
    for path, x in first.items():
        expect_equal(x, second[path], f"{who} gave two outcomes for the same input")


def _generators() -> tuple[Any, ...]:
    return (torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate())


@contextmanager
def _other_generators() -> Iterator[None]:
    """Seed the global generators differently inside, and put them back as they were."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(987654321)
    np.random.seed(987654321)
    random.seed(987654321)
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
        random.setstate(python_state)
