"""The five axis contracts and their composition, `Mechanism`.

A strategy is a frozen dataclass: its fields are its parameters, so that it prints, compares, hashes and validates itself,
and one instance may serve any number of runs. Strategies hold no tensors and no state; what must be remembered between
steps lives in the slot cache and its observers.

Shapes: L layers, B rows (E rows of one event), H_q query heads, H_kv KV heads, C slots, D head dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from designspace.errors import DeclarationError
from designspace.schedule import Budget, Schedule

if TYPE_CHECKING:
    from designspace.geometry import Geometry
    from designspace.slot_store import SlotStore
    from designspace.view import View

AXES = ("representation", "head_routing", "cadence", "decoding", "scoring")


@dataclass(frozen=True)
class Needs:
    """What a strategy wants observed while the model runs; nothing else is collected or paid for.

    Attributes:
        queries: number of most recent post-RoPE queries to keep per row (0 = none).
        accumulated: running sum of the attention mass that each held slot received, group mean, float32.
        last: the attention row of the newest query.
        calibration: name of the calibration artefact, or None.
    """

    queries: int = 0
    accumulated: bool = False
    last: bool = False
    calibration: str | None = None

    def __or__(self, other: Needs) -> Needs:
        """Return the union of two declarations."""
        return Needs(
            max(self.queries, other.queries),
            self.accumulated or other.accumulated,
            self.last or other.last,
            self.calibration or other.calibration,
        )


@dataclass(frozen=True)
class Strategy(ABC):
    """Base of every strategy on every axis.

    Class attributes: `axis` and `kind` name it in YAML, `version` is raised when its output changes for the same
    parameters (it is part of a cell's identity), `citation` is a key of `docs/references.bib`.
    """

    axis: ClassVar[str]
    kind: ClassVar[str]
    version: ClassVar[int] = 1
    citation: ClassVar[str | None] = None

    def needs(self) -> Needs:
        """Return what must be observed for this strategy."""
        return Needs()

    def identity(self) -> dict[str, Any]:
        """Return kind, version and every parameter as JSON-able data: this strategy's share of a cell's identity."""
        parameters = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            "kind": self.kind,
            "version": self.version,
            **{k: v.identity() if isinstance(v, Strategy) else v for k, v in parameters.items()},
        }


@dataclass(frozen=True)
class Selector(Strategy):
    """Turns scores into kept sets. A sub-axis of scoring: any selector works with any score."""

    axis: ClassVar[str] = "selector"

    @abstractmethod
    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Choose exactly `min(shares, filled)` slots per (layer, row, head), protected ones first.

        scores: [L,E,H_kv,C] float32, larger = keep. shares: [L,E,H_kv] int64. Reads `view.protected`.
        Returns the kept mask [L,E,H_kv,C], bool. Ties go to the larger position.
        """


@dataclass(frozen=True)
class Scoring(Strategy):
    """Says which tokens are worth a slot.

    Protection is shared code: the first `sinks` positions and the newest `recent` ones are always kept (as far as the
    share allows) and count in the budget.
    """

    axis: ClassVar[str] = "scoring"
    comparable: ClassVar[bool] = False  # are scores of different heads on one scale (probabilities)?
    keeps_everything: ClassVar[bool] = False

    selector: Selector
    sinks: int = field(default=0, kw_only=True)
    recent: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        """Check the parameters shared by all scorings."""
        for name in ("sinks", "recent"):
            if getattr(self, name) < 0:
                raise DeclarationError(f"{name} must be at least 0, got {name}={getattr(self, name)}")

    @abstractmethod
    def score(self, view: View) -> Tensor:
        """Return [L,E,H_kv,C] float32 scores, larger = keep; entries of free slots are ignored."""


@dataclass(frozen=True)
class HeadRouting(Strategy):
    """Gives each (layer, KV head) its share of the budget."""

    axis: ClassVar[str] = "head_routing"

    @abstractmethod
    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv] that sum to exactly `target * L * H_kv` per row; target: [E].

        Use `designspace.compress.largest_remainder` to round. The event caps shares at the tokens present, hands the
        surplus on, and asserts the total (everything, where less is present).
        """

    @abstractmethod
    def largest_share(self, target: int, geometry: Geometry, protected: int) -> int:
        """Return the most tokens any single head may get at this after-event mean: it fixes the number of slots."""


@dataclass(frozen=True)
class Cadence(Strategy):
    """Says when rows are compressed, and to what size; `schedule` binds it to a budget."""

    axis: ClassVar[str] = "cadence"
    compresses: ClassVar[bool] = True
    bounded: ClassVar[bool] = True  # False: the cache grows with the text, so no steady mean exists

    @abstractmethod
    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule whose budget, in the reading asked for, is `budget`.

        Raises:
            InfeasibleBudget: no after-event size gives that budget with these parameters.
        """


