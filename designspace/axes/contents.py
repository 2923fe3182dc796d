"""What the slots of an event hold: keys and values, as far as they were declared."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from designspace.axes.needs import Needs


@dataclass(frozen=True, eq=False)
class Contents:
    """Keys and values [L,E,H_kv,C,D] of slots as attention sees them: post-RoPE, dequantised.

    None: not at hand, because no strategy of the mechanism declared it, or hidden from one that did not. In the outcome of an
    event, None: the slots hold what they held before.
    """

    keys: Tensor | None = None
    values: Tensor | None = None

    @property
    def missing(self) -> Needs:
        """What is not at hand."""
        return Needs(keys=self.keys is None, values=self.values is None)

    def narrowed(self, needs: Needs) -> Contents:
        """Return only what `needs` declares."""
        return Contents(self.keys if needs.keys else None, self.values if needs.values else None)

    def changed_from(self, before: Contents) -> Contents:
        """Return what is another tensor than `before`, and None for what is the same one."""
        return Contents(
            None if self.keys is before.keys else self.keys, None if self.values is before.values else self.values
        )

    def over(self, before: Contents) -> Contents:
        """Return this, with what is missing as it was `before`."""
        return Contents(
            before.keys if self.keys is None else self.keys, before.values if self.values is None else self.values
        )
