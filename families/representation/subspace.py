"""Subspace: values as coordinates in a few directions that were measured before the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Geometry, Needs, Representation, SlotState, SlotStore, StoreSpec
from designspace.errors import InvariantViolation
from families.representation.token_slots import put

V_PCA = "v-pca"


@dataclass(frozen=True)
class Subspace(Representation):
    """Store keys in full, and values as coordinates in their first `rank` principal components [sun2026minimal].

    The calibration "v-pca" measures the mean m and the components P [D,r] of each head's values. A slot holds c = (v -
    m) P in the model's type and is read as m + c P'. The source paper gives the idea in one line; that keys stay whole
    follows from the saving it states, (128 + 128) / (128 + 32) = 1.6. Values that are read lie in the subspace, so a
    compression event, which loads them, finds the same coordinates up to rounding. Mean and components belong to the
    model and are not counted.

    Attributes:
        rank: number of components kept, at least 1; 32 by default. The head dimension loses nothing.
    """

    kind: ClassVar[str] = "subspace"
    citation: ClassVar[str | None] = "sun2026minimal"

    rank: Annotated[int, Ge(1)] = 32

    def needs(self) -> Needs:
        """Return the calibration that measured the components."""
        return Needs(calibrations=(V_PCA,))

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse a rank above the head dimension."""
        if self.rank > geometry.head_dim:
            return (
                f"subspace rank must be at most the head dimension, got rank={self.rank}, head_dim={geometry.head_dim}"
            )
        return None

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty store of keys and coordinates."""
        return SubspaceStore(self, room)


class Basis(NamedTuple):
    """mean: [L,1,H,1,D] and components: [L,1,H,D,r], float32."""

    mean: Tensor
    components: Tensor


class SubspaceStore(SlotStore):
    """Keys [L,B,H,C,D] and coordinates [L,B,H,C,r], both in the model's number type."""

    def __init__(self, config: Subspace, room: StoreSpec) -> None:
        geometry = room.geometry
        shape = (geometry.n_layers, room.rows, geometry.n_kv_heads, room.capacity)
        self.keys = torch.zeros(*shape, geometry.head_dim, dtype=room.dtype, device=room.device)
        self.coordinates = torch.zeros(*shape, config.rank, dtype=room.dtype, device=room.device)
        self._basis: Basis | None = None
        if V_PCA in room.artefacts:  # without it, a store can still say how many bytes its tokens would take
            measured = room.artefacts[V_PCA]
            mean, components = (geometry.held(measured[name]).to(room.device).float() for name in ("mean", "basis"))
            self._basis = Basis(mean[:, None, :, None], components[:, None, :, :, : config.rank].contiguous())

    def _of(self, layers: slice) -> Basis:
        if self._basis is None:
            raise InvariantViolation(f"a subspace store without calibration {V_PCA!r} holds no tokens")
        return Basis(*(x[layers] for x in self._basis))

    def _project(self, layers: slice, values: Tensor) -> Tensor:
        """Return coordinates [l,E,H,C,r] of values [l,E,H,C,D]."""
        basis = self._of(layers)
        return ((values.float() - basis.mean) @ basis.components).to(self.keys.dtype)

    def _restore(self, layers: slice, coordinates: Tensor) -> Tensor:
        """Return values [l,E,H,C,D]."""
        basis = self._of(layers)
        return (basis.mean + coordinates.float() @ basis.components.mT).to(self.keys.dtype)

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Put one token [B,H,D] per (row, head) into its slot."""
        coordinates = self._project(slice(layer, layer + 1), values[None, :, :, None])[0, :, :, 0]
        put(self.keys[layer], slot, keys)
        put(self.coordinates[layer], slot, coordinates)

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return one layer's keys, without a copy, and restored values, [B,H,C,D]."""
        only = slice(layer, layer + 1)
        return self.keys[layer], self._restore(only, self.coordinates[only])[0]

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys and values [L,E,H_kv,C,D] of some rows of all layers."""
        return self.keys[:, rows], self._restore(slice(None), self.coordinates[:, rows])

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Replace rows [E] by keys and values [L,E,H,C,D]."""
        self.keys[:, rows] = keys
        self.coordinates[:, rows] = self._project(slice(None), values)

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: (D + r) itemsize bytes per token and head."""
        token_bytes = (self.keys.shape[-1] + self.coordinates.shape[-1]) * self.keys.element_size()
        return counts.long().sum(dim=(0, 2)) * token_bytes

    def allocated_bytes(self) -> int:
        """Return the size of both tensors."""
        return self.keys.nbytes + self.coordinates.nbytes
