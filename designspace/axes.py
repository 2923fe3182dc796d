"""The five axis contracts and their composition, `Mechanism`.

A strategy is a frozen dataclass: its fields are its parameters, so that it prints, compares, hashes and validates itself,
and one instance may serve any number of runs. Strategies hold no tensors and no state; what must be remembered between
steps lives in the slot cache and its observers.

Shapes: L layers, B rows (E rows of one event), H_q query heads, H_kv KV heads, C slots, D head dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from designspace.errors import DeclarationError
from designspace.schedule import Budget, Schedule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from designspace.control import Controller, StepSeen, TextCodec
    from designspace.engine import Generation
    from designspace.geometry import Geometry
    from designspace.models.calibration import Artefact
    from designspace.slot_store import Room, SlotStore
    from designspace.trackers import Tracker
    from designspace.view import View

AXES = ("representation", "head_routing", "cadence", "decoding", "scoring")


@dataclass(frozen=True)
class Needs:
    """What a strategy wants observed while the model runs; nothing else is collected or paid for.

    Attributes:
        queries: number of most recent post-RoPE queries to keep per row (0 = none).
        accumulated: running sum of the attention mass that each held slot received, group mean, float32.
        last: the attention row of the newest query.
        trackers: per-slot numbers to keep up to date from every row of attention.
        calibrations: names of calibration artefacts.
        output_projection: the weights that turn head outputs into the residual stream.
        layer_cosine: how little each layer's attention turned the residual stream over the prompt.
    """

    queries: int = 0
    accumulated: bool = False
    last: bool = False
    trackers: tuple[Tracker, ...] = ()
    calibrations: tuple[str, ...] = ()
    output_projection: bool = False
    layer_cosine: bool = False

    def __or__(self, other: Needs) -> Needs:
        """Return the union of two declarations."""
        return Needs(
            max(self.queries, other.queries),
            self.accumulated or other.accumulated,
            self.last or other.last,
            tuple(dict.fromkeys(self.trackers + other.trackers)),
            tuple(sorted({*self.calibrations, *other.calibrations})),
            self.output_projection or other.output_projection,
            self.layer_cosine or other.layer_cosine,
        )

    @property
    def weights(self) -> bool:
        """Whether attention probabilities must be formed."""
        return self.accumulated or self.last or bool(self.trackers)


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

    def refusal(self, geometry: Geometry) -> str | None:
        """Return why this strategy cannot work on a model of this geometry, or None."""
        return None

    def objection(self, mechanism: Mechanism) -> str | None:
        """Return why this strategy would mean nothing, or the wrong thing, in this composition, or None."""
        return None

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

    @property
    def one_ranking(self) -> bool:
        """Whether a token's score is the same in every layer and head."""
        return False

    @abstractmethod
    def score(self, view: View) -> Tensor:
        """Return [L,E,H_kv,C] float32 scores, larger = keep; entries of free slots are ignored."""


@dataclass(frozen=True)
class HeadRouting(Strategy):
    """Gives each (layer, KV head) its share of the budget."""

    axis: ClassVar[str] = "head_routing"
    works_without_events: ClassVar[bool] = False

    def owners(self, geometry: Geometry, artefacts: Mapping[str, Artefact]) -> tuple[int, ...] | None:
        """Return for each layer the layer whose cache it reads (its own, or an earlier one's), or None: each its own."""
        return None

    def adapt(self, view: View, scores: Tensor) -> Tensor:
        """Return the scores [L,E,H_kv,C] after the routing had its say on what each head ranks by; default: unchanged."""
        return scores

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

    def signal(self, seen: StepSeen) -> Tensor | None:
        """Return one number per row [B] that this step says to the rows' pacers; None: the cadence goes by sizes alone."""
        return None


