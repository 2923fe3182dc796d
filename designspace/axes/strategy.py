"""The five axis contracts and their composition, `Mechanism`.

A strategy is a frozen dataclass: its fields are its parameters, so that it prints, compares, hashes and validates itself,
and one instance may serve any number of runs. Strategies hold no tensors and no state; what must be remembered between
steps lives in the slot cache and its observers.

Shapes: L layers, B rows (E rows of one event), H_q query heads, H_kv KV heads, C slots, D head dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol

from annotated_types import Ge
from torch import Tensor

from designspace.axes.artefact import Artefact
from designspace.axes.budget import Budget
from designspace.axes.control import Controller, StepSeen, TextCodec
from designspace.axes.generation import Generation
from designspace.axes.geometry import Geometry
from designspace.axes.needs import Needs
from designspace.axes.parameters import check_parameters
from designspace.axes.renamed import STRATEGY_METHODS, refuse_former_names
from designspace.axes.schedule import Schedule
from designspace.axes.slot_store import SlotStore, StoreSpec
from designspace.axes.view import View
from designspace.axes.window import Window, WindowShare


class Composition(Protocol):
    """The strategies that a strategy stands beside; `Mechanism` is one."""

    @property
    def scoring(self) -> Scoring:
        """Which tokens are worth a slot."""

    @property
    def head_routing(self) -> HeadRouting:
        """How many tokens each layer and head may hold."""

    @property
    def cadence(self) -> Cadence:
        """When rows are compressed, and to what size."""

    @property
    def representation(self) -> Representation:
        """What a slot holds."""

    @property
    def decoding(self) -> Decoding | None:
        """How logits become tokens; None: as the sweep's generation settings say."""


@dataclass(frozen=True)
class Strategy(ABC):
    """Base of every strategy on every axis.

    Class attributes: `axis` and `kind` name it in YAML, `version` is raised when its output changes for the same
    parameters (it is part of a cell's identity), `citation` is a key of `docs/references.bib`. `added` names parameters
    that came after results had been stored, each with the value that stands for how it was without it: that value is no
    part of the identity, so those results keep their ids. It never changes, also if the default does.

    Parameters are checked against the annotations of their fields when an instance is made: types, the choices of a
    `Literal`, and bounds such as `window: Annotated[int, Ge(1)] = 64` (`designspace.axes.parameters`). A `__post_init__`
    of one's own calls `super().__post_init__()` first, then checks how parameters relate to each other.
    """

    axis: ClassVar[str]
    kind: ClassVar[str]
    version: ClassVar[int] = 1
    citation: ClassVar[str | None] = None
    added: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Refuse a subclass that overrides a method of the contract by its former name."""
        super().__init_subclass__(**keywords)
        refuse_former_names(cls, STRATEGY_METHODS)

    def __post_init__(self) -> None:
        """Check every parameter against its annotation.

        Raises:
            DeclarationError: with one message for each parameter that breaks a rule.
        """
        check_parameters(self)

    def needs(self) -> Needs:
        """Return what must be observed for this strategy."""
        return Needs()

    def unsupported_reason(self, geometry: Geometry) -> str | None:
        """Return why this strategy cannot work on a model of this geometry, or None."""
        return None

    def conflict_reason(self, mechanism: Composition) -> str | None:
        """Return why this strategy would mean nothing, or the wrong thing, in this composition, or None."""
        return None

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """Return why this strategy changes nothing, or next to nothing, in this composition at this budget, or None.

        The arm runs all the same, and whoever plans it is told. schedule: the cadence's, at the budget. geometry: of the
        model; None where it is not known yet.
        """
        return None

    def identity(self) -> dict[str, Any]:
        """Return kind, version and every parameter as JSON-able data: this strategy's share of a cell's identity.

        Left out are parameters at the value that `added`, of the class or of one that it derives from, has for them.
        """
        added = self.all_added()
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        parameters = {name: value for name, value in named.items() if added.get(name, _NEVER) != value}
        return {
            "kind": self.kind,
            "version": self.version,
            **{name: _plain(value) for name, value in parameters.items()},
        }

    @classmethod
    def all_added(cls) -> dict[str, Any]:
        """Return what `added` names in this class and in those that it derives from."""
        found: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            found |= vars(base).get("added", {})
        return found


_NEVER = object()  # equal to no parameter


def _plain(value: Any) -> Any:
    """Return a parameter as JSON-able data."""
    if isinstance(value, Strategy):
        return value.identity()
    return asdict(value) if isinstance(value, WindowShare) else value


class Draw(NamedTuple):
    """What a selector chose: the kept slots [L,E,H_kv,C] bool, and how probable each was to be kept.

    inclusion: [L,E,H_kv,C] float64 in [0, 1], above 0 at every kept slot; None: nothing was drawn.
    """

    keep: Tensor
    inclusion: Tensor | None = None


@dataclass(frozen=True)
class Selector(Strategy):
    """Turns scores into kept sets. A sub-axis of scoring: any selector works with any score."""

    axis: ClassVar[str] = "selector"

    @property
    def weighs(self) -> bool:
        """Whether kept slots stand for evicted ones too: true of each selector that overrides `draw`."""
        return type(self).draw is not Selector.draw

    def draw(self, view: View, scores: Tensor, shares: Tensor) -> Draw:
        """Choose as `select` does, and say how probable it was that a slot is kept; default: no slot stands for another.

        Of a slot that was kept with probability p, 1/p is multiplied to the tokens that it stands for, so log 1/p is added to
        its logit in attention from then on.
        """
        return Draw(self.select(view, scores, shares))

    def expected_error(self, view: View, inclusion: Tensor) -> Tensor | None:
        """Return by how much a draw is expected to change attention, relative to it, [E]; None (the default): not known.

        view: of the whole event, before it. inclusion: [L,E,H_kv,C] float64.
        """
        return None

    @abstractmethod
    def select(self, view: View, scores: Tensor, shares: Tensor) -> Tensor:
        """Choose exactly `min(shares, filled)` slots per (layer, row, head), protected ones first.

        scores: [L,E,H_kv,C] float32, larger = keep. shares: [L,E,H_kv] int64. Reads `view.protected`.
        Returns the kept mask [L,E,H_kv,C], bool. Ties go to the larger position.
        """


Protect = Literal["none", "prompt"]


@dataclass(frozen=True)
class Scoring(Strategy):
    """Says which tokens are worth a slot.

    Protection is shared code: the first `sinks` positions and the newest `recent` ones are always kept (as far as the
    share allows) and count in the budget. `recent` is a number of tokens or a share of the size that an event leaves;
    a scoring that observes as many queries declares it as a number. With `protect: prompt` every head also keeps the whole
    prompt, which counts in the budget; head routing then divides what the prompt leaves [randomattention2026].
    """

    axis: ClassVar[str] = "scoring"
    added: ClassVar[Mapping[str, Any]] = {"protect": "none"}
    comparable: ClassVar[bool] = False  # are scores of different heads on one scale (probabilities)?
    keeps_everything: ClassVar[bool] = False

    selector: Selector
    sinks: Annotated[int, Ge(0)] = field(default=0, kw_only=True)
    recent: Window = field(default=0, kw_only=True)
    protect: Protect = field(default="none", kw_only=True)

    def n_recent(self, size: int) -> int:
        """Return how many newest tokens are always kept where an event leaves `size` tokens at least."""
        return self.recent.tokens(size) if isinstance(self.recent, WindowShare) else self.recent

    @property
    def protects_prompt(self) -> bool:
        """Whether no event may evict a token of the prompt."""
        return self.protect == "prompt"

    def n_protected(self, size: int, n_prompt_tokens: int = 0) -> int:
        """Return how many tokens are always kept where an event leaves `size` tokens at least.

        n_prompt_tokens: of the text; it counts only where the prompt is protected.
        """
        first = max(self.sinks, n_prompt_tokens) if self.protects_prompt else self.sinks
        return first + self.n_recent(size)

    @property
    def one_ranking(self) -> bool:
        """Whether a token's score is the same in every layer and head."""
        return False

    @property
    def follows_target(self) -> bool:
        """Whether scores depend on the size that an event cuts to."""
        return False

    @abstractmethod
    def score(self, view: View) -> Tensor:
        """Return [L,E,H_kv,C] float32 scores, larger = keep; entries of free slots are ignored."""


