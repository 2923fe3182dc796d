"""Full precision: a slot holds the key and the value in the model's own type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from designspace.axes import Representation, SlotStore, StoreSpec
from designspace.axes.full_store import FullStore


@dataclass(frozen=True)
class FullPrecision(Representation):
    """Store keys and values as the model computed them, in its own number type.

    A token takes 2 D numbers per KV head. There are no parameters.
    """

    kind: ClassVar[str] = "full"

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty full-precision store."""
        return FullStore(room)