@dataclass(frozen=True)
class Representation(Strategy):
    """Says what a slot really holds."""

    axis: ClassVar[str] = "representation"
    evicts: ClassVar[bool] = True  # may slots be cut? False: it needs cadence "never"
    carries_mass: ClassVar[bool] = False  # may one slot stand for several tokens?
    memory_size: ClassVar[int] = 0  # float32 numbers per (layer, row, head) that `fold` keeps between events
    bytes_depend_on_data: ClassVar[bool] = False  # is the size of a token known only once it is there?

    @property
    def merges(self) -> bool:
        """Whether events change what kept slots hold."""
        return type(self).fold is not Representation.fold

    @abstractmethod
    def allocate(self, room: Room) -> SlotStore:
        """Return an empty store for `room.rows` x `room.capacity` slots in every layer and KV head."""

    def fold(self, view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> Folded:
        """Return what the kept slots hold after an event: themselves, unless this representation merges.

        scores: [L,E,H_kv,C]. shares: [L,E,H_kv]. keep: [L,E,H_kv,C] bool, the selector's choice. The answer must keep
        exactly `shares` slots per head, protected ones first; contents may change at kept slots only.
        """
        return Folded(keep, view.keys, view.values)


class Folded(NamedTuple):
    """What an event leaves: kept slots [L,E,H_kv,C] bool, keys and values [L,E,H_kv,C,D], tokens per slot, memory.

    mass: [L,E,H_kv,C] int64, how many tokens a slot stands for; None: one each. memory: [L,E,H_kv,memory_size] float32.
    """

    keep: Tensor
    keys: Tensor
    values: Tensor
    mass: Tensor | None = None
    memory: Tensor | None = None


@dataclass(frozen=True)
class Decoding(Strategy):
    """Turns logits into tokens, and may steer the text and the cache through a controller."""

    axis: ClassVar[str] = "decoding"

    @abstractmethod
    def choose(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Return one token id per row, [B] int64.

        logits: [B,V] float32. uniforms: [B] float64 in [0,1), one counter-based number per row and draw.
        """

    @property
    def samples(self) -> int:
        """How many generations are made of each problem, of which one answer is returned."""
        return 1

    @property
    def grows(self) -> bool:
        """Whether it may make a row hold more than its cadence says."""
        return False

    def sample_budget(self, budget: Budget) -> Budget:
        """Return what one of `samples` generations may hold."""
        return budget

    def combine(self, problem_id: str, generations: Sequence[Generation], texts: Sequence[str]) -> Generation:
        """Return the one generation that stands for all `samples` of a problem, with what all of them cost."""
        (only,) = generations
        return only

    def draws(self, max_new_tokens: int) -> int:
        """Return the most random numbers that one generation may use; 0 if it uses none at all."""
        return max_new_tokens

    def cue(self, prompt: str) -> str:
        """Return the prompt with what this decoding adds to it."""
        return prompt

    def controller(self, text: TextCodec) -> Controller | None:
        """Return a fresh controller for one generation, or None if the tokens chosen are all there is to it."""
        return None

    def completed(self, default: Decoding) -> Decoding:
        """Return this decoding with `default` in the place of a chooser that was left out."""
        return self


@dataclass(frozen=True)
class Mechanism:
    """One strategy per axis, under a name. `decoding=None` means: as the sweep's generation settings say.

    `choices`: what the published text leaves open or what is done otherwise here, and the parameter that changes it.
    """

    name: str
    scoring: Scoring
    head_routing: HeadRouting
    cadence: Cadence
    representation: Representation
    decoding: Decoding | None = None
    citation: str | None = None
    summary: str = ""
    choices: tuple[str, ...] = ()

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
        if not self.cadence.compresses and not self.head_routing.works_without_events:
            reasons.append(
                f"cadence 'never' makes no event, so head routing {self.head_routing.kind!r} would have no effect"
            )
        if not self.cadence.compresses and self.representation.merges:
            reasons.append(
                f"cadence 'never' makes no event, so representation {self.representation.kind!r} would merge nothing"
            )
        if self.cadence.compresses and not self.representation.evicts:
            reasons.append(f"representation {self.representation.kind!r} keeps every token: use cadence 'never'")
        reasons.extend(
            reason for strategy in self.strategies().values() if (reason := strategy.objection(self)) is not None
        )
        return reasons

    @property
    def budget_applies(self) -> bool:
        """Whether the budget axis means anything: it is collapsed before hashing when not, so the arm runs once."""
        return self.cadence.compresses

    def needs(self) -> Needs:
        """Return the union of what the axes want observed."""
        needs = self.scoring.selector.needs()
        for strategy in self.strategies().values():
            needs = needs | strategy.needs()
        return needs

    def strategies(self) -> dict[str, Strategy]:
        """Return the strategies by axis, leaving out an undeclared decoding."""
        found = {axis: getattr(self, axis) for axis in AXES}
        return {axis: strategy for axis, strategy in found.items() if strategy is not None}

    def identity(self) -> dict[str, Any]:
        """Return the composition as JSON-able data; the name is a label and stays out."""
        return {axis: strategy.identity() for axis, strategy in self.strategies().items()}

    def refusals_on(self, geometry: Geometry) -> list[str]:
        """Return why this composition cannot run on a model of this geometry; empty when it can."""
        found = [strategy.refusal(geometry) for strategy in (*self.strategies().values(), self.scoring.selector)]
        return [reason for reason in found if reason is not None]

    def bind(
        self,
        budget: Budget | None,
        geometry: Geometry | None = None,
        dtype: torch.dtype = torch.float32,
        owners: tuple[int, ...] | None = None,
    ) -> Schedule:
        """Return the cadence's schedule for this budget, checked against what the scoring protects.

        A budget in bytes is turned into tokens for a model's geometry, cache type and shared layers; without a geometry it
        is taken for as many tokens, which is what full precision makes of it.

        Raises:
            InfeasibleBudget: the cadence cannot hold the budget.
            DeclarationError: the protected tokens alone would fill it, or a budget is missing.
        """
        if budget is None and self.budget_applies:
            raise DeclarationError(f"mechanism {self.name!r} compresses, so it needs a budget")
        if budget is not None and self.decoding is not None:
            budget = self.decoding.sample_budget(budget)
        if budget is not None and budget.of == "bytes":
            budget = self.in_tokens(budget, geometry, dtype, owners)
        schedule = self.cadence.schedule(budget or Budget(1, "nominal"))
        protected = self.scoring.sinks + self.scoring.recent
        if self.budget_applies and protected >= schedule.low:
            raise DeclarationError(
                f"sinks + recent must be smaller than the after-event size, got sinks={self.scoring.sinks}, "
                f"recent={self.scoring.recent}, after-event size={schedule.low} (budget {budget})"
            )
        return schedule

    def in_tokens(
        self, budget: Budget, geometry: Geometry | None, dtype: torch.dtype, owners: tuple[int, ...] | None = None
    ) -> Budget:
        """Return the mean budget in tokens that a budget in bytes comes to on a model.

        Raises:
            InfeasibleBudget: no number of tokens fits.
        """
        from designspace.byte_budget import tokens_for_bytes

        if geometry is None:
            return Budget(budget.tokens)
        return tokens_for_bytes(self, budget, geometry, dtype, owners)

    def override(self, name: str, **axes: Any) -> Mechanism:
        """Return this mechanism under another name with some axes replaced."""
        return replace(self, name=name, summary=f"{self.name} with another {', '.join(axes)}", **axes)