@dataclass(frozen=True)
class HeadRouting(Strategy):
    """Gives each (layer, KV head) its share of the budget."""

    axis: ClassVar[str] = "head_routing"
    works_without_events: ClassVar[bool] = False
    divisible: ClassVar[bool] = True  # may a part of every head's share be set aside for the prompt?
    follows_scores: ClassVar[bool] = False  # do shares go by the scores alone? Then heads that rank alike get alike

    def idle_reason(self, mechanism: Composition, schedule: Schedule, geometry: Geometry | None) -> str | None:
        """Return that shares which follow the scores are equal where one ranking holds in all layers and heads."""
        if self.follows_scores and mechanism.scoring.one_ranking:
            return (
                f"scoring {mechanism.scoring.kind!r} ranks the tokens alike in all layers and heads, so all heads get the "
                "same share"
            )
        return None

    def owners(self, geometry: Geometry, artefacts: Mapping[str, Artefact]) -> tuple[int, ...] | None:
        """Return for each layer the layer whose cache it reads (its own, or an earlier one's), or None: each its own."""
        return None

    def adapt(self, view: View, scores: Tensor) -> Tensor:
        """Return the scores [L,E,H_kv,C] after the routing had its say on what each head ranks by; default: unchanged."""
        return scores

    @abstractmethod
    def allocate(self, view: View, scores: Tensor, target: Tensor) -> Tensor:
        """Return integer shares [L,E,H_kv] that sum to exactly `target * L * H_kv` per row; target: [E].

        Use `designspace.axes.shares.largest_remainder` to round. The event caps shares at the tokens present, hands the
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
    cuts_while_decoding: ClassVar[bool] = True  # False: what is generated is never cut
    is_matched: ClassVar[bool] = True  # False: sizes follow from the text and not from a budget, so it takes none

    @property
    def prompt_block(self) -> int | None:
        """How many tokens of a prompt are read between two cuts of it; None (the default): it is cut after the last alone."""
        return None

    @property
    def least_score(self) -> float | None:
        """The score from which on a token stays, however many there are; None (the default): events cut to a size.

        The size of such a cache depends on what the scores say of the text, so `is_matched` must be False.
        """
        return None

    @property
    def reads_signals(self) -> bool:
        """Whether `signal` is asked for after every decode step: true of each cadence that overrides it."""
        return type(self).signal is not Cadence.signal

    @abstractmethod
    def schedule(self, budget: Budget) -> Schedule:
        """Return the schedule whose budget, in the reading asked for, is `budget`.

        Raises:
            InfeasibleBudget: no after-event size gives that budget with these parameters.
        """

    def signal(self, seen: StepSeen) -> Tensor | None:
        """Return one number per row [B] that this step tells the rows' schedules; None: the cadence goes by sizes alone."""
        return None


