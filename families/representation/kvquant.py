"""KVQuant: un-rotated keys and values in non-uniform codes, with outliers stored apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Geometry, Needs, Representation, SlotState, SlotStore, StoreSpec
from designspace.axes.rotary import unrotation_error
from designspace.errors import DeclarationError, InvariantViolation
from families.representation.quantiser import pack, unpack
from families.representation.range_codes import Coded, decode, encode, row_ranges
from families.representation.token_slots import moved, position_at, put

KVQUANT = "kvquant"
BITS = (2, 3, 4)
FRACTIONS = (0.0, 0.01)  # of elements outside the thresholds; the second is the published one


@dataclass(frozen=True)
class KVQuant(Representation):
    """Store un-rotated keys and values in non-uniform codes, and outliers exactly [hooper2024kvquant].

    Keys are un-rotated at their true position, encoded, and rotated again whenever they are read. An element x within
    [low, high] becomes u = (x - centre) / half range and gets the code of the nearest entry of its layer's codebook,
    which k-means found. For keys, low and high are quantiles of each channel over calibration texts (calibration
    "kvquant"). For values, they come from the token's own row, over all KV heads that hold it when it is encoded (a
    prompt that is compressed at once is encoded as it is left). Every token is encoded on arrival.

    Outliers, the elements outside of the range, are stored as value and place, with room for `most_outliers` per token
    and head. If there are more, the farthest are stored and the others take the end of the codebook. Only used places
    are counted: the value in the model's type and two bytes of index, 4 bytes in all at 16 bits. Low and high of values
    are counted for every head, because heads may come to hold different tokens. A compression event keeps outliers and
    ranges, because they cannot be found again from decoded values. Key ranges and codebooks belong to the model and are
    not counted.

    Deviations: codebooks are unweighted k-means, so results are those of "nuq-noFisher" (the published codebooks weight
    by Fisher information, which needs gradients); there is no Q-Norm.

    Attributes:
        bits: code width in bits: 2, 3 (the default) or 4.
        outliers: fraction of elements outside of the ranges, half on each side: 0 or 0.01 (the default).
        exact: number of first positions that stay in full precision; 1 by default. Without any, 2 bits fail.
        most_outliers: room for outliers per token and head; None (the default): an eighth of the head dimension.
    """

    kind: ClassVar[str] = "kvquant"
    citation: ClassVar[str | None] = "hooper2024kvquant"
    bytes_depend_on_data: ClassVar[bool] = True

    bits: Literal[2, 3, 4] = 3
    outliers: float = 0.01
    exact: Annotated[int, Ge(0)] = 1
    most_outliers: Annotated[int, Ge(0)] | None = None

    def __post_init__(self) -> None:
        """Check that the fraction of outliers is one that the calibration has measured."""
        super().__post_init__()
        if self.outliers not in FRACTIONS:
            raise DeclarationError(f"outliers must be {FRACTIONS[0]} or {FRACTIONS[1]}, got outliers={self.outliers}")

    def needs(self) -> Needs:
        """Return the calibration that measured ranges and codebooks."""
        return Needs(calibrations=(KVQUANT,))

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse models that rotate only a part of the head dimension, and head dimensions that do not fill bytes."""
        if geometry.head_dim % 8:
            return f"kvquant packs codes by eight, got head_dim={geometry.head_dim}"
        if (self.most_outliers or 0) > geometry.head_dim:
            return f"kvquant has most_outliers={self.most_outliers} places for head_dim={geometry.head_dim} elements"
        return unrotation_error("representation 'kvquant'", geometry)

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty store of packed codes, outliers and exact first tokens."""
        return KVQuantStore(self, room)


class Tables(NamedTuple):
    """The numbers that belong to the model. low, high: [L,1,H,1,D] of keys; codebooks [L,1,1,1,K]; all float32."""

    low: Tensor
    high: Tensor
    key_book: Tensor
    value_book: Tensor


class Turning(NamedTuple):
    """What turns keys: frequencies [L,1,1,1,D/2] float64, scaling of cosine and sine [L,1,1,1,1] and 1 / scaling, float32."""

    frequencies: Tensor
    scaling: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, geometry: Geometry, device: torch.device) -> Turning:
        """Return those of a model's layers with a cache."""
        frequencies = geometry.frequencies().to(device).expand(geometry.n_layers, -1)[:, None, None, None]
        scaling = geometry.scalings().to(device).expand(geometry.n_layers)[:, None, None, None, None]
        return cls(frequencies, scaling.float(), (1 / scaling).float())


