"""KVSharer: some layers have no cache and read the cache of another layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge
from torch import Tensor

from designspace.axes import Artefact, Geometry, HeadRouting, Needs, View
from designspace.errors import DeclarationError

ARTEFACT = "kv-sharer"


@dataclass(frozen=True)
class KVSharer(HeadRouting):
    """Let some layers attend, with their own queries, to the keys and values of another layer [yang2024kvsharer].

    The calibration "kv-sharer" lists replacements in the order in which it accepted them; the first `n_shared` are
    made. Shares are uniform over the remaining caches, whose bytes are (L - n_shared) / L of all. No compression events
    are needed.

    Attributes:
        n_shared: number of layers without a cache, at least 1 and less than the model's layers; 1 by default. The
            published demonstration shares 4 of 32.
    """

    kind: ClassVar[str] = "kv-sharer"
    citation: ClassVar[str | None] = "yang2024kvsharer"
    works_without_events: ClassVar[bool] = True

    n_shared: Annotated[int, Ge(1)] = 1

    def needs(self) -> Needs:
        """Return the calibration that chose the replacements."""
        return Needs(calibrations=(ARTEFACT,))

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse models with too few layers."""
        if self.n_shared < geometry.n_layers:
            return None
        return f"n_shared must be smaller than the number of layers, got n_shared={self.n_shared}, layers={geometry.n_layers}"

    def owners(self, geometry: Geometry, artefacts: Mapping[str, Artefact]) -> tuple[int, ...]:
        """Return for each layer the layer whose cache it reads.

        Raises:
            DeclarationError: the calibration accepted fewer replacements than `n_shared`.
        """
        pairs = artefacts[ARTEFACT]["pairs"].tolist()
        if len(pairs) < self.n_shared:
            raise DeclarationError(
                f"n_shared must be at most the {len(pairs)} replacements that the calibration accepted, "
                f"got n_shared={self.n_shared}"
            )
        return owners_of(pairs[: self.n_shared], geometry.n_layers)

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return the target for all heads that own a cache, [L,E,H_kv]; target: [E]."""
        return target.long()[None, :, None].expand_as(view.counts)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the target."""
        return target


def owners_of(pairs: Iterable[tuple[int, int]], n_layers: int) -> tuple[int, ...]:
    """Return for each layer the layer whose cache it reads.

    Of each pair (later, earlier), the later layer reads the cache of the earlier one. If the earlier layer is itself
    replaced, both read the cache that it reads: an owner is never replaced.
    """
    owners = list(range(n_layers))
    for later, earlier in pairs:
        owners[later] = earlier
    for layer in range(n_layers):  # upwards, so that the earlier layer's own owner is final
        owners[layer] = owners[owners[layer]]
    return tuple(owners)
