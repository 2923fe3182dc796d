"""What goes into the slots of a row: an encoded text, and which of its tokens are kept in which order."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from designspace.axes import Contents, Observed, Tracker
from designspace.axes.ranking import packing_order
from designspace.errors import InvariantViolation


class Prompt(NamedTuple):
    """One text after its forward pass: keys, values [L,1,H_kv,P,D], positions [L,1,H_kv,P], what was observed.

    n_tokens: its length, also the position of the next token. is_whole: whether every head holds all of its tokens; False
    where it was cut block by block.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    observed: Observed
    n_tokens: int
    is_whole: bool = True

    @property
    def size(self) -> int:
        """Tokens per (layer, KV head) that are held, rounded up where heads differ in their total."""
        present = self.positions >= 0
        return self.n_tokens if self.is_whole else -(-int(present.sum()) // present[..., 0].numel())


class CompressionResult(NamedTuple):
    """The outcome of an event. order: [L,E,H_kv,C] int64, kept slots first, by position; counts: [L,E,H_kv] int64.

    contents: keys and values [L,E,H_kv,C,D], or None where no slot's has changed. mass: [L,E,H_kv,C] or None. Both in the order
    before packing. memory: [L,E,H_kv,n] or None.
    tracked: the trackers' states [L,E,H_kv,C,channels] that the event updated, in the order before packing.
    error: [E] float32, the expected relative error of attention for what was drawn, or None: nothing was.
    """

    order: Tensor
    counts: Tensor
    contents: Contents = Contents()
    mass: Tensor | None = None
    memory: Tensor | None = None
    tracked: Mapping[Tracker, Tensor] = MappingProxyType({})
    error: Tensor | None = None

    @property
    def merged(self) -> bool:
        """Whether what slots hold has changed."""
        return self.contents.keys is not None or self.contents.values is not None

    def fitted(self, capacity: int) -> tuple[Tensor, Tensor]:
        """Return the order cut or padded to `capacity` slots and the mask of filled slots, both [L,E,H_kv,capacity].

        Raises:
            InvariantViolation: a head keeps more tokens than it has slots.
        """
        if int(self.counts.amax()) > capacity:
            raise InvariantViolation(f"an event kept {int(self.counts.amax())} tokens in one head of {capacity} slots")
        missing = capacity - self.order.shape[-1]
        order = torch.nn.functional.pad(self.order, (0, missing)) if missing > 0 else self.order[..., :capacity]
        return order, torch.arange(capacity, device=order.device) < self.counts[..., None]


def keep_all(text: Prompt) -> CompressionResult:
    """Return a packing that keeps a whole text."""
    present = text.positions >= 0
    return CompressionResult(packing_order(present), present.sum(dim=-1))
