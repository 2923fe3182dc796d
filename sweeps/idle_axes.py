"""Axes that change nothing in an arm: said when a sweep is planned and when it is run, for nothing else would tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sweeps.expand import Cell
from sweeps.predicted_cache import bound_schedule
from sweeps.sources import declared_geometry


class _Place(NamedTuple):
    model: str
    budget: str


def idle_notes(cells: Iterable[Cell]) -> Iterator[str]:
    """Yield a sentence for each mechanism, axis and reason, with the budgets and models where the axis has no effect."""
    places: dict[str, set[_Place]] = {}
    found: dict[tuple[str, str, str], dict[_Place, None]] = {}
    for cell in {(c.mechanism.name, c.model.name, c.budget): c for c in cells if c.budget is not None}.values():
        name, place = cell.mechanism.name, _Place(cell.model.name, str(cell.budget))
        places.setdefault(name, set()).add(place)
        idle = cell.mechanism.idle_axes(bound_schedule(cell), declared_geometry(cell.model))
        for axis, reason in idle.items():
            found.setdefault((name, _choice(cell, axis), reason), {})[place] = None
    for (name, choice, reason), idle_at in found.items():
        yield f"mechanism {name}{_where(idle_at, places[name])}: {choice} has no effect: {reason}"


def _choice(cell: Cell, axis: str) -> str:
    mechanism = cell.mechanism
    part = mechanism.scoring.selector if axis == "selector" else mechanism.strategies()[axis]
    return f"{axis.replace('_', ' ')} {part.kind!r}"


def _where(idle_at: Iterable[_Place], everywhere: set[_Place]) -> str:
    """Return where of its places an arm's axis is idle; nothing where it is in all of them."""
    here = list(idle_at)
    if set(here) == everywhere:
        return ""
    budgets = dict.fromkeys(place.budget for place in here)
    models = dict.fromkeys(place.model for place in here)
    on = f" on {', '.join(models)}" if len(models) < len({place.model for place in everywhere}) else ""
    return f" at budget {', '.join(budgets)}{on}"
