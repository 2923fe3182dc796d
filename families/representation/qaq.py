"""QAQ: each token gets as many bits as its attention and the queries call for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor

from designspace.axes import Geometry, Needs, Observed, Representation, SlotState, SlotStore, StoreSpec, Tracker
from designspace.errors import DeclarationError, InvariantViolation
from families.representation.centred_codes import Coded, encode, span
from families.representation.token_slots import get, like, moved, position_at, put, taken

_TINY = torch.finfo(torch.float32).tiny


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


class Side(NamedTuple):
    """The parameters of keys, or those of values."""

    epsilon: float
    window: int
    min_bits: int
    max_bits: int
    outliers: float

    @property
    def lag(self) -> int:
        """How many slots behind the newest one a token is when its width is chosen while decoding."""
        return max(self.window - 1, 1)

    def n_outliers(self, dim: int) -> int:
        """Return the number of outliers on each side of a token with `dim` elements."""
        return math.ceil(self.outliers / 2 * dim)

    def bits(self, width: Tensor, allowed: Tensor) -> Tensor:
        """Return the bits that keep the elements of a token, which span `width`, within `allowed`; uint8."""
        bits = torch.ceil(torch.log2(width / (2 * allowed) + 1))
        return bits.clamp(self.min_bits, self.max_bits).to(torch.uint8)


@dataclass(frozen=True)
class QAQ(Representation):
    """Store each token in as many bits as its attention and the queries call for [dong2024qaq].

    Post-RoPE keys and values have uniform codes whose width differs per token and KV head. N is the number of held
    tokens, a the largest attention that a token got from the last `window` queries, q the norm of a query, e_V and e_K
    the errors allowed in values and keys, and r the range of the token's elements:

        e_V = sqrt(12 / N) epsilon / a      e_K = sqrt(12 / q * ln(N^3 epsilon^2 / (N - 1) + 1))
        bits = ceil(log2(r / (2 e) + 1)), within [min_bits, max_bits]

    as in the released code; its derivation suggests the square of q. With n bits, an element x is stored as round((x -
    m) / s), within -2^(n-1) … 2^(n-1) - 1, where m is the mean of the token's elements and s = r / 2^n: elements far
    above the mean are cut off. With 0 bits, which happens only if no query attended to the token, everything is m - r /
    2, as in the released code. The newest window - 1 tokens have max_bits. The elements that are stored exactly take
    no part in r and m.

    The authors search epsilon, the limits, `window` and `outliers` for each model, and keys and values have their own.
    Their search covers epsilon 1, 3, 10, 30; min_bits 0 to 2; max_bits 2 to 4; window 1 or 5; outliers 0 or 0.01; and q
    is the constant 300. The paper states window and outliers. For the rest, the default is the point of their search
    that keeps most bits.

    Deviations: the released code quantises a text once, from the originals; here it goes on while decoding. A token is
    then given its width when window - 1 others have come after it (one, if window is 1), by the attention seen until
    then. It is encoded again, from its decoded form, at that point and by a compression event, and only if it is to
    have fewer bits: more would restore nothing (the paper keeps the originals elsewhere; here everything that is held
    is counted). Query heads that share a KV head share a width. Widths per layer or per token, for all heads together,
    are not offered. A token whose elements are all equal is exact.

    **Packing of mixed widths is hypothetical**: the tensors hold one code per byte. Counted are, per token, head and
    tensor, ceil(bits D / 8) bytes of codes, scale and mean in the model's type, one byte for the width, and for each
    outlier its value and two bytes of index (the released code leaves the index out). The tracker's 4 `window` bytes
    per token and head count as auxiliary state.

    Attributes:
        epsilon: allowed error of the output, above 0; 1 by default.
        window: number of recent queries that are looked at, at least 1; 5 by default. The newest window - 1 tokens keep
            max_bits.
        min_bits, max_bits: limits of the code width in bits, within 0 … 8; 2 and 4 by default.
        outliers: fraction of a token's elements that are stored exactly, half of them the smallest and half the
            largest, rounded up; 0.01 by default, 0 for none.
        value_epsilon, value_window, value_min_bits, value_max_bits, value_outliers: the same for values; None (the
            default): as for keys.
        query_norm: q, above 0; 300 by default. None: the largest norm among the last `window` queries of the heads that
            share a KV head.
    """

    kind: ClassVar[str] = "qaq"
    version: ClassVar[int] = 2
    citation: ClassVar[str | None] = "dong2024qaq"
    bytes_depend_on_data: ClassVar[bool] = True

    epsilon: Annotated[float, Gt(0)] = 1.0
    window: Annotated[int, Ge(1)] = 5
    min_bits: Annotated[int, Ge(0), Le(8)] = 2
    max_bits: Annotated[int, Ge(1), Le(8)] = 4
    outliers: Annotated[float, Ge(0), Lt(1)] = 0.01
    value_epsilon: Annotated[float, Gt(0)] | None = None
    value_window: Annotated[int, Ge(1)] | None = None
    value_min_bits: Annotated[int, Ge(0), Le(8)] | None = None
    value_max_bits: Annotated[int, Ge(1), Le(8)] | None = None
    value_outliers: Annotated[float, Ge(0), Lt(1)] | None = None
    query_norm: Annotated[float, Gt(0)] | None = 300.0

    def __post_init__(self) -> None:
        """Check the order of the limits."""
        super().__post_init__()
        for prefix, side in (("", self.keys), ("value_", self.values)):
            if side.min_bits > side.max_bits:
                raise DeclarationError(
                    f"{prefix}min_bits must be at most {prefix}max_bits, got {prefix}min_bits={side.min_bits}, "
                    f"{prefix}max_bits={side.max_bits}"
                )

    @property
    def keys(self) -> Side:
        """The parameters of keys."""
        return Side(self.epsilon, self.window, self.min_bits, self.max_bits, self.outliers)

    @property
    def values(self) -> Side:
        """The parameters of values."""
        return Side(
            self.epsilon if self.value_epsilon is None else self.value_epsilon,
            self.window if self.value_window is None else self.value_window,
            self.min_bits if self.value_min_bits is None else self.value_min_bits,
            self.max_bits if self.value_max_bits is None else self.value_max_bits,
            self.outliers if self.value_outliers is None else self.value_outliers,
        )

    @property
    def tracker(self) -> RecentMaximum:
        """The tracker that remembers the recent attention."""
        return RecentMaximum(self.values.window)

    def needs(self) -> Needs:
        """Return the need for the attention of the last queries, and for these queries if their norm is measured."""
        # While decoding, the newest query that is known is the one before the newest.
        return Needs(queries=max(self.window, 2) if self.query_norm is None else 0, trackers=(self.tracker,))

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse head dimensions of which the outliers would leave fewer than two elements."""
        for side in (self.keys, self.values):
            if 2 * side.n_outliers(geometry.head_dim) > geometry.head_dim - 2:
                return f"qaq keeps outliers={side.outliers} of head_dim={geometry.head_dim} apart, which leaves nothing to code"
        return None

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty store."""
        return QAQStore(self, room)

    def value_bits(self, width: Tensor, attention: Tensor, n_tokens: Tensor) -> Tensor:
        """Return the bits of values whose elements span `width`; all arguments are float32 and broadcast."""
        allowed = torch.sqrt(12 / n_tokens) * self.values.epsilon / attention.clamp(min=_TINY)
        return self.values.bits(width, allowed)

    def key_bits(self, width: Tensor, query_norm: Tensor, n_tokens: Tensor) -> Tensor:
        """Return the bits of keys whose elements span `width`; a single token counts as two."""
        n_tokens = n_tokens.clamp(min=2)
        spread = torch.log1p(n_tokens**3 * self.epsilon**2 / (n_tokens - 1))
        return self.keys.bits(width, torch.sqrt(12 / query_norm.clamp(min=_TINY) * spread))


class QAQStore(SlotStore):
    """The tensors of `Coded`, once for keys and once for values, with [L,B,H,C] in front.

    positions: [L,B,H,C] int32, a copy of the positions in the cache, which counts their bytes.
    """

    def __init__(self, config: QAQ, room: StoreSpec) -> None:
        geometry = room.geometry
        self.config, self.dim = config, geometry.head_dim
        shape = (geometry.n_layers, room.rows, geometry.n_kv_heads, room.capacity)

        def new(*extra: int, kind: torch.dtype = room.dtype, fill: int = 0) -> Tensor:
            return torch.full((*shape, *extra), fill, dtype=kind, device=room.device)

        self.n_apart = tuple(2 * side.n_outliers(self.dim) for side in (config.keys, config.values))
        self.positions = new(kind=torch.int32, fill=-1)
        self.key_codes, self.value_codes = (new(self.dim, kind=torch.uint8) for _ in range(2))
        self.key_bits, self.value_bits = (new(kind=torch.uint8, fill=1) for _ in range(2))
        self.key_scale, self.key_mean, self.value_scale, self.value_mean = (new() for _ in range(4))
        self.key_outliers, self.value_outliers = (new(n) for n in self.n_apart)
        self.key_places, self.value_places = (new(n, kind=torch.int16) for n in self.n_apart)

    def _keys(self) -> Coded:
        return Coded(self.key_codes, self.key_bits, self.key_scale, self.key_mean, self.key_outliers, self.key_places)

    def _values(self) -> Coded:
        return Coded(
            self.value_codes, self.value_bits, self.value_scale, self.value_mean, self.value_outliers, self.value_places
        )

    def _sides(self) -> tuple[tuple[Side, Coded], tuple[Side, Coded]]:
        return (self.config.keys, self._keys()), (self.config.values, self._values())

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Encode one token [B,H,D] per (row, head) at full width.

        The tokens that are no longer among the newest ones are given the bits that they call for.
        """
        put(self.positions[layer], slot, position_at(held.positions, slot))
        for asks, (side, store), x in zip(
            (self._key_asks, self._value_asks), self._sides(), (keys, values), strict=True
        ):
            leaving = (slot - side.lag).clamp(min=0)
            old = Coded(*(get(part[layer], leaving) for part in store))
            width = span(old.decoded(), side.n_outliers(self.dim))
            asked = torch.minimum(asks(width, leaving, slot, held.observed), old.bits)
            fewer = (slot >= side.lag) & (asked < old.bits)
            self._put(store, layer, leaving, encode(old.decoded(), asked, side.n_outliers(self.dim)), where=fewer)
            full = torch.full_like(slot, side.max_bits, dtype=torch.uint8)
            self._put(store, layer, slot, encode(x, full, side.n_outliers(self.dim)))

    def _put(self, store: Coded, layer: int, slot: Tensor, coded: Coded, where: Tensor | None = None) -> None:
        for tensor, new in zip(store, coded, strict=True):
            put(tensor[layer], slot, new, where=where)

    def _key_asks(self, width: Tensor, leaving: Tensor, slot: Tensor, observed: Observed) -> Tensor:
        # The newest place waits for the query of this very step.
        norm = self._query_norm(observed, slot.shape[1], slice(-1))
        return self.config.key_bits(width, norm, slot.float() + 1)

    def _value_asks(self, width: Tensor, leaving: Tensor, slot: Tensor, observed: Observed) -> Tensor:
        attention = get(observed.tracked[self.config.tracker], leaving).amax(dim=-1)
        return self.config.value_bits(width, attention, slot.float() + 1)

    def _query_norm(self, observed: Observed, n_heads: int, of_window: slice) -> Tensor:
        """Return the norm of queries that keys are coded for, [...,H_kv] or a single number."""
        if self.config.query_norm is not None:
            return torch.full((), float(self.config.query_norm), device=self.positions.device)  # no copy from the host
        return largest_norm(observed, n_heads, of_window)

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return one layer's decoded keys and values, [B,H,C,D]."""
        keys, values = (Coded(*(x[layer] for x in store)).decoded() for store in (self._keys(), self._values()))
        return keys, values

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys and values [L,E,H_kv,C,D] of some rows of all layers."""
        keys, values = (Coded(*(x[:, rows] for x in store)).decoded() for store in (self._keys(), self._values()))
        return keys, values

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Encode whole rows [E] again; keys, values: [L,E,H,C,D]. Tokens that keep their width keep their codes."""
        positions, counts = held.positions.long(), held.counts[..., None]
        n_tokens = counts.clamp(min=1).float()
        norm = self._query_norm(held.observed, keys.shape[2], slice(-self.config.window, None))
        attention = held.observed.tracked[self.config.tracker].amax(dim=-1)
        widths = [
            span(x, side.n_outliers(self.dim)) for (side, _), x in zip(self._sides(), (keys, values), strict=True)
        ]
        asked = (
            self.config.key_bits(widths[0], norm[..., None] if norm.dim() else norm, n_tokens),
            self.config.value_bits(widths[1], attention, n_tokens),
        )
        before = self.read_rows(rows, held)
        for (side, store), x, bits, read in zip(self._sides(), (keys, values), asked, before, strict=True):
            index, was_here = moved(self.positions[:, rows], positions, read, x)
            old = Coded(*(taken(tensor[:, rows], index) for tensor in store))
            most = torch.where(was_here, old.bits, side.max_bits)
            is_newest = torch.arange(keys.shape[3], device=keys.device) >= counts - (side.window - 1)
            bits = torch.where(is_newest, most, torch.minimum(bits, most))
            stays = was_here & (bits == old.bits)  # coding it again would cut off more of it
            for tensor, new, same in zip(store, encode(x, bits, side.n_outliers(self.dim)), old, strict=True):
                tensor[:, rows] = torch.where(like(stays, new), same, new)
        self.positions[:, rows] = positions.to(torch.int32)

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: bytes of the filled slots if codes were packed, with all that is needed to read them."""
        filled = torch.arange(self.positions.shape[-1], device=counts.device) < counts.long()[..., None]
        itemsize = self.key_scale.element_size()
        per_slot = sum(
            2 * itemsize + 1 + n_apart * (itemsize + 2) + (bits.long() * self.dim + 7) // 8
            for n_apart, bits in zip(self.n_apart, (self.key_bits, self.value_bits), strict=True)
        )
        return (filled * per_slot).sum(dim=(0, 2, 3))

    def allocated_bytes(self) -> int:
        """Return the size of all tensors."""
        return sum(tensor.nbytes for tensor in vars(self).values() if isinstance(tensor, Tensor))


def largest_norm(observed: Observed, n_heads: int, of_window: slice) -> Tensor:
    """Return the largest norm of a KV head's recent queries, [...,H_kv], from queries [...,H_q,w,D]; 0 where none was seen."""
    if observed.queries is None or observed.query_positions is None:
        raise InvariantViolation("a qaq store needs the queries that the representation declared")
    queries, seen = observed.queries[..., of_window, :], observed.query_positions[:, of_window] >= 0
    norms = queries.float().norm(dim=-1) * seen[:, None]  # [...,H_q,w]
    return norms.amax(dim=-1).unflatten(-1, (n_heads, -1)).amax(dim=-1)
