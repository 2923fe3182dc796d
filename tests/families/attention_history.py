"""Random attention over ragged heads that lose tokens now and then, fed to a tracker and written down as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from designspace.axes import Geometry, Needs, Tracker, View
from designspace.cache.observers import Observers
from designspace.testing.views import view_of

LAYERS, ROWS, HEADS, GROUP, SLOTS = 2, 2, 2, 2, 24
Head = tuple[int, int, int]


@dataclass(frozen=True)
class Seen:
    """What one query gave to one token: its position, each query head's probability, how many tokens the head held."""

    now: int
    weights: tuple[float, ...]
    n_held: int


@dataclass
class Moment:
    """The cache after one step. log: by (layer, row, head) and position, every query that saw a token still held.

    cut: whether an event came last. state: what the tracker holds, [L,B,H_kv,C,channels].
    """

    view: View
    log: dict[Head, dict[int, list[Seen]]]
    cut: bool
    state: Tensor


def moments(tracker: Tracker, *, n_steps: int, seed: int, starts: tuple[int, int] = (0, 3)) -> Iterator[Moment]:
    """Yield the cache after every step and after every event; the two rows begin at different positions."""
    generator = torch.Generator().manual_seed(seed)
    geometry = Geometry(LAYERS, HEADS * GROUP, HEADS, 2, torch.ones(1))
    observers = Observers(
        Needs(trackers=(tracker,)), geometry, ROWS, SLOTS, dtype=torch.float32, device=torch.device("cpu")
    )
    positions = torch.full((LAYERS, ROWS, HEADS, SLOTS), -1)
    following = torch.tensor(starts)
    log: dict[Head, dict[int, list[Seen]]] = {}
    for _ in range(n_steps):
        now = following.clone()
        for layer in range(LAYERS):
            weights = _attend(positions, log, layer, now, generator)
            observers.record(layer, torch.zeros(ROWS, HEADS * GROUP, 1, 2), weights, positions, now)
        following += 1
        yield _moment(observers, tracker, positions, following, log, cut=False)
        full = int((positions >= 0).sum(dim=-1).amax()) == SLOTS
        if full or float(torch.rand((), generator=generator)) < 0.15:
            positions = _evict(observers, positions, log, generator)
            yield _moment(observers, tracker, positions, following, log, cut=True)


def _attend(
    positions: Tensor, log: dict[Head, dict[int, list[Seen]]], layer: int, now: Tensor, generator: torch.Generator
) -> Tensor:
    """Append one token per head and return the rows of attention [B,H_q,C]: some sharp, some even."""
    weights = torch.zeros(ROWS, HEADS * GROUP, SLOTS)
    for row in range(ROWS):
        for head in range(HEADS):
            count = int((positions[layer, row, head] >= 0).sum())
            positions[layer, row, head, count] = now[row]
            held = log.setdefault((layer, row, head), {})
            held[int(now[row])] = []
            sharpness = (0.0, 1.0, 4.0)[int(torch.randint(3, (), generator=generator))]
            logits = torch.randn(GROUP, count + 1, generator=generator) * sharpness
            rows = torch.softmax(logits, dim=-1)
            weights[row, head * GROUP : (head + 1) * GROUP, : count + 1] = rows
            for slot in range(count + 1):
                seen = Seen(int(now[row]), tuple(rows[:, slot].tolist()), count + 1)
                held[int(positions[layer, row, head, slot])].append(seen)
    return weights


def _evict(
    observers: Observers, positions: Tensor, log: dict[Head, dict[int, list[Seen]]], generator: torch.Generator
) -> Tensor:
    """Drop another random set of tokens from every head and return the positions after it."""
    order = torch.arange(SLOTS).expand_as(positions).clone()
    counts = torch.zeros(positions.shape[:3], dtype=torch.long)
    for layer, row, head in log:
        held = [slot for slot in range(SLOTS) if positions[layer, row, head, slot] >= 0]
        kept = [slot for slot in held if float(torch.rand((), generator=generator)) < 0.6] or held[-1:]
        for slot in set(held) - set(kept):
            del log[layer, row, head][int(positions[layer, row, head, slot])]
        rest = [slot for slot in range(SLOTS) if slot not in kept]
        order[layer, row, head] = torch.tensor(kept + rest)
        counts[layer, row, head] = len(kept)
    filled = torch.arange(SLOTS) < counts[..., None]
    observers.compact(torch.arange(ROWS), order, filled)
    return positions.gather(-1, order).masked_fill(~filled, -1)


def _moment(
    observers: Observers,
    tracker: Tracker,
    positions: Tensor,
    following: Tensor,
    log: dict[Head, dict[int, list[Seen]]],
    cut: bool,
) -> Moment:
    state = observers.rows(slice(None)).tracked[tracker].clone()
    keys = torch.zeros(LAYERS, ROWS, HEADS, SLOTS, 2)
    view = view_of(keys, positions=positions.clone(), n_query_heads=HEADS * GROUP, tracked={tracker: state})
    return Moment(replace(view, next_position=following.clone()), log, cut, state)
