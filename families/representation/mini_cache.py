"""MiniCache: two adjacent layers of the deeper half share one direction per token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from annotated_types import Ge, Le
from torch import Tensor

from designspace.axes import Composition, Geometry, Representation, SlotState, SlotStore, StoreSpec
from families.representation.token_slots import get, position_at, put

_SAME = 1e-3  # an angle, in half turns, that is rounding: the two were merged before


@dataclass(frozen=True)
class MiniCache(Representation):
    """Store a token of two adjacent layers as one shared direction and two norms [liu2024minicache].

    From layer `start` on, the layers (start, start + 1), (start + 2, start + 3), … are pairs; a layer without a partner
    is stored in full. For vectors x, y of a pair, the direction is their spherical interpolation

        e = (sin((1 - t) w) x / |x| + sin(t w) y / |y|) / sin w,   w the angle between them,

    and |x| e and |y| e are read. Keys and values have a direction each. A token whose keys are further apart than
    `threshold` half turns is stored in full for both layers, keys and values. If `retained` is a number, prompts and
    events store that fraction of each head's tokens in full instead, rounded up, those furthest apart, as
    re-implementations do; the threshold then applies only to single new tokens, of which no fraction can be taken. We
    could not determine which of the two rules is the paper's, nor its scale. Tokens that are merged stay merged,
    because their keys have one direction.

    Two layers can share a token only if both hold it, in the same slot; otherwise it is stored in full. Compositions
    that would make this the rule are refused. The first layer of a pair reads its newest token exactly, until the
    second layer has written it.

    Bytes of a merged token: 2 D + 4 norms for both layers together. Bytes of a token in full: 4 D and an index of 4
    bytes.

    Attributes:
        start: number of the first layer of the first pair, among the layers that own a cache; None (the default): half
            of the layers.
        interpolation: t, the weight of the second layer, in [0, 1]; 0.6 by default.
        threshold: largest angle of merged keys in half turns, in [0, 1]; 0.5 by default.
        retained: fraction of tokens stored in full, in [0, 1], rounded up; 0.05 by default. None: the threshold decides
            for all tokens.
    """

    kind: ClassVar[str] = "mini-cache"
    version: ClassVar[int] = 2
    citation: ClassVar[str | None] = "liu2024minicache"
    bytes_depend_on_data: ClassVar[bool] = True

    start: Annotated[int, Ge(0)] | None = None
    interpolation: Annotated[float, Ge(0), Le(1)] = 0.6
    threshold: Annotated[float, Ge(0), Le(1)] = 0.5
    retained: Annotated[float, Ge(0), Le(1)] | None = 0.05

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse models in which no two layers form a pair."""
        if not self.firsts(geometry):
            start = geometry.n_layers // 2 if self.start is None else self.start
            return f"mini-cache needs two layers from start={start} on, this model has {geometry.n_layers}"
        return None

    def conflict_reason(self, mechanism: Composition) -> str | None:
        """Refuse compositions whose events leave different tokens in the layers of a pair."""
        if not mechanism.cadence.compresses:
            return None
        scoring, selector, routing = mechanism.scoring, mechanism.scoring.selector, mechanism.head_routing
        everywhere_alike = selector.kind == "top-k" or getattr(selector, "scope", None) == "global"
        if scoring.one_ranking and everywhere_alike and routing.kind == "uniform":
            return None
        return (
            "representation 'mini-cache' needs the same tokens in all layers: a scoring with one ranking for all, selector "
            "'top-k' or one of scope 'global', and head routing 'uniform', or cadence 'never'; got scoring "
            f"{scoring.kind!r}, selector {selector.kind!r}, head routing {routing.kind!r}"
        )

    def firsts(self, geometry: Geometry) -> list[int]:
        """Return the first layers of all pairs."""
        start = geometry.n_layers // 2 if self.start is None else self.start
        return list(range(start, geometry.n_layers - 1, 2))

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty store."""
        return MiniCacheStore(self, room)


class Merged(NamedTuple):
    """direction: [...,D] float32, a unit vector. norms: [...,2] float32, of the first and the second layer."""

    direction: Tensor
    norms: Tensor


def half_turns(first: Tensor, second: Tensor) -> Tensor:
    """Return the angle between vectors [...,D] in units of pi, [...] float32; 0.5 where one is zero."""
    # From the chord, not the cosine: near 0 an arc cosine in float32 is off by 1e-3.
    a, b = _unit(first), _unit(second)
    return (torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1)) * (2 / math.pi)).float()


def merge(first: Tensor, second: Tensor, interpolation: float) -> Merged:
    """Return the shared direction of vectors [...,D], and their norms.

    Vectors that are nearly parallel or opposite are interpolated along the straight line.
    """
    a, b = _unit(first), _unit(second)
    angle = half_turns(first, second)[..., None].double() * math.pi
    sine = angle.sin()
    straight = sine < 1e-4
    parts = (torch.sin((1 - interpolation) * angle) * a + torch.sin(interpolation * angle) * b) / sine.clamp(min=1e-4)
    direction = _unit(torch.where(straight, (1 - interpolation) * a + interpolation * b, parts)).float()
    return Merged(direction, torch.stack([first.float().norm(dim=-1), second.float().norm(dim=-1)], dim=-1))


def _unit(x: Tensor) -> Tensor:
    """Return unit vectors in float64: the last bit of float32 may depend on where in a batch a vector stands."""
    return torch.nn.functional.normalize(x.double(), dim=-1)


class MiniCacheStore(SlotStore):
    """Vectors for all layers, where the second vector of a merged token is unused, and norms for P pairs.

    keys, values: [L,B,H,C,D] in the model's type; a merged token has its direction in the first layer of the pair, and
    nothing in the second. key_norms, value_norms: [P,B,H,C,2]. merged: [P,B,H,C] bool. tokens: [P,B,H,C] int32, the
    positions of the first layer's tokens, a copy of the positions in the cache, which counts their bytes.
    """

    def __init__(self, config: MiniCache, room: StoreSpec) -> None:
        geometry = room.geometry
        self.config, self.firsts = config, config.firsts(geometry)
        slots = (room.rows, geometry.n_kv_heads, room.capacity)
        pairs = (len(self.firsts), *slots)

        def new(*shape: int, kind: torch.dtype = room.dtype) -> Tensor:
            return torch.zeros(shape, dtype=kind, device=room.device)

        self.keys, self.values = (new(geometry.n_layers, *slots, geometry.head_dim) for _ in range(2))
        self.key_norms, self.value_norms = (new(*pairs, 2) for _ in range(2))
        self.merged, self.tokens = new(*pairs, kind=torch.bool), new(*pairs, kind=torch.int32)

    def _pair(self, layer: int) -> tuple[int, int] | None:
        """Return the pair of a layer and its place in it, or None for a layer stored in full."""
        for pair, first in enumerate(self.firsts):
            if first <= layer <= first + 1:
                return pair, layer - first
        return None

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Put one token [B,H,D] per (row, head) into its slot.

        The second layer of a pair merges it with the token of the first.
        """
        put(self.keys[layer], slot, keys)
        put(self.values[layer], slot, values)
        place = self._pair(layer)
        if place is None:
            return
        pair, side = place
        position = position_at(held.positions, slot)
        if side == 0:
            put(self.merged[pair], slot, torch.zeros_like(slot))
            put(self.tokens[pair], slot, position)
            return
        # One that the first layer has merged already is another token.
        same = (get(self.tokens[pair], slot) == position) & ~get(self.merged[pair], slot)
        first = (get(self.keys[layer - 1], slot), get(self.values[layer - 1], slot))
        join = same & (half_turns(first[0], keys) <= self.config.threshold)
        for (x, norms), a, b in zip(self._vectors(), first, (keys, values), strict=True):
            both = merge(a, b, self.config.interpolation)
            put(x[layer - 1], slot, torch.where(join[..., None], both.direction.to(a.dtype), a))
            put(norms[pair], slot, both.norms)
        put(self.merged[pair], slot, join)

    def _vectors(self) -> tuple[tuple[Tensor, Tensor], ...]:
        return (self.keys, self.key_norms), (self.values, self.value_norms)

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return one layer [B,H,C,D]; merged tokens are direction times norm."""
        keys, values = (self._read(layer, slice(None), x, norms) for x, norms in self._vectors())
        return keys, values

    def _read(self, layer: int, rows: slice | Tensor, x: Tensor, norms: Tensor) -> Tensor:
        place = self._pair(layer)
        own = x[layer, rows]
        if place is None:
            return own
        pair, side = place
        shared = x[self.firsts[pair], rows].float() * norms[pair, rows, ..., side].float()[..., None]
        return torch.where(self.merged[pair, rows][..., None], shared.to(x.dtype), own)

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys and values [L,E,H_kv,C,D] of some rows of all layers."""
        layers = range(self.keys.shape[0])
        keys, values = (
            torch.stack([self._read(layer, rows, x, norms) for layer in layers]) for x, norms in self._vectors()
        )
        return keys, values

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Replace rows [E] by keys and values [L,E,H,C,D], and merge tokens that are close enough."""
        self.keys[:, rows], self.values[:, rows] = keys, values
        for pair, first in enumerate(self.firsts):
            positions = held.positions[first]
            same = (positions == held.positions[first + 1]) & (positions >= 0)
            join = same & ~self._apart(half_turns(keys[first], keys[first + 1]), same)
            self.tokens[pair, rows], self.merged[pair, rows] = positions.to(torch.int32), join
            for (x, norms), new in zip(self._vectors(), (keys, values), strict=True):
                both = merge(new[first], new[first + 1], self.config.interpolation)
                norms[pair, rows] = both.norms.to(norms.dtype)
                x[first, rows] = torch.where(join[..., None], both.direction.to(x.dtype), new[first])

    def _apart(self, angle: Tensor, same: Tensor) -> Tensor:
        """Return which tokens that both layers hold are stored in full, [E,H,C] bool. Ties go to the newer token.

        angle: [E,H,C] in half turns. same: [E,H,C] bool, whether both layers hold the token.
        """
        if self.config.retained is None:
            return angle > self.config.threshold
        n_retained = torch.ceil(self.config.retained * same.sum(dim=-1, keepdim=True).double() - 1e-9)
        ranked = torch.where(same & (angle > _SAME), angle, -1.0)
        order = ranked.flip(-1).argsort(dim=-1, descending=True, stable=True)
        rank = order.argsort(dim=-1).flip(-1)
        return (ranked >= 0) & (rank < n_retained)

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: one vector per token, layer and tensor, less the merged ones, plus norms and indices."""
        vector, norm = self.keys.shape[-1] * self.keys.element_size(), self.key_norms.element_size()
        counts = counts.long()
        total = counts.sum(dim=(0, 2)) * 2 * vector
        slot = torch.arange(self.keys.shape[3], device=counts.device)
        for pair, first in enumerate(self.firsts):
            filled = slot < counts[first][..., None]
            merged = (self.merged[pair] & filled).sum(dim=(1, 2))
            in_full = counts[first].sum(dim=-1) - merged
            total = total + merged * (4 * norm - 2 * vector) + in_full * 4
        return total

    def allocated_bytes(self) -> int:
        """Return the size of all tensors."""
        return sum(tensor.nbytes for tensor in vars(self).values() if isinstance(tensor, Tensor))