@dataclass(frozen=True)
class Representation(Strategy):
    """Says what a slot really holds."""

    axis: ClassVar[str] = "representation"
    evicts: ClassVar[bool] = True  # may slots be cut? False: it needs cadence "never"
    keeps_choice: ClassVar[bool] = True  # are the kept slots those that the selector chose?
    carries_mass: ClassVar[bool] = False  # may one slot stand for several tokens?
    memory_size: ClassVar[int] = 0  # float32 numbers per (layer, row, head) that `merge_evicted` keeps between events
    bytes_depend_on_data: ClassVar[bool] = False  # is the size of a token known only once it is there?

    @property
    def merges(self) -> bool:
        """Whether events change what kept slots hold: true of each representation that overrides `merge_evicted`."""
        return type(self).merge_evicted is not Representation.merge_evicted

    @abstractmethod
    def allocate(self, room: StoreSpec) -> SlotStore:
        """Return an empty store for `room.rows` x `room.capacity` slots in every layer and KV head."""

    def merge_evicted(self, view: View, scores: Tensor, shares: Tensor, keep: Tensor) -> MergeResult:
        """Return what the kept slots hold after an event: what they held, unless this representation merges.

        scores: [L,E,H_kv,C]. shares: [L,E,H_kv]. keep: [L,E,H_kv,C] bool, the selector's choice. The answer must keep
        exactly `shares` slots per head, protected ones first; contents may change at kept slots only.
        """
        return MergeResult(keep)


class MergeResult(NamedTuple):
    """What an event leaves: kept slots [L,E,H_kv,C] bool, keys and values [L,E,H_kv,C,D], tokens per slot, memory.

    keys, values: None (the default), or those of the view: no slot's key, or value, has changed.
    mass: [L,E,H_kv,C] int64, how many tokens a slot stands for; None: one each. memory: [L,E,H_kv,memory_size] float32.
    """

    keep: Tensor
    keys: Tensor | None = None
    values: Tensor | None = None
    mass: Tensor | None = None
    memory: Tensor | None = None


Reference = Literal["full", "solution"]


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
    def steers(self) -> bool:
        """Whether its generations may have controllers: true of each decoding that overrides `controller`."""
        return type(self).controller is not Decoding.controller

    @property
    def reference(self) -> Reference | None:
        """Which text its generations are given, to be fed in the place of what is chosen; None: they are written.

        "full": what the full cache writes for the prompt, greedily; "solution": the one that comes with the problem. Such a
        text is no answer of the model, so it is never graded.
        """
        return None

    @property
    def scores_tokens(self) -> bool:
        """Whether the log-probability of each token is kept, and whether the token is the one that is chosen."""
        return self.reference is not None

    @property
    def repetition_penalty(self) -> float:
        """What makes tokens of prompt and text less likely, applied by the engine before `choose`; 1: nothing is.

        Above 1 it divides their positive logits and multiplies the others, each once, however often the token stands there.
        """
        return 1.0

    @property
    def grows(self) -> bool:
        """Whether it may make a row hold more than its cadence says."""
        return False

    def sample_budget(self, budget: Budget) -> Budget:
        """Return what one of `samples` generations may hold."""
        return budget

    def combine(self, problem_id: str, generations: Sequence[Generation], answers: Sequence[str | None]) -> Generation:
        """Return the one generation that stands for all `samples` of a problem, with what all of them cost.

        answers: what each text answers, in the spelling in which the task's grader compares votes; None: no answer.
        """
        (only,) = generations
        return only

    def draws(self, max_new_tokens: int) -> int:
        """Return the most random numbers that one generation may use; 0 if it uses none at all."""
        return max_new_tokens

    def format_prompt(self, prompt: str) -> str:
        """Return the prompt with what this decoding adds to it."""
        return prompt

    def controller(self, text: TextCodec) -> Controller | None:
        """Return a fresh controller for one generation, or None if the tokens chosen are all there is to it."""
        return None

    def with_default_chooser(self, default: Decoding) -> Decoding:
        """Return this decoding with `default` in the place of a chooser that was left out."""
        return self
