"""Plain strategies for the axes that are not under test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from designspace.axes import (
    Budget,
    Cadence,
    Decoding,
    Geometry,
    HeadRouting,
    IntOrTensor,
    Mechanism,
    Needs,
    Representation,
    Schedule,
    Scoring,
    Selector,
    SlotState,
    SlotStore,
    StoreSpec,
    Strategy,
    View,
)
from designspace.axes.ranking import keep_protected, rank_descending
from designspace.testing.conformance.cases import SHAPES, ArtefactMaker, Shape


@dataclass(frozen=True)
class Best(Selector):
    """The highest scores, protected slots first."""

    kind: ClassVar[str] = "top-k"

    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Return the kept mask [L,E,H_kv,C]."""
        protected = keep_protected(view, shares)
        left = shares - protected.sum(dim=-1)
        return protected | (view.candidates & (rank_descending(scores, view.candidates) < left[..., None]))


@dataclass(frozen=True)
class Norms(Scoring):
    """The norm of the key: different for every token, the same wherever the head stands."""

    kind: ClassVar[str] = "norms"

    selector: Selector = field(default=Best())

    def needs(self) -> Needs:
        """Return the need for the keys."""
        return Needs(keys=True)

    def score(self, view: View) -> Tensor:
        """Return norms [L,E,H_kv,C]."""
        return view.keys.float().norm(dim=-1)


@dataclass(frozen=True)
class Everything(Norms):
    """The scoring of a mechanism without events."""

    kind: ClassVar[str] = "full"
    keeps_everything: ClassVar[bool] = True


@dataclass(frozen=True)
class Even(HeadRouting):
    """The target, everywhere."""

    kind: ClassVar[str] = "uniform"
    works_without_events: ClassVar[bool] = True

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return the target for all heads, [L,E,H_kv]."""
        return target.long()[None, :, None].expand_as(view.counts)

    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the target."""
        return target


@dataclass(frozen=True)
class EveryFew(Schedule):
    """Due when `max_growth` tokens have come since the last cut."""

    def due(self, step: IntOrTensor, size: IntOrTensor, n_events: IntOrTensor) -> IntOrTensor:
        """Return whether the row is full."""
        due: IntOrTensor = size >= self.high + self.max_growth
        return due


@dataclass(frozen=True)
class Four(Cadence):
    """Cut to a nominal budget every four tokens."""

    kind: ClassVar[str] = "hysteresis"

    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule; every reading counts as nominal."""
        return EveryFew(budget.tokens, budget.tokens, 4, budget.tokens + 2.5)


@dataclass(frozen=True)
class NoEvent(Four):
    """The cadence of a mechanism without events."""

    kind: ClassVar[str] = "never"
    compresses: ClassVar[bool] = False
    bounded: ClassVar[bool] = False


class PlainStore(SlotStore):
    """keys, values: [L,B,H_kv,C,D] in the model's type."""

    def __init__(self, room: StoreSpec) -> None:
        shape = (room.geometry.n_layers, room.rows, room.geometry.n_kv_heads, room.capacity, room.geometry.head_dim)
        self.keys = torch.zeros(shape, dtype=room.dtype, device=room.device)
        self.values = torch.zeros(shape, dtype=room.dtype, device=room.device)

    def write(self, layer: int, slot: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Put one token per (row, head) into its slot."""
        index = slot[:, :, None, None].expand(-1, -1, 1, keys.shape[-1])
        self.keys[layer].scatter_(2, index, keys[:, :, None])
        self.values[layer].scatter_(2, index, values[:, :, None])

    def read(self, layer: int, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return one layer."""
        return self.keys[layer], self.values[layer]

    def read_rows(self, rows: Tensor, held: SlotState) -> tuple[Tensor, Tensor]:
        """Return some rows of all layers."""
        return self.keys[:, rows], self.values[:, rows]

    def load(self, rows: Tensor, keys: Tensor, values: Tensor, held: SlotState) -> None:
        """Replace rows."""
        self.keys[:, rows] = keys
        self.values[:, rows] = values

    def held_bytes(self, counts: Tensor) -> Tensor:
        """Return 2 D itemsize bytes per token and head."""
        return counts.long().sum(dim=(0, 2)) * 2 * self.keys.shape[-1] * self.keys.element_size()

    def allocated_bytes(self) -> int:
        """Return the size of both tensors."""
        return self.keys.nbytes + self.values.nbytes


@dataclass(frozen=True)
class Plain(Representation):
    """Keys and values as they are."""

    kind: ClassVar[str] = "full"

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty store."""
        return PlainStore(room)


@dataclass(frozen=True)
class Likeliest(Decoding):
    """The most probable token."""

    kind: ClassVar[str] = "greedy"

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Return the argmax of [B,V]."""
        return logits.argmax(dim=-1)


@dataclass(frozen=True)
class HostMechanism:
    """What a strategy is tried with: a mechanism it belongs in, calibrations it needs, shapes of events."""

    within: Mechanism | None = None
    artefacts: ArtefactMaker | None = None
    shapes: Sequence[Shape] = SHAPES


def composed(strategy: Strategy, within: Mechanism | None = None) -> Mechanism:
    """Return a mechanism with this strategy on its axis, the other axes as in `within` or plain.

    Raises:
        DeclarationError: the strategy objects to that company; give it a mechanism it belongs in.
    """
    with_events = Mechanism("probe", Norms(), Even(), Four(), Plain(), Likeliest())
    axes = {
        axis: getattr(within or with_events, axis) for axis in ("scoring", "head_routing", "cadence", "representation")
    }
    if isinstance(strategy, Selector):
        axes["scoring"] = Norms(selector=strategy)
    else:
        axes[strategy.axis] = strategy
    if within is None and not _cuts(strategy):
        axes |= {"scoring": Everything(), "cadence": NoEvent()} | {strategy.axis: strategy}
    return Mechanism("probe", **axes, decoding=strategy if isinstance(strategy, Decoding) else Likeliest())


def _cuts(strategy: Strategy) -> bool:
    """Return whether a strategy goes with events."""
    if isinstance(strategy, Scoring):
        return not strategy.keeps_everything
    if isinstance(strategy, Cadence):
        return strategy.compresses
    return strategy.evicts if isinstance(strategy, Representation) else True
