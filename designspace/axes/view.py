"""What an event shows to scoring, head routing and selectors: the rows being cut, and what was observed of them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from designspace.axes.artefact import Artefact
from designspace.axes.contents import Contents
from designspace.axes.gates import Gate
from designspace.axes.geometry import Geometry
from designspace.axes.needs import Needs
from designspace.axes.sentences import Sentences
from designspace.axes.trackers import Tracker
from designspace.errors import InvariantViolation

Declared = TypeVar("Declared")


@dataclass
class Observed:
    """What the observers hold for some rows; None or absent where the mechanism declared no need.

    queries: [L,E,H_q,w,D] post-RoPE, oldest first. query_positions: [E,w] int64, -1 where fewer were seen.
    accumulated: [L,E,H_kv,C] float32. last: [L,E,H_q,C] float32. tracked: by tracker or gate, [L,E,H_kv,C,channels].
    layer_cosine: [L,E] float32. foreseen: [L,E,H_kv,C] float32. sentence_ends: [E,S] int64, -1 after the last one.
    sentence_sums: [E,S,hidden] float32, sums of hidden states, that of the open sentence after those of the complete ones.
    """

    queries: Tensor | None = None
    query_positions: Tensor | None = None
    accumulated: Tensor | None = None
    last: Tensor | None = None
    tracked: Mapping[Tracker | Gate, Tensor] = field(default_factory=dict)
    layer_cosine: Tensor | None = None
    foreseen: Tensor | None = None
    sentence_ends: Tensor | None = None
    sentence_sums: Tensor | None = None

    def narrowed(self, needs: Needs) -> Observed:
        """Return only what `needs` declares: another strategy of the mechanism may have asked for more, or a longer window."""
        window = needs.queries
        return Observed(
            self.queries[..., -window:, :] if window and self.queries is not None else None,
            self.query_positions[..., -window:] if window and self.query_positions is not None else None,
            self.accumulated if needs.accumulated else None,
            self.last if needs.last else None,
            {own: self.tracked[own] for own in needs.per_slot if own in self.tracked},
            self.layer_cosine if needs.layer_cosine else None,
            self.foreseen if needs.foresight else None,
            self.sentence_ends if needs.sentences else None,
            self.sentence_sums if needs.sentences else None,
        )


class Protection(Protocol):
    """What a scoring says about its scores and about the tokens that are kept whatever their scores."""

    @property
    def sinks(self) -> int:
        """First positions that are always kept."""

    def n_recent(self, size: int) -> int:
        """Return how many newest positions are always kept where an event leaves `size` tokens at least."""

    @property
    def protects_prompt(self) -> bool:
        """Whether the prompt is always kept."""

    @property
    def comparable(self) -> bool:
        """Whether scores of different heads are on one scale."""


@dataclass(frozen=True)
class RunContext:
    """What all events of one run share.

    width: positions lie in [0, width). recent: in tokens, whatever form the scoring declares it in. output_projection:
    [L,H_q,D,hidden]. protects_prompt: whether no token of a prompt may be evicted. prompt_slots: of the slots that an event
    leaves a head on average, those that the prompt's tokens compete for among themselves; 0: all compete for all.
    smallest_size: the smallest size after an event.
    """

    geometry: Geometry
    width: int
    sinks: int = 0
    recent: int = 0
    comparable_scores: bool = False
    artefacts: Mapping[str, Artefact] = field(default_factory=dict)
    output_projection: Tensor | None = None
    protects_prompt: bool = False
    prompt_slots: int = 0
    smallest_size: int = 0

    @classmethod
    def of(
        cls,
        scoring: Protection,
        geometry: Geometry,
        width: int,
        artefacts: Mapping[str, Artefact],
        output_projection: Tensor | None,
        smallest_size: int,
        prompt_slots: int = 0,
    ) -> RunContext:
        """Return the context of a mechanism with this scoring.

        geometry: that of the layers that own a cache. smallest_size: the smallest size after an event, of which a protected
        window may be a share.
        """
        recent = scoring.n_recent(smallest_size)
        return cls(
            geometry,
            width,
            scoring.sinks,
            recent,
            scoring.comparable,
            artefacts,
            output_projection,
            scoring.protects_prompt,
            prompt_slots,
            smallest_size,
        )


@dataclass
class View:
    """The rows of one event. Everything is to be read, nothing to be written.

    contents: keys and values [L,E,H_kv,C,D], as far as declared. positions: [L,E,H_kv,C] int64, -1 = free.
    next_position: [E] int64, the position of the token that comes next. streams: [E] int64, the rows' random keys.
    target: [E] int64, the mean size to be cut to. n_prompt_tokens: [E] int64. pinned: [E,width] bool by position, or None.
    mass: [L,E,H_kv,C] int64, or float32 with a selector that weighs: tokens that a slot stands for, or None: one each.
    memory: what the representation remembers. reader: who is shown this, for messages.
    protected: [L,E,H_kv,C] bool, kept whatever their score.
    """

    context: RunContext
    contents: Contents
    positions: Tensor
    next_position: Tensor
    streams: Tensor
    target: Tensor
    n_prompt_tokens: Tensor
    observed: Observed
    pinned: Tensor | None = None
    mass: Tensor | None = None
    memory: Tensor | None = None
    reader: str = "a strategy"

    def __post_init__(self) -> None:
        """Derive the masks that every strategy uses."""
        self.valid = self.positions >= 0  # [L,E,H,C]
        self.counts = self.valid.sum(dim=-1)  # [L,E,H]
        newest = self.next_position[None, :, None, None] - self.recent
        self.protected = self.valid & ((self.positions < self.sinks) | (self.positions >= newest))
        if self.context.protects_prompt:
            self.protected |= self.of_prompt
        if self.pinned is not None:
            table = self.pinned[None, :, None].expand(*self.positions.shape[:3], -1)
            self.protected |= self.valid & table.gather(-1, self.positions.clamp(min=0))
        self.candidates = self.valid & ~self.protected

    @property
    def geometry(self) -> Geometry:
        """The numbers of the model, of its layers that own a cache."""
        return self.context.geometry

    @property
    def width(self) -> int:
        """Positions lie in [0, width)."""
        return self.context.width

    @property
    def sinks(self) -> int:
        """First positions that are always kept."""
        return self.context.sinks

    @property
    def recent(self) -> int:
        """Newest positions that are always kept."""
        return self.context.recent

    @property
    def comparable_scores(self) -> bool:
        """Whether the scoring says that scores of different heads are on one scale."""
        return self.context.comparable_scores

    @property
    def of_prompt(self) -> Tensor:
        """Which filled slots hold tokens of the prompt, [L,E,H_kv,C] bool."""
        return self.valid & (self.positions < self.n_prompt_tokens[None, :, None, None])

    @property
    def keys(self) -> Tensor:
        """Keys as attention sees them, [L,E,H_kv,C,D]: post-RoPE, dequantised."""
        return self._declared(self.contents.keys, "keys")

    @property
    def values(self) -> Tensor:
        """Values as attention sees them, [L,E,H_kv,C,D]: dequantised."""
        return self._declared(self.contents.values, "values")

    @property
    def queries(self) -> Tensor:
        """The newest post-RoPE queries, [L,E,H_q,w,D]."""
        return self._declared(self.observed.queries, "queries", "queries=…")

    @property
    def query_positions(self) -> Tensor:
        """Positions of the newest queries, [E,w] int64, -1 where fewer were seen."""
        return self._declared(self.observed.query_positions, "queries", "queries=…")

    @property
    def accumulated(self) -> Tensor:
        """Attention mass received so far, group mean, [L,E,H_kv,C] float32."""
        return self._declared(self.observed.accumulated, "accumulated")

    @property
    def last(self) -> Tensor:
        """Attention row of the newest query, [L,E,H_q,C] float32."""
        return self._declared(self.observed.last, "last")

    @property
    def layer_cosine(self) -> Tensor:
        """Cosine of the residual stream before and after attention, mean over the prompt, [L,E] float32."""
        return self._declared(self.observed.layer_cosine, "layer_cosine")

    @property
    def foreseen(self) -> Tensor:
        """The largest attention weight that each held token gets from later queries of the full cache's text, [L,E,H_kv,C]."""
        return self._declared(self.observed.foreseen, "foreseen", "foresight=True")

    @property
    def sentences(self) -> list[Sentences]:
        """The complete sentences of each row's text, [E]."""
        ends = self._declared(self.observed.sentence_ends, "sentences", "sentences=(…)")
        sums = self._declared(self.observed.sentence_sums, "sentences", "sentences=(…)")
        return [Sentences.of(*row) for row in zip(ends, sums, strict=True)]

    @property
    def output_projection(self) -> Tensor:
        """Weights [L,H_q,D,hidden]: a head's output times its slice is what it adds to the residual stream."""
        return self._declared(self.context.output_projection, "output_projection")

    @property
    def n_protected(self) -> int:
        """The most tokens per head that protection can claim, pins apart."""
        return self.sinks + self.recent

    def narrowed(self, needs: Needs, reader: str = "a strategy") -> View:
        """Return this view with what `needs` declares, and no other contents or observations.

        reader: whose needs they are. Reading anything else raises `InvariantViolation`, which names the reader and the flag.
        """
        shown = copy(self)
        shown.contents, shown.observed, shown.reader = (
            self.contents.narrowed(needs),
            self.observed.narrowed(needs),
            reader,
        )
        return shown

    def without_prompt(self) -> View:
        """Return this view as if the prompt had no slots: what is divided where every head keeps the prompt anyway.

        Its target [E] is what the prompt leaves; sinks within the prompt are none of their own.
        """
        n_prompt = self.n_prompt_tokens
        n_sinks = max(self.sinks - int(n_prompt.min()), 0)
        return replace(
            self,
            context=replace(self.context, sinks=n_sinks, protects_prompt=False),
            positions=self.positions.masked_fill(self.of_prompt, -1),
            target=self.target - n_prompt,
        )

    def part(self, slots: Tensor) -> View:
        """Return this view as if only `slots` [L,E,H_kv,C] bool were filled: the tokens that compete among themselves."""
        return replace(self, positions=self.positions.masked_fill(~slots, -1))

    def tracked(self, tracker: Tracker) -> Tensor:
        """Return what a tracker holds, [L,E,H_kv,C,channels]."""
        return self._declared(self.observed.tracked.get(tracker), f"tracker {tracker}", "it to the trackers")

    def gated(self, gate: Gate) -> Tensor:
        """Return what a gate said of each token when it came, [L,E,H_kv,C] float32."""
        return self._declared(self.observed.tracked.get(gate), f"gate {gate}", "it to the gates")[..., 0]

    def artefact(self, name: str) -> Artefact:
        """Return a calibration artefact; use `geometry.held` on its per-layer tensors."""
        return self._declared(self.context.artefacts.get(name), f"calibration {name!r}", "its name to the calibrations")

    def grouped_queries(self) -> Tensor:
        """Return the newest queries by KV head, [L,E,H_kv,G,w,D]."""
        n_layers, n_rows, _, window, dim = self.queries.shape
        return self.queries.view(n_layers, n_rows, self.geometry.n_kv_heads, self.geometry.group, window, dim)

    def log_mass(self) -> Tensor | None:
        """Return what attention adds to a slot's logit because it stands for several tokens, [L,E,H_kv,C]; None: nothing."""
        return None if self.mass is None else self.mass.clamp(min=1).float().log()

    def _declared(self, found: Declared | None, name: str, flag: str = "") -> Declared:
        """Return what was found. flag: what the needs must say to have it; by default that `name` is true."""
        if found is None:
            raise InvariantViolation(
                f"{self.reader} read {name}, which it had not declared in needs(): add {flag or f'{name}=True'} to its Needs"
            )
        return found


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the softmax over the last dimension of the entries where `mask`; all zeros where nothing is left."""
    hidden = ~mask
    filled = logits.masked_fill(hidden, torch.finfo(logits.dtype).min)
    return torch.softmax(filled, dim=-1).masked_fill_(hidden, 0.0)


def masked_softmax_(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the same, at the price of the logits, which are filled where masked: for those that are needed no more."""
    hidden = ~mask
    logits.masked_fill_(hidden, torch.finfo(logits.dtype).min)
    return torch.softmax(logits, dim=-1).masked_fill_(hidden, 0.0)
