"""What goes into the slots of a row: an encoded text, and which of its tokens are kept in which order."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from designspace.axes import Observed
from designspace.axes.ranking import packing_order


class Prompt(NamedTuple):
    """One text after its forward pass: keys, values [L,1,H_kv,P,D], positions [L,1,H_kv,P], what was observed.

    n_tokens: its length, also the position of the next token.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    observed: Observed
    n_tokens: int


class CompressionResult(NamedTuple):
    """The outcome of an event. order: [L,E,H_kv,C] int64, kept slots first, by position; counts: [L,E,H_kv] int64.

    keys, values: [L,E,H_kv,C,D], mass: [L,E,H_kv,C] or None, all in the order before packing. memory: [L,E,H_kv,n] or None.
    """

    order: Tensor
    counts: Tensor
    keys: Tensor
    values: Tensor
    mass: Tensor | None = None
    memory: Tensor | None = None


def keep_all(text: Prompt) -> CompressionResult:
    """Return a packing that keeps a whole text."""
    held = text.positions >= 0
    return CompressionResult(packing_order(held), held.sum(dim=-1), text.keys, text.values)
