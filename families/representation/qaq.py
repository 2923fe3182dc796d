"""QAQ: each token gets as many bits as its attention and the recent queries call for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from designspace.axes import Geometry, Needs, Observed, Representation, SlotState, SlotStore, StoreSpec, Tracker
from designspace.errors import DeclarationError, InvariantViolation
from families.representation.token_slots import get, moved, position_at, put


@dataclass(frozen=True)
class RecentMaximum(Tracker):
    """Remember the attention that each of the last `rows` queries gave to a slot, newest last.

    Of the query heads that share a KV head, the largest attention counts.
    """

    rows: int

    @property
    def channels(self) -> int:
        """One number per slot and query."""
        return self.rows

    def observe(self, state: Tensor, weights: Tensor, positions: Tensor, now: Tensor) -> Tensor:
        """Replace the oldest query's number by the newest's."""
        newest = weights.unflatten(1, (state.shape[1], -1)).amax(dim=2)
        return torch.cat([state[..., 1:], newest[..., None]], dim=-1)


@dataclass(frozen=True)
class QAQ(Representation):
    """Store each token in as many bits as its attention and the recent queries call for [dong2024qaq].

    Post-RoPE keys and values have uniform codes whose width differs per token and KV head. N is the number of held
    tokens, a the largest attention that a token got from the last `window` queries, q the largest norm of those queries
    (a and q over the query heads that share a KV head), e_V and e_K the errors allowed in values and keys, and r the
    range of the token's elements:

        e_V = sqrt(12 / N) epsilon / a      e_K = sqrt(12 / q * ln(N^3 epsilon^2 / (N - 1) + 1))
        bits = ceil(log2(r / (2 e) + 1)), within [min_bits, max_bits]

    as in the released code; its derivation suggests the square of q. The newest window - 1 tokens have max_bits. A
    token is encoded again, from its decoded form, when it is no longer among them, and by a compression event. It never
    gets more bits than it had, because they would restore nothing (the published method keeps the originals elsewhere;
    here everything that is held is counted).

    **Packing of mixed widths is hypothetical**: the tensors hold one code per byte. Counted are, per token, head and
    tensor, ceil(bits D / 8) bytes of codes, scale and minimum in the model's type, one byte for the width, and for each
    outlier its value and two bytes of index (the released code leaves the index out). The tracker's 4 `window` bytes
    per token and head count as auxiliary state.

    Attributes:
        epsilon: allowed error of the output, above 0; 0.01 by default. The authors search it per model, so the default
            is no recommendation.
        window: number of recent queries that are looked at, at least 2; 5 by default. The newest window - 1 tokens keep
            the full width.
        min_bits, max_bits: limits of the code width in bits, within 1 … 8; 1 and 8 by default.
        outliers: fraction of a token's elements that are stored exactly, half of them the smallest and half the
            largest, rounded up; 0.01 by default, 0 for none.
    """

    kind: ClassVar[str] = "qaq"
    citation: ClassVar[str | None] = "dong2024qaq"
    bytes_depend_on_data: ClassVar[bool] = True

    epsilon: Annotated[float, Gt(0)] = 0.01
    window: Annotated[int, Ge(2)] = 5
    min_bits: Annotated[int, Ge(1), Le(8)] = 1
    max_bits: Annotated[int, Ge(1), Le(8)] = 8
    outliers: Annotated[float, Ge(0), Lt(1)] = 0.01

    def __post_init__(self) -> None:
        """Check the order of the two limits."""
        super().__post_init__()
        if self.min_bits > self.max_bits:
            raise DeclarationError(
                f"min_bits must be at most max_bits, got min_bits={self.min_bits}, max_bits={self.max_bits}"
            )

    @property
    def tracker(self) -> RecentMaximum:
        """The tracker that remembers the recent attention."""
        return RecentMaximum(self.window)

    def needs(self) -> Needs:
        """Return the need for the last queries and their attention."""
        return Needs(queries=self.window, trackers=(self.tracker,))

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse head dimensions of which the outliers would leave fewer than two elements."""
        if 2 * self.n_outliers(geometry.head_dim) > geometry.head_dim - 2:
            return f"qaq keeps outliers={self.outliers} of head_dim={geometry.head_dim} apart, which leaves nothing to code"
        return None

    def n_outliers(self, dim: int) -> int:
        """Return the number of outliers on each side of a token with `dim` elements."""
        return math.ceil(self.outliers * dim / 2)

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty store."""
        return QAQStore(self, room)

    def value_bits(self, width: Tensor, attention: Tensor, n_tokens: Tensor) -> Tensor:
        """Return the bits of values whose elements span `width`; all arguments are float32 and broadcast."""
        allowed = torch.sqrt(12 / n_tokens) * self.epsilon / attention.clamp(min=torch.finfo(torch.float32).tiny)
        return self._bits(width, allowed)

    def key_bits(self, width: Tensor, query_norm: Tensor, n_tokens: Tensor) -> Tensor:
        """Return the bits of keys whose elements span `width`; a single token counts as two."""
        n_tokens = n_tokens.clamp(min=2)
        spread = torch.log1p(n_tokens**3 * self.epsilon**2 / (n_tokens - 1))
        return self._bits(width, torch.sqrt(12 / query_norm.clamp(min=torch.finfo(torch.float32).tiny) * spread))

    def _bits(self, width: Tensor, allowed: Tensor) -> Tensor:
        bits = torch.ceil(torch.log2(width / (2 * allowed) + 1))
        return bits.clamp(self.min_bits, self.max_bits).to(torch.uint8)


class Coded(NamedTuple):
    """Uniform codes. codes: [...,D] uint8; bits: [...] uint8; scale, minimum: [...]; outliers, places: [...,2h]."""

    codes: Tensor
    bits: Tensor
    scale: Tensor
    minimum: Tensor
    outliers: Tensor
    places: Tensor

    def decoded(self) -> Tensor:
        """Return the elements [...,D] in the scale's type."""
        x = self.codes.float() * self.scale.float()[..., None] + self.minimum.float()[..., None]
        return x.to(self.scale.dtype).scatter(-1, self.places.long(), self.outliers)


