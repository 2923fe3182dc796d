"""The factorial form of `mechanisms`: a list per axis, all combinations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import product
from math import prod
from string import Formatter
from typing import cast, get_args

from designspace.axes import AXES, Decoding, Mechanism, Protect, Scoring, Strategy
from designspace.errors import DeclarationError
from sweeps.fields import GridEntry
from sweeps.mechanisms import Declared, Refusal, baseline_axes, compose
from sweeps.problems import Problems, suggestion
from sweeps.strategies import build_strategy
from sweeps.yaml_document import DataPath, shown

# The order of multiplication (last varies fastest) and of names. A mapping has no order, so the file's is not used.
GRID_AXES = ("scoring", "head_routing", "cadence", "representation", "decoding")
_ALWAYS_NAMED = ("scoring", "head_routing", "cadence")
PROTECT = "protect"  # a factor beside the axes: whether the scoring may evict the prompt
_MOST_COMBINATIONS = 10_000


def build_grid(
    entry: GridEntry, path: DataPath, decoding: Decoding, problems: Problems
) -> tuple[list[Declared], list[Refusal]]:
    """Return a grid's mechanisms, and the combinations that it skips; problems are noted."""
    axes = _axes(entry, (*path, "grid"), problems)
    if axes is None or not _template_is_valid(entry, path, problems):
        return [], []
    protect = _protect(entry, (*path, "grid"), problems)
    if protect is None:
        return [], []
    if (size := len(protect) * prod(map(len, axes.values()))) > _MOST_COMBINATIONS:
        problems.add((*path, "grid"), f"a grid must have at most {_MOST_COMBINATIONS} combinations, got {size}")
        return [], []
    declared, refused = [], []
    for combination in _combinations(axes, protect, entry.name, decoding):
        if isinstance(combination, Mechanism):
            declared.append(Declared(combination, path, skips_illegal=entry.illegal == "skip"))
        elif entry.illegal == "skip":
            refused.append(combination)
        else:
            problems.add(
                path, f"combination {combination.mechanism!r}: {combination.reason} (illegal: skip leaves it out)"
            )
    if not declared and refused:
        problems.add(
            path, f"a grid must have a legal combination, got {len(refused)} refused ones: {refused[0].reason}"
        )
    _check_names(entry, declared, path, problems)
    return declared, refused


def _axes(entry: GridEntry, path: DataPath, problems: Problems) -> dict[str, list[Strategy]] | None:
    """Return the strategies of each listed axis, None if anything is wrong with one of them."""
    sound = True
    for axis in entry.grid.keys() - {*GRID_AXES, PROTECT}:
        problems.add((*path, axis), "unknown field" + suggestion(axis, (*GRID_AXES, PROTECT)), of_key=True)
        sound = False
    if "scoring" not in entry.grid:
        problems.add((*path, "scoring"), "required field is missing")
        sound = False
    axes: dict[str, list[Strategy]] = {}
    for axis in (axis for axis in GRID_AXES if axis in entry.grid):
        items, where = entry.grid[axis], (*path, axis)
        if not isinstance(items, list) or not items:
            got = "an empty list" if items == [] else shown(items)
            problems.add(where, f"must be a list of {axis} kinds, got {got}")
            sound = False
            continue
        built = [build_strategy(axis, item, (*where, index), problems) for index, item in enumerate(items)]
        sound &= _all_different(built, where, problems) and None not in built
        axes[axis] = [strategy for strategy in built if strategy is not None]
    return axes if sound else None


def _protect(entry: GridEntry, path: DataPath, problems: Problems) -> tuple[Protect | None, ...] | None:
    """Return the levels of `protect`, `(None,)` where it is not listed; None if anything is wrong with it."""
    levels = entry.grid.get(PROTECT, (None,))
    if levels == (None,):
        return (None,)
    if not isinstance(levels, list) or not levels:
        got = "an empty list" if levels == [] else shown(levels)
        problems.add((*path, PROTECT), f"must be a list of {' or '.join(get_args(Protect))}, got {got}")
        return None
    sound = True
    for index, level in enumerate(levels):
        if level not in get_args(Protect):
            problems.add((*path, PROTECT, index), f"must be {' or '.join(get_args(Protect))}, got {shown(level)}")
            sound = False
        elif level in levels[:index]:
            problems.add((*path, PROTECT, index), f"must be listed once, got {level!r} again")
            sound = False
    return tuple(levels) if sound else None


