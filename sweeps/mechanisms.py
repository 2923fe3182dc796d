"""From entries of the `mechanisms` section to mechanisms: a catalogue name, a changed catalogue entry, or five axes.

An omitted axis takes its baseline: representation `full`, head routing `uniform`, decoding as `generation` says, and
the simplest cadence with which the mechanism means something: `every-step` under a scoring that ranks tokens, `never`
under scoring `full`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from designspace.axes import AXES, Decoding, Mechanism, Scoring, Strategy
from designspace.errors import DeclarationError, UnknownName
from designspace.registry import mechanism as catalogue_mechanism
from designspace.registry import strategy
from sweeps.fields import MechanismEntry
from sweeps.generation_fields import GenerationCaps
from sweeps.problems import Problems
from sweeps.strategies import build_strategy
from sweeps.yaml_document import DataPath, shown


@dataclass(frozen=True)
class Refusal:
    """A combination that the sweep leaves out, and why. `budget` None: whatever the budget."""

    mechanism: str
    budget: str | None
    reason: str


@dataclass(frozen=True)
class Declared:
    """A mechanism with its place in the file, and whether its infeasible budgets are skipped rather than refused."""

    mechanism: Mechanism
    path: DataPath
    skips_illegal: bool = False


def default_decoding(generation: GenerationCaps | None) -> Decoding:
    """Return what generates when a mechanism leaves its decoding out: greedy at temperature 0, else sampling."""
    greedy: Any = strategy("decoding", "greedy")
    if generation is None:
        return cast(Decoding, greedy())
    if generation.temperature == 0:
        return cast(Decoding, greedy(repetition_penalty=generation.repetition_penalty))
    cls: Any = strategy("decoding", "sampling")
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return cast(Decoding, cls(**{name: getattr(generation, name) for name in names}))


def baseline_axes(scoring: Scoring, decoding: Decoding) -> dict[str, Strategy]:
    """Return what each axis is when it is left out."""
    return {
        "scoring": scoring,
        "head_routing": strategy("head_routing", "uniform")(),
        "cadence": strategy("cadence", "never" if scoring.keeps_everything else "every-step")(),
        "representation": strategy("representation", "full")(),
        "decoding": decoding,
    }


def compose(name: str, axes: Mapping[str, Strategy], decoding: Decoding) -> Mechanism:
    """Return a mechanism in which omitted axes take their baseline.

    Raises:
        DeclarationError: the composition means nothing.
    """
    complete: dict[str, Any] = {**baseline_axes(cast(Scoring, axes["scoring"]), decoding), **axes}
    return _with_decoding(Mechanism(name=name, **complete), decoding)


def build_mechanism(data: Any, path: DataPath, decoding: Decoding, problems: Problems) -> Declared | None:
    """Return the mechanism that one entry (not a grid) declares, or note every problem with it and return None."""
    if isinstance(data, str):
        found = _from_catalogue(data, path, problems)
        try:
            return None if found is None else Declared(_with_decoding(found, decoding), path)
        except DeclarationError as error:
            problems.add_error(path, error)
            return None
    if not isinstance(data, dict):
        problems.add(path, f"must be a catalogue name or a mapping, got {shown(data)}")
        return None
    entry = problems.validated(MechanismEntry, data, path)
    # The axes are built even when the entry has a problem of its own, so that all problems show at once.
    axes = {axis: build_strategy(axis, data[axis], (*path, axis), problems) for axis in AXES if axis in data}
    base = _from_catalogue(data["base"], (*path, "base"), problems) if isinstance(data.get("base"), str) else None
    if entry is None:
        return None
    if entry.base is None and "scoring" not in axes:
        problems.add(path, "needs a scoring, or a base to take it from, got neither")
        return None
    if (entry.base is not None and base is None) or None in axes.values():
        return None
    given = {axis: built for axis, built in axes.items() if built is not None}
    if entry.protect is not None:
        scoring = given.get("scoring") or (base and base.scoring)
        given["scoring"] = replace(cast(Scoring, scoring), protect=entry.protect)
    try:
        if base is None:
            return Declared(compose(entry.name, given, decoding), path)
        return Declared(_with_decoding(base.override(entry.name, **given), decoding), path)
    except DeclarationError as error:
        problems.add_error(path, error)
        return None


def _from_catalogue(name: str, path: DataPath, problems: Problems) -> Mechanism | None:
    try:
        return catalogue_mechanism(name)
    except UnknownName as error:
        problems.add(path, str(error))
        return None


def _with_decoding(mechanism: Mechanism, decoding: Decoding) -> Mechanism:
    """Fill in the sweep's decoding where a mechanism, or a decoding around another one, leaves it out."""
    own = mechanism.decoding
    return replace(mechanism, decoding=decoding if own is None else own.with_default_chooser(decoding))