class KVQuantStore(SlotStore):
    """Codes for C slots, m places for outliers per slot, and the tokens at positions 0 … exact-1 in full precision.

    key_codes, value_codes: [L,B,H,C,D*bits/8] uint8. key_outliers, value_outliers: [L,B,H,C,m] with key_places,
    value_places int16, -1 = not in use. value_low, value_high: [L,B,H,C]. exact_keys, exact_values: [L,B,H,exact,D], by
    slot: the first positions are the first slots. positions: [L,B,H,C] int32, a copy of the positions in the cache,
    which counts their bytes.
    """

    def __init__(self, config: KVQuant, room: StoreSpec) -> None:
        geometry, dtype, device = room.geometry, room.dtype, room.device
        self.config, self.geometry, self.dim = config, geometry, geometry.head_dim
        heads = (geometry.n_layers, room.rows, geometry.n_kv_heads)
        places = self.dim // 8 if config.most_outliers is None else config.most_outliers
        self.n_places, self.n_exact = places, min(config.exact, room.capacity)

        def new(*shape: int, kind: torch.dtype = dtype, fill: float = 0) -> Tensor:
            return torch.full((*heads, *shape), fill, dtype=kind, device=device)

        n_slots = room.capacity
        self.positions = new(n_slots, kind=torch.int32, fill=-1)
        self.key_codes, self.value_codes = (
            new(n_slots, self.dim * config.bits // 8, kind=torch.uint8) for _ in range(2)
        )
        self.key_outliers, self.value_outliers = (new(n_slots, places) for _ in range(2))
        self.key_places, self.value_places = (new(n_slots, places, kind=torch.int16, fill=-1) for _ in range(2))
        self.value_low, self.value_high = new(n_slots), new(n_slots)
        self.exact_keys, self.exact_values = (new(self.n_exact, self.dim) for _ in range(2))
        self._turning = Turning.of(geometry, device)
        self._tables = _tables(config, room)

    def _of(self, layers: slice) -> Tables:
        if self._tables is None:
            raise InvariantViolation(f"a kvquant store without calibration {KVQUANT!r} holds no tokens")
        return Tables(*(x[layers] for x in self._tables))

    def _turns(self, layers: slice, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines [l,E,H,C,D/2] float32 of the angles that keys at `positions` [l,E,H,C] were turned by."""
        angle = positions.clamp(min=0).double()[..., None] * self._turning.frequencies[layers]
        return angle.cos().float(), angle.sin().float()

    def _encode_keys(self, layers: slice, keys: Tensor, positions: Tensor) -> Coded:
        """Encode post-RoPE keys [l,E,H,C,D] at positions [l,E,H,C]."""
        tables, (cos, sin) = self._of(layers), self._turns(layers, positions)
        plain = turned(keys.float(), cos, -sin) * self._turning.inverse[layers]
        return encode(plain, tables.low, tables.high, tables.key_book, self.n_places)

    def _encode_values(self, layers: slice, values: Tensor, low: Tensor, high: Tensor) -> Coded:
        """Encode values [l,E,H,C,D] in the ranges of their tokens, low and high [l,E,H,C]."""
        book = self._of(layers).value_book
        return encode(values.float(), low.float()[..., None], high.float()[..., None], book, self.n_places)

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Encode one token [B,H,D] per (row, head); all heads of a row get the same token."""
        position = position_at(held.positions, slot)  # [B,H]
        only = slice(layer, layer + 1)
        alone = torch.zeros_like(slot)[..., None]
        low, high = row_ranges(values.float()[:, :, None], alone, self.config.outliers, width=1)
        coded_keys = self._encode_keys(only, keys[None, :, :, None], position[None, :, :, None])
        coded_values = self._encode_values(only, values[None, :, :, None], low[None], high[None])
        put(self.positions[layer], slot, position)
        put(self.value_low[layer], slot, low[..., 0])
        put(self.value_high[layer], slot, high[..., 0])
        for tensor, new in self._pairs(coded_keys, coded_values):
            put(tensor[layer], slot, new[0, :, :, 0])
        if self.n_exact:
            first, place = slot < self.n_exact, slot.clamp(max=self.n_exact - 1)
            put(self.exact_keys[layer], place, keys, where=first)
            put(self.exact_values[layer], place, values, where=first)

    def _pairs(self, keys: Coded, values: Coded) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return the tensors of the store, each with its new content."""
        return (
            (self.key_codes, pack(keys.codes, self.config.bits)),
            (self.key_outliers, keys.outliers),
            (self.key_places, keys.places),
            (self.value_codes, pack(values.codes, self.config.bits)),
            (self.value_outliers, values.outliers),
            (self.value_places, values.places),
        )

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return one layer's decoded and rotated keys and decoded values, [B,H,C,D]."""
        keys, values = self._decode(slice(layer, layer + 1), slice(None))
        return keys[0], values[0]

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys and values [L,E,H_kv,C,D] of some rows of all layers."""
        return self._decode(slice(None), rows)

    def _decode(self, layers: slice, rows: slice | Tensor) -> tuple[Tensor, Tensor]:
        at, tables, bits = (layers, rows), self._of(layers), self.config.bits
        coded = Coded(unpack(self.key_codes[at], bits), self.key_outliers[at], self.key_places[at])
        cos, sin = self._turns(layers, self.positions[at])
        keys = turned(decode(coded, tables.low, tables.high, tables.key_book), cos, sin)
        keys = keys * self._turning.scaling[layers]
        coded = Coded(unpack(self.value_codes[at], bits), self.value_outliers[at], self.value_places[at])
        low, high = self.value_low[at].float()[..., None], self.value_high[at].float()[..., None]
        values = decode(coded, low, high, tables.value_book)
        exact = self._exact(self.positions[at])[..., : self.n_exact, None]
        decoded = []
        for x, whole in ((keys, self.exact_keys[at]), (values, self.exact_values[at])):
            x = x.to(whole.dtype)
            x[..., : self.n_exact, :] = torch.where(exact, whole, x[..., : self.n_exact, :])
            decoded.append(x)
        return decoded[0], decoded[1]

    def _exact(self, positions: Tensor) -> Tensor:
        """Return which tokens are in full precision."""
        return (positions >= 0) & (positions < self.n_exact)

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Encode whole rows [E] again, keys and values [L,E,H,C,D]; tokens that an event moved keep their range."""
        positions = held.positions.long()
        low, high = self._ranges(rows, values, positions)
        everything = slice(None)
        coded_keys = self._encode_keys(everything, keys, positions)
        coded_values = self._encode_values(everything, values, low, high)
        self.positions[:, rows] = positions.to(torch.int32)
        self.value_low[:, rows], self.value_high[:, rows] = low.to(values.dtype), high.to(values.dtype)
        for tensor, new in self._pairs(coded_keys, coded_values):
            tensor[:, rows] = new.to(tensor.dtype)
        self.exact_keys[:, rows] = keys[..., : self.n_exact, :]
        self.exact_values[:, rows] = values[..., : self.n_exact, :]

    def _ranges(self, rows: Tensor, values: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return low and high, each [L,E,H,C], of the tokens that are loaded into rows [E]."""
        _, before = self._decode(slice(None), rows)
        index, was_here = moved(self.positions[:, rows], positions, before, values)
        kept = tuple(x[:, rows].float().gather(-1, index) for x in (self.value_low, self.value_high))
        free = positions < 0
        if bool((was_here | free).all()):
            return kept[0].masked_fill(free, 0), kept[1].masked_fill(free, 0)
        # Layer by layer: a table of all of a text's positions is large.
        own = [row_ranges(x.float(), at, self.config.outliers) for x, at in zip(values, positions, strict=True)]
        low, high = (
            torch.where(was_here, old, torch.stack(new)) for old, new in zip(kept, zip(*own, strict=True), strict=True)
        )
        return low.masked_fill(free, 0), high.masked_fill(free, 0)

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: bytes of codes, value ranges and used outliers, and of exact tokens."""
        slot = torch.arange(self.positions.shape[-1], device=counts.device)
        filled = slot < counts.long()[..., None]
        exact = filled & self._exact(self.positions)
        coded = filled & ~exact
        itemsize = self.exact_keys.element_size()
        in_use = (self.key_places >= 0).sum(dim=-1) + (self.value_places >= 0).sum(dim=-1)
        per_slot = coded * (2 * self.key_codes.shape[-1] + 2 * itemsize + in_use * (itemsize + 2))
        return (per_slot + exact * (2 * self.dim * itemsize)).sum(dim=(0, 2, 3))

    def allocated_bytes(self) -> int:
        """Return the size of all tensors."""
        return sum(tensor.nbytes for tensor in vars(self).values() if isinstance(tensor, Tensor))


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (f, f + D/2) of x [...,D] by angles given as cosines and sines [...,D/2]."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _tables(config: KVQuant, room: StoreSpec) -> Tables | None:
    """Return the tables of the artefact for these parameters; None if the store only counts bytes."""
    if KVQUANT not in room.artefacts:
        return None
    measured, chosen = room.artefacts[KVQUANT], FRACTIONS.index(config.outliers)
    low, high, key_book, value_book = (
        room.geometry.held(measured[name])[:, chosen].to(room.device).float()
        for name in ("key_low", "key_high", f"key_book_{config.bits}", f"value_book_{config.bits}")
    )
    if not math.isfinite(float(low.abs().amax() + high.abs().amax())):
        raise InvariantViolation("the kvquant calibration holds ranges that are not finite")
    return Tables(
        low[:, None, :, None], high[:, None, :, None], key_book[:, None, None, None], value_book[:, None, None, None]
    )
