"""KVTuner: code widths for keys and values that differ from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from designspace.axes import Composition, Geometry, Needs, Representation, Schedule, SlotState, SlotStore, StoreSpec
from designspace.errors import DeclarationError, InfeasibleBudget
from families.representation.kivi import Kivi, KiviStore, exact_window_reason

KV_TUNER = "kv-tuner"
Width = Literal[2, 4, 8]
Pair = tuple[Width, Width]
WIDTHS: tuple[Width, ...] = (8, 4, 2)
_MEAN_BITS = 4.0


@dataclass(frozen=True)
class KVTuner(Representation):
    """Store codes as `kivi` does, with code widths of keys and values chosen for each layer [li2025kvtuner].

    The pairs (key bits, value bits) are given, or chosen before the run: among all choices with a mean of at most
    `mean_bits`, those with the least sum over layers of the attention output's relative error on calibration texts
    (calibration "kv-tuner"), by exact dynamic programming. The published search is evolutionary, over clusters of
    layers, for few-shot accuracy. All pairs have the same groups, so scales add the same bytes to every choice, and an
    order by bits is an order by bytes. The quantiser is KIVI's, with a real minimum; the published one rounds a zero
    point. What is in codes stays as it is, also as in KIVI; the released code decodes the whole cache and codes it anew
    whenever `residual` exact tokens have come.

    Attributes:
        pairs: one pair for each layer of the model, or a single one for all layers; empty (the default): they are
            chosen.
        mean_bits: largest mean of all key and value bits of all layers; None (the default): 4 if pairs are chosen.
        choices: pairs to choose from; by default the published five.
        group: number of elements that share a scale and a minimum, as in `kivi`; 32 by default.
        residual: number of newest tokens that stay exact, as in `kivi`; 32 by default, as in the original.
    """

    kind: ClassVar[str] = "kvtuner"
    citation: ClassVar[str | None] = "li2025kvtuner"

    pairs: tuple[Pair, ...] = ()
    mean_bits: float | None = None
    choices: tuple[Pair, ...] = ((8, 8), (8, 4), (4, 4), (4, 2), (2, 2))
    group: Annotated[int, Ge(1)] = 32
    residual: Annotated[int, Ge(1)] = 32

    def __post_init__(self) -> None:
        """Check that pairs are given or can be chosen, and that the exact window holds whole groups."""
        super().__post_init__()
        if self.pairs and self.mean_bits is not None:
            raise DeclarationError(
                f"give pairs or mean_bits, not both, got pairs={self.pairs}, mean_bits={self.mean_bits}"
            )
        if not self.pairs and not self.choices:
            raise DeclarationError("choices must name at least one pair, got choices=()")
        if not self.pairs and self._most_bits < min(map(_mean, self.choices)):
            raise DeclarationError(
                f"mean_bits must be at least the smallest mean of choices, {min(map(_mean, self.choices))}, "
                f"got mean_bits={self.mean_bits}"
            )
        Kivi(group=self.group, residual=self.residual)

    @property
    def _most_bits(self) -> float:
        return _MEAN_BITS if self.mean_bits is None else self.mean_bits

    def needs(self) -> Needs:
        """Return the calibration that measured the errors, if pairs are to be chosen."""
        return Needs() if self.pairs else Needs(calibrations=(KV_TUNER,))

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Refuse head dimensions that do not divide into groups, and models with another number of layers."""
        if geometry.head_dim % self.group:
            return f"kvtuner group must divide the head dimension, got group={self.group}, head_dim={geometry.head_dim}"
        if len(self.pairs) not in (0, 1, geometry.n_layers):
            return f"kvtuner needs one pair per layer, got {len(self.pairs)} pairs for {geometry.n_layers} layers"
        return None

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """A budget that the exact window holds leaves nothing to encode."""
        return exact_window_reason(self.residual, schedule)

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty store of one KIVI store per layer.

        Raises:
            InfeasibleBudget: the pairs are to be chosen, but there is no calibration to choose by.
        """
        return KVTunerStore([Kivi(k, self.group, self.residual, v) for k, v in self._layer_pairs(room)], room)

    def _layer_pairs(self, room: StoreSpec) -> list[Pair]:
        """Return the pair of each layer that has a cache."""
        geometry = room.geometry
        if len(self.pairs) == 1:
            return list(self.pairs) * geometry.n_layers
        if self.pairs:
            return [self.pairs[layer] for layer in geometry.layers or range(geometry.n_layers)]
        if KV_TUNER not in room.artefacts:
            raise InfeasibleBudget(
                f"representation 'kvtuner' knows its bytes only with calibration {KV_TUNER!r}; use a budget in tokens, or pairs"
            )
        measured = room.artefacts[KV_TUNER]
        error, known = geometry.held(measured["error"]).tolist(), measured["pairs"].tolist()
        column = [known.index(list(pair)) for pair in self.choices]
        return choose_pairs([[row[i] for i in column] for row in error], self.choices, self._most_bits)


def _mean(pair: Pair) -> float:
    return sum(pair) / 2


def choose_pairs(error: Sequence[Sequence[float]], choices: Sequence[Pair], mean_bits: float) -> list[Pair]:
    """Return one of `choices` per layer with the least summed error and at most `mean_bits` in the mean.

    error: per layer, per choice. Among equals the fewest bits win, then the earlier choices.
    """
    most = int(2 * len(error) * mean_bits + 1e-9)
    best: dict[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}  # bits spent -> error, choices
    for of_layer in error:
        reached: dict[int, tuple[float, tuple[int, ...]]] = {}
        for spent, (total, chosen) in best.items():
            for index, pair in enumerate(choices):
                candidate = (total + of_layer[index], (*chosen, index))
                bits = spent + sum(pair)
                if bits <= most and (bits not in reached or candidate < reached[bits]):
                    reached[bits] = candidate
        best = reached
    _, bits = min((total, bits) for bits, (total, _) in best.items())
    return [choices[index] for index in best[bits][1]]


class KVTunerStore(SlotStore):
    """One KIVI store per layer; their tensors [1,B,H,...] are attributes here too, as snapshots go by attributes."""

    def __init__(self, layers: Sequence[Kivi], room: StoreSpec) -> None:
        one = room._replace(geometry=replace(room.geometry, n_layers=1, layers=None))
        self.layers = [KiviStore(config, one) for config in layers]
        for number, store in enumerate(self.layers):
            tensors = {name: x for name, x in vars(store).items() if isinstance(x, Tensor)}
            vars(self).update({f"{name}_{number}": x for name, x in tensors.items()})

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Append one token to the layer's store."""
        self.layers[layer].write(0, slot, keys, values, held)

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys and values [B,H,C,D] of the layer's store."""
        return self.layers[layer].read(0, held)

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return keys and values [L,E,H_kv,C,D] of some rows of all layers."""
        parts = [store.read_rows(rows, _of_layer(held, layer)) for layer, store in enumerate(self.layers)]
        return torch.cat([keys for keys, _ in parts]), torch.cat([values for _, values in parts])

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Encode whole rows [E] again; keys, values: [L,E,H,C,D]."""
        for layer, store in enumerate(self.layers):
            only = slice(layer, layer + 1)
            store.load(rows, keys[only], values[only], _of_layer(held, layer))

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return [B] int64: the sum over layers."""
        parts = [store.held_bytes(counts[layer : layer + 1]) for layer, store in enumerate(self.layers)]
        return torch.stack(parts).sum(dim=0)

    def allocated_bytes(self) -> int:
        """Return the size of all layers' tensors."""
        return sum(store.allocated_bytes() for store in self.layers)


def _of_layer(held: SlotState, layer: int) -> SlotState:
    """Return the slot state of one layer, with the layer dimension kept; KIVI uses no observations."""
    return SlotState(held.counts[layer : layer + 1], held.positions[layer : layer + 1], held.observed)
