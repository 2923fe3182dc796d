"""TurboQuant: keys are rotated, so that one codebook serves every component of every head; nothing is calibrated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Composition, Geometry, Representation, Schedule, SlotState, SlotStore, StoreSpec
from designspace.axes.randomness import hash_uniform
from designspace.axes.slot_store import take_rows
from families.representation.quantiser import pack, unpack
from families.representation.token_slots import like, moved, position_at, put, taken

_FP8 = torch.float8_e4m3fn


@dataclass(frozen=True)
class TurboQuant(Representation):
    """Store keys as codes of their rotated directions, and values in uniform codes [zandieh2026turboquant].

    A post-RoPE key is divided by its norm and rotated by a Hadamard matrix. Each of the D components is then close to
    normal with variance 1/D, whatever the model, so they share the codebook of least squared error for that distribution
    (Lloyd-Max). The norm is stored in 16 bits. Values have uniform codes in the range of a token and head, with a scale and
    a minimum of 16 bits. Tokens are coded as they come and keep their codes through events; no token stays exact.

    As merged in vLLM: the plain Hadamard matrix, whereas the paper draws signs at random (`signs`); the decoded direction
    is brought to length 1 (`renormalise`); values are not rotated; the paper's correction by one more bit (QJL) is left
    out; and the first and last two layers stay as they are.

    Attributes:
        key_bits: width of a key's codes, 2, 3, 4 or 8; 4 by default. With 8 a key is stored in FP8 (e4m3), not rotated.
        value_bits: width of a value's codes, 2, 3 or 4; 4 by default.
        skip: number of first and of last layers that are stored in full, at most half of all layers each; 2 by default.
        renormalise: whether decoded directions are brought to length 1; on by default.
        signs: whether components change their sign at random before the rotation, the same for all tokens; off by default.
    """

    kind: ClassVar[str] = "turboquant"
    citation: ClassVar[str | None] = "zandieh2026turboquant"

    key_bits: Literal[2, 3, 4, 8] = 4
    value_bits: Literal[2, 3, 4] = 4
    skip: Annotated[int, Ge(0)] = 2
    renormalise: bool = True
    signs: bool = False

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse head dimensions that have no Hadamard matrix of Sylvester's, or whose codes do not fill bytes."""
        dim = geometry.head_dim
        if dim < 8 or dim & (dim - 1):
            return f"turboquant needs a head dimension that is a power of two and at least 8, got head_dim={dim}"
        return None

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """Say so where all layers are among those that stay as they are."""
        if geometry is None or any(self.codes_layer(layer, geometry.n_layers) for layer in range(geometry.n_layers)):
            return None
        return f"skip={self.skip} leaves all {geometry.n_layers} layers of this model in full precision"

    def codes_layer(self, layer: int, n_layers: int) -> bool:
        """Return whether a layer is stored in codes."""
        n_plain = min(self.skip, n_layers // 2)
        return n_plain <= layer < n_layers - n_plain

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty store."""
        return TurboQuantStore(self, room)

    def token_bytes(self, dim: int) -> int:
        """Return the bytes of a token's codes in one head, with all that is needed to read them."""
        key = dim if self.key_bits == 8 else dim * self.key_bits // 8 + 2
        return key + dim * self.value_bits // 8 + 4


class Coded(NamedTuple):
    """Coded tokens, [..., bytes] uint8 with norms, scales and minima [...] float16; norms are 1 where keys are in FP8."""

    key_codes: Tensor
    key_norms: Tensor
    value_codes: Tensor
    value_scale: Tensor
    value_minimum: Tensor


class Codec:
    """Codes keys and values [..., D] and reads them again."""

    def __init__(self, config: TurboQuant, dim: int, device: torch.device) -> None:
        self.config = config
        self.rotation = rotation(dim, signs=config.signs).to(device)
        self.centroids = torch.tensor(centroids(dim, 4 if config.key_bits == 8 else config.key_bits)).to(device)

    def encode(self, keys: Tensor, values: Tensor) -> Coded:
        """Return the codes of keys and values."""
        keys, values = keys.float(), values.float()
        minimum = values.amin(dim=-1, keepdim=True)
        span = values.amax(dim=-1, keepdim=True) - minimum
        scale = torch.where(span > 0, span / (2**self.config.value_bits - 1), torch.ones_like(span))
        codes = ((values - minimum) / scale + 0.5).floor().clamp(0, 2**self.config.value_bits - 1).to(torch.uint8)
        packed = pack(codes, self.config.value_bits)
        return Coded(*self._encode_keys(keys), packed, scale[..., 0].half(), minimum[..., 0].half())

    def _encode_keys(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        if self.config.key_bits == 8:
            largest = torch.finfo(_FP8).max
            bytes_ = keys.clamp(-largest, largest).to(_FP8).view(torch.uint8)
            return bytes_, torch.ones_like(keys[..., 0]).half()
        norms = keys.norm(dim=-1)
        directions = keys / (norms[..., None] + 1e-8) @ self.rotation
        midpoints = (self.centroids[:-1] + self.centroids[1:]) / 2
        codes = torch.searchsorted(midpoints, directions.contiguous(), right=True).to(torch.uint8)
        return pack(codes, self.config.key_bits), norms.half()

    def decode(self, coded: Coded) -> tuple[Tensor, Tensor]:
        """Return keys and values, float32."""
        codes = unpack(coded.value_codes, self.config.value_bits).float()
        values = codes * coded.value_scale.float()[..., None] + coded.value_minimum.float()[..., None]
        if self.config.key_bits == 8:
            return coded.key_codes.view(_FP8).float(), values
        directions = self.centroids[unpack(coded.key_codes, self.config.key_bits).long()]
        if self.config.renormalise:
            directions = directions / directions.norm(dim=-1, keepdim=True)
        return coded.key_norms.float()[..., None] * directions @ self.rotation.T, values


class TurboQuantStore(SlotStore):
    """The tensors of `Coded` [L',B,H,C,...] of the layers that are coded, keys and values [L'',B,H,C,D] of the others.

    positions: [L',B,H,C] int32, a copy of the positions in the cache, which counts their bytes.
    """

    bytes_follow_counts: ClassVar[bool] = True

    def __init__(self, config: TurboQuant, room: StoreSpec) -> None:
        geometry, dim = room.geometry, room.geometry.head_dim
        self.config, self._dtype = config, room.dtype
        self._coded = [n for n in range(geometry.n_layers) if config.codes_layer(n, geometry.n_layers)]
        self._plain = [n for n in range(geometry.n_layers) if n not in self._coded]
        self._codec = Codec(config, dim, room.device)
        heads = (room.rows, geometry.n_kv_heads, room.capacity)

        def new(layers: list[int], *shape: int, kind: torch.dtype, fill: int = 0) -> Tensor:
            return torch.full((len(layers), *heads, *shape), fill, dtype=kind, device=room.device)

        n_key_bytes, n_value_bytes = dim * config.key_bits // 8, dim * config.value_bits // 8
        self.key_codes = new(self._coded, n_key_bytes, kind=torch.uint8)
        self.key_norms = new(self._coded if config.key_bits < 8 else [], kind=torch.float16)
        self.value_codes = new(self._coded, n_value_bytes, kind=torch.uint8)
        self.value_scale, self.value_minimum = (new(self._coded, kind=torch.float16) for _ in range(2))
        self.positions = new(self._coded, kind=torch.int32, fill=-1)
        self.keys, self.values = (new(self._plain, dim, kind=room.dtype) for _ in range(2))

    def _at(self, take: Callable[[Tensor], Tensor]) -> Coded:
        """Return a part of all coded tensors."""
        norms = self.key_norms if len(self.key_norms) else torch.ones_like(self.value_scale)
        return Coded(*map(take, (self.key_codes, norms, self.value_codes, self.value_scale, self.value_minimum)))

    def _set(self, coded: Coded, where: Callable[[Tensor, Tensor], None]) -> None:
        """Hand every tensor, and what is new of it, to `where`."""
        tensors = (self.key_codes, self.key_norms, self.value_codes, self.value_scale, self.value_minimum)
        for tensor, new in zip(tensors, coded, strict=True):
            if len(tensor):
                where(tensor, new)

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Put one token [B,H,D] per (row, head) into its slot."""
        if layer in self._plain:
            n = self._plain.index(layer)
            put(self.keys[n], slot, keys)
            put(self.values[n], slot, values)
            return
        n = self._coded.index(layer)
        put(self.positions[n], slot, position_at(held.positions, slot))
        self._set(self._codec.encode(keys, values), lambda tensor, new: put(tensor[n], slot, new))

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return one layer's keys and values, [B,H,C,D]."""
        if layer in self._plain:
            n = self._plain.index(layer)
            return self.keys[n], self.values[n]
        n = self._coded.index(layer)
        keys, values = self._codec.decode(self._at(lambda x: x[n]))
        return keys.to(self._dtype), values.to(self._dtype)

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys and values [L,E,H_kv,C,D] of some rows of all layers."""
        decoded = self._codec.decode(self._at(lambda x: take_rows(x, rows)))
        found = []
        for coded, plain in zip(decoded, (self.keys, self.values), strict=True):
            taken = take_rows(plain, rows)
            whole = torch.empty(len(coded) + len(taken), *taken.shape[1:], dtype=self._dtype, device=plain.device)
            whole[self._coded], whole[self._plain] = coded.to(self._dtype), taken
            found.append(whole)
        return found[0], found[1]

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Replace rows [E] by keys and values [L,E,H,C,D]; a token that was here, and is as it was read, keeps its codes."""
        self.keys[:, rows], self.values[:, rows] = keys[self._plain], values[self._plain]
        if not self._coded:
            return
        keys, values, positions = keys[self._coded], values[self._coded], held.positions.long()[self._coded]
        before = self._at(lambda x: take_rows(x, rows))
        read_keys, read_values = (x.to(self._dtype) for x in self._codec.decode(before))
        index, same = moved(take_rows(self.positions, rows), positions, read_keys, keys)
        same &= moved(take_rows(self.positions, rows), positions, read_values, values)[1]
        kept = Coded(*(taken(x, index) for x in before))
        new = Coded(
            *(
                torch.where(like(same, old), old, fresh)
                for old, fresh in zip(kept, self._codec.encode(keys, values), strict=True)
            )
        )

        def replace(tensor: Tensor, content: Tensor) -> None:
            tensor[:, rows] = content

        self._set(new, replace)
        self.positions[:, rows] = positions.to(torch.int32)

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: codes, norms, scales and minima of the coded layers, whole vectors of the others."""
        dim, tokens = self.keys.shape[-1], counts.long().sum(dim=2)  # [L,B]
        coded = tokens[self._coded].sum(dim=0) * self.config.token_bytes(dim)
        return coded + tokens[self._plain].sum(dim=0) * (2 * dim * self.keys.element_size())

    def allocated_bytes(self) -> int:
        """Return the size of all tensors."""
        return sum(tensor.nbytes for tensor in vars(self).values() if isinstance(tensor, Tensor))


@cache
def centroids(dim: int, bits: int) -> tuple[float, ...]:
    """Return the Lloyd-Max levels for a normal distribution of variance 1/dim, ascending.

    As the release finds them, from evenly spaced levels within 3.5 standard deviations, with means over cells by 200
    trapezoids, the outer cells ending at 10.5 standard deviations.
    """
    sigma, n_levels = 1 / math.sqrt(dim), 2**bits
    levels = sigma * 3.5 * ((2 * np.arange(n_levels) + 1) / n_levels - 1)
    for _ in range(200):
        inner = (levels[:-1] + levels[1:]) / 2
        edges = np.concatenate([[-10.5 * sigma], inner, [10.5 * sigma]])
        x = np.linspace(edges[:-1], edges[1:], 201)  # [201, levels]
        density = np.exp(-(x**2) / (2 * sigma**2))
        found = np.trapezoid(x * density, x, axis=0) / np.trapezoid(density, x, axis=0)
        change, levels = float(np.abs(found - levels).max()), found
        if change < 1e-10:
            break
    return tuple(levels.tolist())


def rotation(dim: int, *, signs: bool) -> Tensor:
    """Return Sylvester's Hadamard matrix [D,D] divided by the root of D, its rows with random signs if asked for."""
    matrix = torch.ones(1, 1)
    while len(matrix) < dim:
        matrix = torch.cat([torch.cat([matrix, matrix], dim=1), torch.cat([matrix, -matrix], dim=1)])
    if signs:
        matrix = torch.where(hash_uniform(torch.arange(dim)) < 0.5, -1.0, 1.0)[:, None] * matrix
    return matrix / dim**0.5
