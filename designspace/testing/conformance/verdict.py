"""How the kit says that a strategy fails: an `AssertionError` that names the strategy, the case and what was got."""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import Strategy


def expect(holds: bool, message: str) -> None:
    """Raise with `message` unless the condition holds. Unlike `assert` it also works under `python -O`.

    Raises:
        AssertionError: the condition does not hold.
    """
    if not holds:
        raise AssertionError(message)


def named(strategy: Strategy) -> str:
    """Return what messages call a strategy, e.g. `scoring 'snapkv'`."""
    return f"{strategy.axis} {strategy.kind!r}"


def first_difference(a: Tensor, b: Tensor) -> str:
    """Return where two tensors of one shape first differ, and what stands there."""
    where = (a != b).nonzero()
    if not where.numel():
        return "no difference"
    at = tuple(where[0].tolist())
    return f"first at {at}: {a[at].item()} and {b[at].item()}"


def expect_equal(a: Tensor, b: Tensor, message: str) -> None:
    """Raise unless two tensors are equal in shape, type and every element."""
    expect(
        a.shape == b.shape and a.dtype == b.dtype,
        f"{message}: {a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}",
    )
    if not torch.equal(a, b):
        expect(False, f"{message}; {first_difference(a, b)}")


def expect_close(a: Tensor, b: Tensor, message: str) -> None:
    """Raise unless two float tensors agree up to the order in which float32 sums are formed."""
    scale = float(a.abs().amax()) if a.numel() else 0.0
    close = torch.isclose(a, b, rtol=1e-4, atol=1e-5 * max(1.0, scale))
    if not bool(close.all()):
        expect(False, f"{message}; {first_difference(a.masked_fill(close, 0.0), b.masked_fill(close, 0.0))}")
