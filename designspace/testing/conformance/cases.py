"""Random views of many shapes to try a strategy on, all observations included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from designspace.axes import Artefact, Contents, EventTracker, Geometry, Needs, Observed, RunContext, Tracker, View
from designspace.axes.artefact import Q_STATISTICS
from designspace.testing.conformance.view_changes import with_garbage

ArtefactMaker = Callable[[str, Geometry], Artefact]
HEAD_DIM = 8
SIZE_FOR_SHARES = 14  # tokens that an event leaves, where a protected window is declared as a share of them
_TRACKED_STEPS = 12


@dataclass(frozen=True)
class Shape:
    """One sort of event. `held` says what the heads hold.

    "ragged": heads hold different numbers of tokens, with gaps between their positions. "level": the same number, other
    tokens. "same": the same tokens, with gaps. "prompt": whole prompts of different lengths. "short": prompts shorter than
    the observation window. "flat": whole prompts whose keys, values, queries and attention are all zero. "merged": level, and
    slots stand for several tokens. "pinned": ragged, and a span of positions is pinned.
    """

    name: str
    layers: int
    rows: int
    heads: int
    group: int
    held: Literal["ragged", "level", "same", "prompt", "short", "flat", "merged", "pinned"]

    @property
    def together(self) -> bool:
        """Whether all layers and heads of a row hold the same tokens, as under one ranking for all."""
        return self.held in ("same", "prompt", "short", "flat")


SHAPES = (
    Shape("one head", 1, 1, 1, 1, "prompt"),
    Shape("no groups, ragged heads", 2, 3, 3, 1, "ragged"),
    Shape("groups of 2, level heads", 2, 2, 2, 2, "level"),
    Shape("groups of 4, the same in all heads", 3, 2, 2, 4, "same"),
    Shape("prompts shorter than the window", 2, 3, 2, 2, "short"),
    Shape("pinned spans", 1, 2, 2, 2, "pinned"),
    Shape("merged slots", 1, 2, 2, 1, "merged"),
    Shape("zeros", 1, 2, 2, 2, "flat"),
)


@dataclass(frozen=True)
class Case:
    """One event with what a selector is given: random scores [L,E,H_kv,C] and shares [L,E,H_kv]."""

    shape: Shape
    view: View
    scores: Tensor
    shares: Tensor

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"case {self.shape.name!r}"

    def aiming_at(self, target: Tensor) -> Case:
        """Return the same event cut to another size, target: [E]."""
        return replace(self, view=replace(self.view, target=target))


def cases(
    needs: Needs = Needs(),  # noqa: B008 - frozen
    *,
    sinks: int = 0,
    recent: int = 0,
    comparable_scores: bool = False,
    artefacts: ArtefactMaker | None = None,
    shapes: Sequence[Shape] = SHAPES,
    head_dim: int = HEAD_DIM,
    seed: int = 0,
) -> Iterator[Case]:
    """Yield one random event per shape, its free slots full of garbage, its target between protection and what is held.

    needs: what is observed. artefacts: makes a calibration by name for a geometry; query statistics are made up without it.
    Everything is a function of `seed`.
    """
    for i, shape in enumerate(shapes):
        generator = torch.Generator().manual_seed(1000 * seed + i)
        view = _view(shape, needs, sinks, recent, comparable_scores, artefacts, head_dim, generator)
        scores = torch.randn(view.positions.shape, generator=generator)
        shares = (torch.rand(view.counts.shape, generator=generator) * (view.counts + 1)).floor().long()
        yield with_garbage(Case(shape, view, scores, shares), view, seed=i)


def _view(
    shape: Shape,
    needs: Needs,
    sinks: int,
    recent: int,
    comparable_scores: bool,
    artefacts: ArtefactMaker | None,
    head_dim: int,
    generator: torch.Generator,
) -> View:
    geometry = geometry_of(shape, head_dim)
    positions, next_position, width = _positions(shape, needs.queries, sinks, recent, generator)
    vectors = (*positions.shape, head_dim)
    zero_or_one = 0.0 if shape.held == "flat" else 1.0
    made = artefacts_for(geometry, needs, artefacts)
    view = View(
        context=RunContext(
            geometry,
            width,
            sinks,
            recent,
            comparable_scores,
            made,
            torch.randn(shape.layers, shape.heads * shape.group, head_dim, 16, generator=generator),
        ),
        contents=Contents(*(torch.randn(vectors, generator=generator) * zero_or_one for _ in range(2))),
        positions=positions,
        next_position=next_position,
        streams=torch.randint(-(2**62), 2**62, (shape.rows,), generator=generator),
        target=torch.zeros(shape.rows, dtype=torch.int64),
        n_prompt_tokens=(next_position * 2 + 2) // 3,
        observed=Observed(),
        pinned=_pins(shape, next_position, width),
        mass=torch.randint(1, 4, positions.shape, generator=generator) if shape.held == "merged" else None,
    )
    protected = view.protected.sum(dim=-1).amax(dim=(0, 2))
    middle = protected + (view.counts.amin(dim=(0, 2)) - protected).clamp(min=2) // 2
    observed = observed_of(view, needs, generator, zero_or_one)
    return replace(view, observed=observed, target=middle.clamp(min=sinks + recent + 1))


def _positions(
    shape: Shape, window: int, sinks: int, recent: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, int]:
    """Return positions [L,E,H_kv,C] in order, next positions [E], and a width.

    Protected tokens are always held. Where heads have gaps, the text is longer than the window.
    """
    whole = shape.held in ("prompt", "short", "flat")
    protected = sinks + recent
    n_slots = 5 if shape.held == "short" else protected + 26
    longest = {"short": 4, "prompt": n_slots - 2, "flat": n_slots - 2}.get(shape.held)
    longest = longest or max(n_slots + 14, window + 12)
    row = torch.arange(shape.rows)
    next_position = torch.tensor([1, 3, 4])[row] if shape.held == "short" else longest - 5 * row
    heads = (shape.layers, shape.rows, shape.heads)
    counts = next_position[None, :, None].expand(heads)
    if not whole:
        spread = (
            (torch.rand(heads, generator=generator) * 9).long() if shape.held in ("ragged", "pinned") else row[:, None]
        )
        counts = protected + 14 + spread.expand(heads)
    position = torch.arange(longest)
    # A random rank per token, protected ones first: the head holds the `counts` lowest.
    rank = torch.rand(*heads, longest, generator=generator)
    rank = rank[:1, :, :1].expand_as(rank) if shape.held == "same" else rank
    newest = next_position[:, None, None] - recent
    rank = rank.masked_fill((position < sinks) | (position >= newest), -1.0)
    rank = rank.masked_fill(position >= next_position[:, None, None], 2.0)
    chosen = rank.argsort(dim=-1, stable=True)[..., :n_slots]
    chosen = torch.nn.functional.pad(chosen, (0, n_slots - chosen.shape[-1]))
    filled = torch.arange(n_slots) < counts[..., None]
    ordered = chosen.masked_fill(~filled, longest).sort(dim=-1).values
    return ordered.masked_fill(~filled, -1), next_position.clone(), longest + 5


def _pins(shape: Shape, next_position: Tensor, width: int) -> Tensor | None:
    if shape.held != "pinned":
        return None
    middle = next_position[:, None] // 2
    position = torch.arange(width)
    return (position >= middle) & (position < middle + 4)


def observed_of(view: View, needs: Needs, generator: torch.Generator, zero_or_one: float = 1.0) -> Observed:
    """Make up what observers would hold: a window of queries, attention sums, the newest row, trackers' states."""
    geometry, rows, n_slots = view.geometry, view.positions.shape[1], view.positions.shape[-1]
    n_query = geometry.n_query_heads
    observed = Observed()
    if needs.queries:
        window = (geometry.n_layers, rows, n_query, needs.queries, geometry.head_dim)
        observed.queries = torch.randn(window, generator=generator) * zero_or_one
        newest = torch.arange(-needs.queries, 0) + view.next_position[:, None]
        observed.query_positions = newest.clamp(min=-1)
    if needs.accumulated:
        observed.accumulated = torch.rand(view.positions.shape, generator=generator).square() * 9 * zero_or_one
    visible = view.valid.repeat_interleave(geometry.group, 2)
    if needs.last:
        observed.last = _attention(torch.randn(*visible.shape[:3], n_slots, generator=generator) * zero_or_one, visible)
    if needs.layer_cosine:
        observed.layer_cosine = torch.rand(geometry.n_layers, rows, generator=generator) * zero_or_one
    if needs.foresight:
        foreseen = torch.rand(view.positions.shape, generator=generator).square() * zero_or_one
        observed.foreseen = foreseen.masked_fill(~view.valid, 0)
    if needs.sentences:
        observed.sentence_ends, observed.sentence_sums = _sentences(view, zero_or_one, generator)
    observed.tracked = {tracker: _tracked(tracker, view, zero_or_one, generator) for tracker in needs.trackers}
    for tracker in needs.trackers:
        if isinstance(tracker, EventTracker):
            observed.tracked[tracker] = _after_event(tracker, view, observed, zero_or_one, generator)
    for gate in needs.gates:  # what a log-sigmoid may say
        opened = -3 * torch.rand(*view.positions.shape, gate.channels, generator=generator).square() * zero_or_one
        observed.tracked[gate] = opened.masked_fill(~view.valid[..., None], 0)
    return observed


