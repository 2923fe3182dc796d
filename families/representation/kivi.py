"""KIVI: keys quantised per channel, values per token, the newest tokens in full precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Composition, Geometry, Representation, Schedule, SlotState, SlotStore, StoreSpec
from designspace.errors import DeclarationError
from families.representation.quantiser import dequantise, pack, quantise, unpack
from families.representation.token_slots import put


@dataclass(frozen=True)
class Kivi(Representation):
    """Store keys quantised per channel, values quantised per token, and the newest tokens exactly [liu2024kivi].

    Post-RoPE keys form groups of `group` tokens per channel, values groups of `group` channels per token. Each group
    has a scale and a minimum. Keys are encoded `residual` tokens at a time, so that n mod `residual` of n keys stay
    exact; of the values, the newest `residual` stay exact. A compression event encodes the tokens it keeps again from
    their dequantised form, never from hidden originals.

    Attributes:
        bits: code width of keys in bits: 1, 2 (the default), 4 or 8.
        group: number of elements that share a scale and a minimum; 32 by default. It must divide `residual` and the
            head dimension.
        residual: number of newest tokens that stay exact; 128 by default, as in the original. A cache of fewer tokens
            is stored exactly, so choose it well below the budget.
        value_bits: code width of values in bits; None (the default): as `bits`.
    """

    kind: ClassVar[str] = "kivi"
    citation: ClassVar[str | None] = "liu2024kivi"

    bits: Literal[1, 2, 4, 8] = 2
    group: Annotated[int, Ge(1)] = 32
    residual: Annotated[int, Ge(1)] = 128
    value_bits: Literal[1, 2, 4, 8] | None = None

    def __post_init__(self) -> None:
        """Check that the exact window holds whole groups."""
        super().__post_init__()
        if self.residual % self.group:
            raise DeclarationError(
                f"residual must be a multiple of group, got residual={self.residual}, group={self.group}"
            )

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse head dimensions that do not divide into groups or do not fill whole bytes."""
        if geometry.head_dim % self.group or any(geometry.head_dim * bits % 8 for bits in self.widths):
            return f"kivi group must divide the head dimension, got group={self.group}, head_dim={geometry.head_dim}"
        return None

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """A budget that the exact window holds leaves nothing to encode."""
        return exact_window_reason(self.residual, schedule)

    @property
    def widths(self) -> tuple[int, int]:
        """Code widths of keys and values."""
        return self.bits, self.bits if self.value_bits is None else self.value_bits

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty store of packed codes and residual windows."""
        return KiviStore(self, room)


def exact_window_reason(residual: int, schedule: Schedule) -> str | None:
    """Return why a window of `residual` exact tokens leaves nothing, or next to nothing, to encode; None where it does."""
    if schedule.steady_mean is None or residual < schedule.steady_mean:
        return None
    return (
        f"the newest {residual} tokens of every head stay exact, and this budget holds {schedule.steady_mean:g} on average, "
        "so nothing or next to nothing is encoded (a smaller residual changes that)"
    )


class KiviStore(SlotStore):
    """Codes for C slots, and R exact tokens in a ring addressed by slot mod R.

    key_codes, value_codes: [L,B,H,C',D*bits/8] uint8, each with its own bits, C' = C rounded up to whole residual
    blocks. key_scale, key_minimum: [L,B,H,C'/g,D]. value_scale, value_minimum: [L,B,H,C',D/g]. recent_keys,
    recent_values: [L,B,H,R,D]. Of n tokens, keys 0 … n - n mod R - 1 and values 0 … n - R - 1 are in codes.
    """

    def __init__(self, config: Kivi, room: StoreSpec) -> None:
        geometry, dtype, device = room.geometry, room.dtype, room.device
        self.config, self.capacity, self.dim = config, room.capacity, geometry.head_dim
        heads = (geometry.n_layers, room.rows, geometry.n_kv_heads)
        n_slots = -(-room.capacity // config.residual) * config.residual
        n_groups = self.dim // config.group
        self.key_bits, self.value_bits = config.widths

        def zeros(*shape: int, kind: torch.dtype = dtype) -> Tensor:
            return torch.zeros(*heads, *shape, dtype=kind, device=device)

        self.key_codes, self.value_codes = (
            zeros(n_slots, self.dim * bits // 8, kind=torch.uint8) for bits in config.widths
        )
        self.key_scale, self.key_minimum = (zeros(n_slots // config.group, self.dim) for _ in range(2))
        self.value_scale, self.value_minimum = (zeros(n_slots, n_groups) for _ in range(2))
        self.recent_keys, self.recent_values = (zeros(config.residual, self.dim) for _ in range(2))

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Append one token [B,H,D] per row and head.

        The oldest exact value is encoded, and so is the group of exact keys that the new key belongs to.
        """
        residual = self.config.residual
        place = (slot % residual)[..., None, None].expand(*slot.shape, 1, self.dim)
        oldest = self.recent_values[layer].gather(2, place)[:, :, 0]
        self.encode_value(layer, (slot - residual).clamp(min=0), oldest, where=slot >= residual)
        self.put_exact(layer, slot, keys, values)
        self.encode_group(layer, slot)

    def put_exact(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put one token [B,H,D] per (row, head) into the ring of exact tokens."""
        place = (slot % self.config.residual)[..., None, None].expand(*slot.shape, 1, self.dim)
        self.recent_keys[layer].scatter_(2, place, keys[:, :, None])
        self.recent_values[layer].scatter_(2, place, values[:, :, None])

    def encode_value(self, layer: int, slot: Tensor, values: Tensor, where: Tensor | None = None) -> None:
        """Encode the values [B,H,D] of one slot [B,H] per (row, head). where: [B,H] bool; None for all."""
        coded = quantise(values.unflatten(-1, (-1, self.config.group)), self.value_bits)
        put(self.value_codes[layer], slot, pack(coded.codes.flatten(-2), self.value_bits), where=where)
        put(self.value_scale[layer], slot, coded.scale[..., 0], where=where)
        put(self.value_minimum[layer], slot, coded.minimum[..., 0], where=where)

    def encode_group(self, layer: int, slot: Tensor) -> None:
        """Encode the group of exact keys that `slot` [B,H] belongs to.

        This is done at every token, though codes are valid only once their block is full: so the device is never asked
        how full the block is.
        """
        group = self.config.group
        offset = torch.arange(group, device=slot.device)
        slots = (slot - slot % group)[..., None] + offset  # [B,H,g]
        ring = (slots % self.config.residual)[..., None].expand(*slots.shape, self.dim)
        codes, scale, minimum = self._encode_keys(self.recent_keys[layer].gather(2, ring))
        self.key_codes[layer].scatter_(2, slots[..., None].expand_as(codes), codes)
        put(self.key_scale[layer], slot // group, scale[:, :, 0])
        put(self.key_minimum[layer], slot // group, minimum[:, :, 0])

    def _encode_keys(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return packed codes [...,N,D*bits/8], scale and minimum [...,N/g,D] of keys [...,N,D], N a multiple of g."""
        by_channel = keys.unflatten(-2, (-1, self.config.group)).transpose(-1, -2)  # [...,N/g,D,g]
        coded = quantise(by_channel, self.key_bits)
        codes = coded.codes.transpose(-1, -2).flatten(-3, -2)
        return pack(codes, self.key_bits), coded.scale[..., 0], coded.minimum[..., 0]

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return one layer's keys and values [B,H,C,D], dequantised, with the exact tokens in place."""
        only = slice(layer, layer + 1)
        keys, values = self._decode(only, slice(None), held.counts[None])
        return keys[0], values[0]

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys and values [L,E,H_kv,C,D] of some rows of all layers."""
        return self._decode(slice(None), rows, held.counts)

    def _decode(self, layers: slice, rows: slice | Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        group, residual = self.config.group, self.config.residual
        at = (layers, rows)
        key_codes = unpack(self.key_codes[at], self.key_bits).unflatten(-2, (-1, group))
        keys = dequantise(key_codes, self.key_scale[at][..., None, :], self.key_minimum[at][..., None, :]).flatten(
            -3, -2
        )
        value_codes = unpack(self.value_codes[at], self.value_bits).unflatten(-1, (-1, group))
        values = dequantise(value_codes, self.value_scale[at][..., None], self.value_minimum[at][..., None]).flatten(-2)
        slot = torch.arange(self.capacity, device=counts.device)
        exact_key, exact_value = ((slot >= n[..., None])[..., None] for n in self.n_coded(counts.long(), at))
        ring = slot % residual
        return (
            torch.where(exact_key, self.recent_keys[at][..., ring, :], keys[..., : self.capacity, :]),
            torch.where(exact_value, self.recent_values[at][..., ring, :], values[..., : self.capacity, :]),
        )

    def n_coded(self, counts: Tensor, at: tuple[slice, slice | Tensor]) -> tuple[Tensor, Tensor]:
        """Return how many of `counts` keys and values are in codes, each like counts.

        counts: int64 [L,B,H], of these layers and rows. The others are exact.
        """
        residual = self.config.residual
        return counts - counts % residual, (counts - residual).clamp(min=0)

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Encode whole rows [E] again; keys, values: [L,E,H,C,D]."""
        group, residual = self.config.group, self.config.residual
        n_slots = self.key_codes.shape[3]
        padded = torch.nn.functional.pad(keys, (0, 0, 0, n_slots - keys.shape[3]))
        self.key_codes[:, rows], self.key_scale[:, rows], self.key_minimum[:, rows] = self._encode_keys(padded)
        padded = torch.nn.functional.pad(values, (0, 0, 0, n_slots - values.shape[3]))
        coded = quantise(padded.unflatten(-1, (-1, group)), self.value_bits)
        self.value_codes[:, rows] = pack(coded.codes.flatten(-2), self.value_bits)
        self.value_scale[:, rows], self.value_minimum[:, rows] = coded.scale[..., 0], coded.minimum[..., 0]
        # Ring place r of n tokens holds the newest token whose slot is r modulo R.
        place = torch.arange(residual, device=keys.device)
        newest = held.counts.long()[..., None] - 1
        slot = (
            (newest - (newest - place) % residual).clamp(min=0)[..., None].expand(*keys.shape[:3], residual, self.dim)
        )
        self.recent_keys[:, rows] = keys.gather(3, slot)
        self.recent_values[:, rows] = values.gather(3, slot)

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: codes, scales and minima of the encoded tokens, and the exact tokens.

        The scales of a group of keys are counted per token.
        """
        itemsize = self.key_scale.element_size()
        n_tokens = counts.long()
        coded_keys, coded_values = self.n_coded(n_tokens, (slice(None), slice(None)))
        scales, exact = 2 * itemsize * self.dim // self.config.group, self.dim * itemsize
        per_head = (2 * n_tokens - coded_keys - coded_values) * exact
        for n_coded, bits in ((coded_keys, self.key_bits), (coded_values, self.value_bits)):
            per_head = per_head + n_coded * (self.dim * bits // 8 + scales)
        return per_head.sum(dim=(0, 2))

    def allocated_bytes(self) -> int:
        """Return the size of all tensors."""
        return sum(tensor.nbytes for tensor in vars(self).values() if isinstance(tensor, Tensor))