def span(x: Tensor, n_outliers: int) -> Tensor:
    """Return the range [...] float32 of x [...,D] without the `n_outliers` smallest and largest elements."""
    ordered = x.float().sort(dim=-1).values
    return ordered[..., x.shape[-1] - 1 - n_outliers] - ordered[..., n_outliers]


def encode(x: Tensor, bits: Tensor, n_outliers: int) -> Coded:
    """Encode x [...,D] with `bits` [...] per token; rounding is half to even, a constant token gets scale 1."""
    order = x.argsort(dim=-1, stable=True)
    last = x.shape[-1] - n_outliers
    places = torch.cat([order[..., :n_outliers], order[..., last:]], dim=-1)
    low, high = (x.gather(-1, order[..., at : at + 1])[..., 0] for at in (n_outliers, last - 1))
    levels = 2.0 ** bits.float() - 1
    scale = ((high.float() - low.float()) / levels).to(x.dtype)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    steps = ((x.float() - low.float()[..., None]) / scale.float()[..., None]).round()
    codes = torch.minimum(steps.clamp(min=0), levels[..., None]).to(torch.uint8)
    return Coded(codes, bits, scale, low, x.gather(-1, places), places.to(torch.int16))


class QAQStore(SlotStore):
    """The tensors of `Coded`, once for keys and once for values, with [L,B,H,C] in front.

    positions: [L,B,H,C] int32, a copy of the positions in the cache, which counts their bytes.
    """

    def __init__(self, config: QAQ, room: StoreSpec) -> None:
        geometry = room.geometry
        self.config, self.dim = config, geometry.head_dim
        self.n_outliers = config.n_outliers(self.dim)
        shape = (geometry.n_layers, room.rows, geometry.n_kv_heads, room.capacity)

        def new(*extra: int, kind: torch.dtype = room.dtype, fill: int = 0) -> Tensor:
            return torch.full((*shape, *extra), fill, dtype=kind, device=room.device)

        self.positions = new(kind=torch.int32, fill=-1)
        self.key_codes, self.value_codes = (new(self.dim, kind=torch.uint8) for _ in range(2))
        self.key_bits, self.value_bits = (new(kind=torch.uint8, fill=1) for _ in range(2))
        self.key_scale, self.key_minimum, self.value_scale, self.value_minimum = (new() for _ in range(4))
        self.key_outliers, self.value_outliers = (new(2 * self.n_outliers) for _ in range(2))
        self.key_places, self.value_places = (new(2 * self.n_outliers, kind=torch.int16) for _ in range(2))

    def _keys(self) -> Coded:
        return Coded(
            self.key_codes, self.key_bits, self.key_scale, self.key_minimum, self.key_outliers, self.key_places
        )

    def _values(self) -> Coded:
        return Coded(
            self.value_codes, self.value_bits, self.value_scale, self.value_minimum, self.value_outliers,
            self.value_places,
        )  # fmt: skip

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Encode one token [B,H,D] per (row, head) at full width.

        The token that is no longer among the newest ones is encoded again.
        """
        self._write_bookkeeping(layer, slot, held)
        put(self.positions[layer], slot, position_at(held.positions, slot))
        full = torch.full_like(slot, self.config.max_bits, dtype=torch.uint8)
        for store, x in ((self._keys(), keys), (self._values(), values)):
            self._put(store, layer, slot, encode(x, full, self.n_outliers))

    def _put(self, store: Coded, layer: int, slot: Tensor, coded: Coded) -> None:
        for tensor, new in zip(store, coded, strict=True):
            put(tensor[layer], slot, new)

    def _write_bookkeeping(self, layer: int, slot: Tensor, held: SlotState) -> None:
        """Give the token that is window - 1 slots behind `slot` [B,H] the bits that it calls for."""
        leaving = slot - (self.config.window - 1)
        is_there, leaving = leaving >= 0, leaving.clamp(min=0)
        # The newest place of the window waits for the query of this very step.
        norm = _query_norm(held.observed, slot.shape[1], slice(-1))
        attention = get(held.observed.tracked[self.config.tracker], leaving).amax(dim=-1)
        n_tokens = slot.float() + 1
        before = [Coded(*(get(x[layer], leaving) for x in store)) for store in (self._keys(), self._values())]
        for store, old, asked in zip(
            (self._keys(), self._values()), before, self._asked(before, norm, attention, n_tokens), strict=True
        ):
            bits = torch.where(is_there, torch.minimum(asked, old.bits), old.bits)
            new = encode(old.decoded(), bits, self.n_outliers)
            kept = (torch.where(_like(is_there, a), a, b) for a, b in zip(new, old, strict=True))
            self._put(store, layer, leaving, Coded(*kept))

    def _asked(self, tokens: list[Coded], norm: Tensor, attention: Tensor, n_tokens: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = (span(x.decoded(), self.n_outliers) for x in tokens)
        return self.config.key_bits(keys, norm, n_tokens), self.config.value_bits(values, attention, n_tokens)

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return one layer's decoded keys and values, [B,H,C,D]."""
        keys, values = (Coded(*(x[layer] for x in store)).decoded() for store in (self._keys(), self._values()))
        return keys, values

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys and values [L,E,H_kv,C,D] of some rows of all layers."""
        keys, values = (Coded(*(x[:, rows] for x in store)).decoded() for store in (self._keys(), self._values()))
        return keys, values

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Encode whole rows [E] again; keys, values: [L,E,H,C,D]."""
        positions, counts = held.positions.long(), held.counts.long()[..., None]
        slot = torch.arange(keys.shape[3], device=keys.device)
        is_newest = slot >= counts - (self.config.window - 1)
        norm = _query_norm(held.observed, keys.shape[2], slice(None))[..., None]
        attention = held.observed.tracked[self.config.tracker].amax(dim=-1)
        asked = (
            self.config.key_bits(span(keys, self.n_outliers), norm, counts.float()),
            self.config.value_bits(span(values, self.n_outliers), attention, counts.clamp(min=1).float()),
        )
        before = self.read_rows(rows, held)
        for store, x, bits, read in zip((self._keys(), self._values()), (keys, values), asked, before, strict=True):
            index, was_here = moved(self.positions[:, rows], positions, read, x)
            most = torch.where(was_here, store.bits[:, rows].gather(-1, index), self.config.max_bits)
            bits = torch.where(is_newest, most, torch.minimum(bits, most))
            for tensor, new in zip(store, encode(x, bits, self.n_outliers), strict=True):
                tensor[:, rows] = new
        self.positions[:, rows] = positions.to(torch.int32)

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: bytes of the filled slots if codes were packed, with all that is needed to read them."""
        filled = torch.arange(self.positions.shape[-1], device=counts.device) < counts.long()[..., None]
        itemsize = self.key_scale.element_size()
        fixed = 2 * itemsize + 1 + 2 * self.n_outliers * (itemsize + 2)
        per_slot = sum(fixed + (bits.long() * self.dim + 7) // 8 for bits in (self.key_bits, self.value_bits))
        return (filled * per_slot).sum(dim=(0, 2, 3))

    def allocated_bytes(self) -> int:
        """Return the size of all tensors."""
        return sum(tensor.nbytes for tensor in vars(self).values() if isinstance(tensor, Tensor))


def _query_norm(observed: Observed, n_heads: int, of_window: slice) -> Tensor:
    """Return the largest norm of a KV head's recent queries, [...,H_kv], from queries [...,H_q,w,D]; 0 where none was seen."""
    if observed.queries is None or observed.query_positions is None:
        raise InvariantViolation("a qaq store needs the queries that the representation declared")
    queries, seen = observed.queries[..., of_window, :], observed.query_positions[:, of_window] >= 0
    norms = queries.float().norm(dim=-1) * seen[:, None]  # [...,H_q,w]
    return norms.amax(dim=-1).unflatten(-1, (n_heads, -1)).amax(dim=-1)


def _like(mask: Tensor, x: Tensor) -> Tensor:
    """Return a mask [B,H] with as many dimensions as x [B,H,...]."""
    return mask.reshape(*mask.shape, *([1] * (x.dim() - mask.dim())))