@dataclass(frozen=True)
class Representation(Strategy):
    """Says what a slot really holds."""

    axis: ClassVar[str] = "representation"

    @abstractmethod
    def allocate(
        self, geometry: Geometry, rows: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> SlotStore:
        """Return an empty store for `rows` x `capacity` slots in every layer and KV head."""

    def refusal(self, geometry: Geometry) -> str | None:
        """Return why this representation cannot hold this model's heads, or None."""
        return None


@dataclass(frozen=True)
class Decoding(Strategy):
    """Turns logits into tokens."""

    axis: ClassVar[str] = "decoding"

    @abstractmethod
    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Return one token id per row, [B] int64.

        logits: [B,V] float32. uniforms: [B] float64 in [0,1), one counter-based number per row and step.
        """


@dataclass(frozen=True)
class Mechanism:
    """One strategy per axis, under a name. `decoding=None` means: as the sweep's generation settings say."""

    name: str
    scoring: Scoring
    head_routing: HeadRouting
    cadence: Cadence
    representation: Representation
    decoding: Decoding | None = None
    citation: str | None = None
    summary: str = ""

    def __post_init__(self) -> None:
        """Refuse compositions that would run but mean nothing.

        Raises:
            DeclarationError: with every reason found.
        """
        reasons = self.refusals()
        if reasons:
            raise DeclarationError(f"mechanism {self.name!r}: {reason}" for reason in reasons)

    def refusals(self) -> list[str]:
        """Return why this composition is refused; empty when it is legal."""
        reasons = []
        if self.scoring.keeps_everything and self.cadence.compresses:
            reasons.append(
                f"scoring 'full' ranks nothing, so cadence {self.cadence.kind!r} has nothing to cut: use 'never'"
            )
        if not self.scoring.keeps_everything and not self.cadence.compresses:
            reasons.append(f"cadence 'never' makes no event, so scoring {self.scoring.kind!r} would have no effect")
        if not self.cadence.compresses and self.head_routing.kind != "uniform":
            reasons.append(
                f"cadence 'never' makes no event, so head routing {self.head_routing.kind!r} would have no effect"
            )
        return reasons

    @property
    def budget_applies(self) -> bool:
        """Whether the budget axis means anything: it is collapsed before hashing when not, so the arm runs once."""
        return self.cadence.compresses

    def needs(self) -> Needs:
        """Return the union of what the axes want observed."""
        return self.scoring.needs() | self.scoring.selector.needs() | self.head_routing.needs()

    def strategies(self) -> dict[str, Strategy]:
        """Return the strategies by axis, leaving out an undeclared decoding."""
        found = {axis: getattr(self, axis) for axis in AXES}
        return {axis: strategy for axis, strategy in found.items() if strategy is not None}

    def identity(self) -> dict[str, Any]:
        """Return the composition as JSON-able data; the name is a label and stays out."""
        return {axis: strategy.identity() for axis, strategy in self.strategies().items()}

    def bind(self, budget: Budget | None) -> Schedule:
        """Return the cadence's schedule for this budget, checked against what the scoring protects.

        Raises:
            InfeasibleBudget: the cadence cannot hold the budget.
            DeclarationError: the protected tokens alone would fill it, or a budget is missing.
        """
        if budget is None and self.budget_applies:
            raise DeclarationError(f"mechanism {self.name!r} compresses, so it needs a budget")
        schedule = self.cadence.schedule(budget or Budget(1, "nominal"))
        protected = self.scoring.sinks + self.scoring.recent
        if self.budget_applies and protected >= schedule.low:
            raise DeclarationError(
                f"sinks + recent must be smaller than the after-event size, got sinks={self.scoring.sinks}, "
                f"recent={self.scoring.recent}, after-event size={schedule.low} (budget {budget})"
            )
        return schedule

    def override(self, name: str, **axes: Any) -> Mechanism:
        """Return this mechanism under another name with some axes replaced."""
        return replace(self, name=name, summary=f"{self.name} with another {', '.join(axes)}", **axes)
