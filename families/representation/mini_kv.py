"""MiniKV's codes: keys and values are encoded together, at the prompt and whenever enough tokens have come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Geometry, Representation, SlotState, SlotStore, StoreSpec
from families.representation.kivi import Kivi, KiviStore


@dataclass(frozen=True)
class MiniKV(Representation):
    """Store the prompt and then each `residual` tokens in codes, keys per channel, values per token [sharma2025minikv].

    The codes are those of `kivi`: post-RoPE keys form groups of `group` tokens per channel, values groups of `group`
    channels per token, and each group has a scale and a minimum. What is encoded when differs. Of a prompt of n tokens,
    or of the n that its compression left, all but the newest n mod `group` are encoded, keys and values alike. While
    decoding, exact tokens gather until there are `residual` of them; then all of them are encoded. So the number of
    exact tokens depends on how long ago the prompt ended, and bytes cannot be told from the number of tokens.

    A compression event while decoding, which the original does not have, encodes the tokens it keeps again, as if they
    were a prompt, from their dequantised form. The original holds keys and values of every query head; here heads that
    share a KV head share codes.

    Attributes:
        bits: code width in bits: 1, 2 (the default), 4 or 8.
        group: number of elements that share a scale and a minimum; 16 by default. It must divide `residual` and the
            head dimension.
        residual: number of exact tokens at which all of them are encoded; 128 by default.
    """

    kind: ClassVar[str] = "minikv"
    citation: ClassVar[str | None] = "sharma2025minikv"
    bytes_depend_on_data: ClassVar[bool] = True

    bits: Literal[1, 2, 4, 8] = 2
    group: Annotated[int, Ge(1)] = 16
    residual: Annotated[int, Ge(1)] = 128

    def __post_init__(self) -> None:
        """Check that the exact tokens are whole groups when they are encoded."""
        super().__post_init__()
        self.codes()

    def codes(self) -> Kivi:
        """Return the representation whose codes these are."""
        return Kivi(self.bits, self.group, self.residual)

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse head dimensions that do not divide into groups or do not fill whole bytes."""
        if geometry.head_dim % self.group or geometry.head_dim * self.bits % 8:
            return f"minikv group must divide the head dimension, got group={self.group}, head_dim={geometry.head_dim}"
        return None

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty store of packed codes and a ring of exact tokens."""
        return MiniKVStore(self.codes(), room)


class MiniKVStore(KiviStore):
    """The tensors of `KiviStore`, and coded: [L,B,H] int32, how many of a head's first tokens are in codes."""

    def __init__(self, config: Kivi, room: StoreSpec) -> None:
        super().__init__(config, room)
        heads = (room.geometry.n_layers, room.rows, room.geometry.n_kv_heads)
        self.coded = torch.zeros(heads, dtype=torch.int32, device=room.device)

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Append one token [B,H,D] per row and head.

        Codes are made at every token, though they are read only once `residual` exact ones have come: so the device is
        never asked how many there are.
        """
        self.put_exact(layer, slot, keys, values)
        self.encode_group(layer, slot)
        self.encode_value(layer, slot, values)
        coded, n_tokens = self.coded[layer], slot.to(torch.int32) + 1
        self.coded[layer] = torch.where(n_tokens - coded >= self.config.residual, n_tokens, coded)

    def n_coded(self, counts: Tensor, at: tuple[slice, slice | Tensor]) -> tuple[Tensor, Tensor]:
        """Return how many of `counts` keys and values are in codes: the same number."""
        coded = torch.minimum(self.coded[at].long(), counts)
        return coded, coded

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Encode whole rows [E], but for what does not fill a group; keys, values: [L,E,H,C,D]."""
        super().load(rows, keys, values, held)
        counts = held.counts.to(torch.int32)
        self.coded[:, rows] = counts - counts % self.config.group

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: codes, scales and minima of the encoded tokens, the exact ones, and the number of either."""
        numbers = (counts > 0).sum(dim=(0, 2)) * self.coded.element_size()
        return super().held_bytes(counts) + numbers