def _all_different(strategies: list[Strategy | None], path: DataPath, problems: Problems) -> bool:
    repeats = [index for index, strategy in enumerate(strategies) if strategy and strategy in strategies[:index]]
    for index in repeats:
        problems.add((*path, index), f"must be listed once, got the same as item {strategies.index(strategies[index])}")
    return not repeats


def _template_is_valid(entry: GridEntry, path: DataPath, problems: Problems) -> bool:
    if entry.name is None:
        return True
    try:
        parts = list(Formatter().parse(entry.name))
    except ValueError as error:
        problems.add(
            (*path, "name"), f"must be a template such as '{{scoring}}+{{cadence}}', got {entry.name!r} ({error})"
        )
        return False
    unknown = [
        name
        for _, name, spec, conversion in parts
        if name is not None and (name not in (*AXES, PROTECT) or spec or conversion)
    ]
    for name in unknown:
        problems.add(
            (*path, "name"), f"unknown axis {name!r} in the template" + suggestion(name, (*GRID_AXES, PROTECT))
        )
    return not unknown


def _combinations(
    axes: dict[str, list[Strategy]], protect: tuple[Protect | None, ...], template: str | None, decoding: Decoding
) -> Iterator[Mechanism | Refusal]:
    """Yield each combination as a mechanism, or as a refusal when it means nothing."""
    labels = {axis: labels_of(strategies) for axis, strategies in axes.items()}
    shown_axes = [axis for axis in GRID_AXES if axis in axes or axis in _ALWAYS_NAMED]
    shape = template or "/".join(f"{{{axis}}}" for axis in (*shown_axes, *[PROTECT][: protect != (None,)]))
    choices = product(product(*(range(len(strategies)) for strategies in axes.values())), protect)
    for indices, kept in choices:
        chosen = {axis: axes[axis][index] for axis, index in zip(axes, indices, strict=True)}
        named = {axis: labels[axis][index] for axis, index in zip(axes, indices, strict=True)}
        scoring = cast(Scoring, chosen["scoring"])
        if kept is not None:
            chosen["scoring"] = scoring = replace(scoring, protect=kept)
        named[PROTECT] = scoring.protect
        baseline = baseline_axes(scoring, decoding)
        name = shape.format(**{**{axis: strategy.kind for axis, strategy in baseline.items()}, **named})
        try:
            yield compose(name, chosen, decoding)
        except DeclarationError as error:
            prefix = f"mechanism {name!r}: "
            yield Refusal(name, None, "; ".join(reason.removeprefix(prefix) for reason in error.problems))


def _check_names(entry: GridEntry, declared: list[Declared], path: DataPath, problems: Problems) -> None:
    name, n_alike = max(Counter(item.mechanism.name for item in declared).items(), key=lambda c: c[1], default=("", 0))
    if entry.name is not None and n_alike > 1:
        problems.add(
            (*path, "name"),
            f"must name every axis that varies, got {entry.name!r}, which names {n_alike} combinations {name!r}",
        )


def labels_of(strategies: list[Strategy]) -> list[str]:
    """Return readable, distinct labels: the kind, with those parameters in which strategies of one kind differ.

    `[every-step, {kind: every-k, k: 8}, {kind: every-k, k: 16}]` gives `every-step, every-k(k=8), every-k(k=16)`.
    """
    return [_label(strategy, [peer for peer in strategies if peer.kind == strategy.kind]) for strategy in strategies]


def _label(strategy: Strategy, peers: list[Strategy]) -> str:
    parts = []
    for parameter in fields(strategy):
        values = [getattr(peer, parameter.name) for peer in peers]
        value = getattr(strategy, parameter.name)
        if all(other == value for other in values):
            continue
        if isinstance(value, Strategy):
            text = _label(value, [other for other in values if other.kind == value.kind])
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
        parts.append(f"{parameter.name}={text}")
    return f"{strategy.kind}({','.join(parts)})" if parts else strategy.kind
