"""Strategies that do what they are told, to break one rule at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from designspace.axes import (
    Budget,
    Controller,
    Geometry,
    MergeResult,
    Needs,
    Schedule,
    Selector,
    SlotStore,
    StepSeen,
    StoreSpec,
    TextCodec,
    View,
)
from designspace.testing.conformance.probes import Best, Even, EveryFew, Four, Likeliest, Norms, Plain, PlainStore

NOTHING = Needs()
KEYS = Needs(keys=True)


@dataclass(frozen=True)
class ToldScoring(Norms):
    """Scores as told; by default the norms of the keys."""

    kind: ClassVar[str] = "told"

    selector: Selector = field(default=Best())
    give: Callable[[View], Tensor] = lambda view: view.keys.norm(dim=-1)
    declared: Needs = KEYS

    def needs(self) -> Needs:
        """Declare what it is told to."""
        return self.declared

    def score(self, view: View) -> Tensor:
        """Score as told."""
        return self.give(view)


@dataclass(frozen=True)
class ToldSelector(Best):
    """Selects as told; `give` gets the view, the scores and the shares."""

    kind: ClassVar[str] = "told"

    give: Callable[[View, Tensor, Tensor], Tensor] = lambda view, scores, shares: Best().select(view, scores, shares)
    declared: Needs = NOTHING

    def needs(self) -> Needs:
        """Declare what it is told to."""
        return self.declared

    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Select as told."""
        return self.give(view, scores, shares)


@dataclass(frozen=True)
class ToldRouting(Even):
    """Allocates and adapts as told."""

    kind: ClassVar[str] = "told"

    give: Callable[[View, Tensor, Tensor], Tensor] = lambda view, scores, target: Even().allocate(view, scores, target)
    adapted: Callable[[View, Tensor], Tensor] = lambda view, scores: scores
    owned: tuple[int, ...] | None = None
    declared: Needs = NOTHING

    def needs(self) -> Needs:
        """Declare what it is told to."""
        return self.declared

    def owners(self, geometry: Geometry, artefacts: Any) -> tuple[int, ...] | None:
        """Share layers as told."""
        return self.owned

    def adapt(self, view: View, scores: Tensor) -> Tensor:
        """Adapt as told."""
        return self.adapted(view, scores)

    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Allocate as told."""
        return self.give(view, scores, target)


@dataclass(frozen=True)
class ToldCadence(Four):
    """Binds to a schedule of the class it is told."""

    kind: ClassVar[str] = "told"

    bound: type[Schedule] = EveryFew
    said: Callable[[StepSeen], Tensor | None] = lambda seen: None
    declared: Needs = NOTHING

    def needs(self) -> Needs:
        """Declare what it is told to."""
        return self.declared

    def signal(self, seen: StepSeen) -> Tensor | None:
        """Say what it is told to."""
        return self.said(seen)

    def schedule(self, budget: Budget) -> Schedule:
        """Bind the mean exactly (sizes differ by one where it takes a half), the other readings as they come."""
        low = {"mean": budget.tokens - 3, "nominal": budget.tokens}.get(budget.of, budget.tokens - 4)
        high = low + (budget.of == "mean")
        return self.bound(low, high, 4, low + (high - low) / 2 + 2.5)


@dataclass(frozen=True)
class ToldRepresentation(Plain):
    """Holds slots in a store of the class it is told, and folds as told."""

    kind: ClassVar[str] = "told"

    store: Callable[[StoreSpec], SlotStore] = PlainStore
    folded: Callable[[View, Tensor, Tensor, Tensor], MergeResult] = lambda view, scores, shares, keep: MergeResult(keep)
    declared: Needs = NOTHING

    def needs(self) -> Needs:
        """Declare what it is told to."""
        return self.declared

    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return a store of the class it is told."""
        return self.store(room)

    def merge_evicted(self, view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> MergeResult:
        """Fold as told."""
        return self.folded(view, scores, shares, keep)


@dataclass(frozen=True)
class ToldDecoding(Likeliest):
    """Chooses and steers as told."""

    kind: ClassVar[str] = "told"

    give: Callable[[Tensor, Tensor], Tensor] = lambda logits, uniforms: logits.argmax(dim=-1)
    steer: Callable[[], Controller | None] = lambda: None
    n_samples: int = 1

    @property
    def samples(self) -> int:
        """Make as many samples as told."""
        return self.n_samples

    def controller(self, text: TextCodec) -> Controller | None:
        """Steer as told."""
        return self.steer()

    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Choose as told."""
        return self.give(logits, uniforms)