def _sentences(view: View, zero_or_one: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return ends [E,S] and sums [E,S,hidden] of sentences of 1 to 6 tokens in three directions, so that many are alike."""
    rows = []
    for n_tokens in view.next_position.tolist():
        lengths = torch.randint(1, 7, (n_tokens,), generator=generator)
        ends = lengths.cumsum(0) - 1
        rows.append(ends[ends < n_tokens])
    n_most = max(map(len, rows)) + 1
    ends = torch.stack([functional.pad(row, (0, n_most - len(row)), value=-1) for row in rows])
    directions = torch.randn(3, 16, generator=generator)
    told = directions[torch.randint(3, ends.shape, generator=generator)]
    return ends, (told + 0.05 * torch.randn(told.shape, generator=generator)) * zero_or_one


def _after_event(
    tracker: EventTracker, view: View, observed: Observed, zero_or_one: float, generator: torch.Generator
) -> Tensor:
    """Return a tracker's state [L,E,H_kv,C,channels] as an event with other queries leaves it."""
    seen = observed.narrowed(tracker.needs())
    if seen.queries is not None:
        seen.queries = torch.randn(seen.queries.shape, generator=generator) * zero_or_one
    state = tracker.at_event(replace(view, observed=seen))
    return state.masked_fill(~view.valid[..., None], 0)


def _attention(logits: Tensor, visible: Tensor) -> Tensor:
    weights = torch.softmax(logits.masked_fill(~visible, torch.finfo(logits.dtype).min), dim=-1)
    return weights.masked_fill(~visible, 0.0)


def _tracked(tracker: Tracker, view: View, zero_or_one: float, generator: torch.Generator) -> Tensor:
    """Return a tracker's state [L,E,H_kv,C,channels] after the last few queries."""
    positions, group = view.positions, view.geometry.group
    state = torch.zeros(*positions.shape, tracker.channels, dtype=tracker.dtype)
    for ago in range(_TRACKED_STEPS, 0, -1):
        now = view.next_position - ago
        visible = (view.valid & (positions <= now[None, :, None, None])).repeat_interleave(group, 2)
        logits = torch.randn(visible.shape, generator=generator) * zero_or_one
        weights = _attention(logits, visible)
        for layer in range(positions.shape[0]):
            seen = tracker.observe(state[layer].clone(), weights[layer], positions[layer], now)
            state[layer] = seen.masked_fill(~view.valid[layer][..., None], 0)
    return state


def geometry_of(shape: Shape, head_dim: int) -> Geometry:
    """Return the numbers of a model of this shape."""
    return Geometry(
        n_layers=shape.layers,
        n_query_heads=shape.heads * shape.group,
        n_kv_heads=shape.heads,
        head_dim=head_dim,
        inv_freq=10000.0 ** (-torch.arange(0, head_dim, 2) / head_dim),
    )


def artefacts_for(geometry: Geometry, needs: Needs, maker: ArtefactMaker | None) -> dict[str, Artefact]:
    """Return the declared calibrations: made by `maker`, or made up in the case of query statistics.

    Raises:
        AssertionError: without a maker, of another calibration.
    """
    made = {}
    for name in needs.calibrations:
        if maker is None and name != Q_STATISTICS:
            raise AssertionError(f"the kit cannot make up calibration {name!r}: hand in artefacts=, which makes it")
        made[name] = query_statistics(geometry) if maker is None else maker(name, geometry)
    return made


def query_statistics(geometry: Geometry) -> Artefact:
    """Return made-up query statistics of the right shapes."""
    generator = torch.Generator().manual_seed(geometry.n_query_heads)
    shape = (geometry.n_layers, geometry.n_query_heads, geometry.head_dim // 2)
    real, imaginary = (torch.randn(shape, generator=generator) for _ in range(2))
    modulus = 1.5 * torch.complex(real, imaginary).abs()
    tensors = {"q_mean_real": real, "q_mean_imag": imaginary, "q_abs_mean": modulus}
    return Artefact(Q_STATISTICS, tensors)
