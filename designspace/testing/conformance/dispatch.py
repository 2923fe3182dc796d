"""Which checks apply to which axis, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from designspace.axes import Mechanism, Strategy
from designspace.errors import UnknownName
from designspace.registry import REGISTRY_AXES
from designspace.testing.conformance import (
    cadence,
    declaration,
    decoding,
    head_routing,
    representation,
    scoring,
    selector,
)
from designspace.testing.conformance.cases import SHAPES, ArtefactMaker, Shape
from designspace.testing.conformance.probes import HostMechanism
from designspace.testing.conformance.verdict import named

_BY_AXIS: Mapping[str, Any] = {
    "scoring": scoring,
    "selector": selector,
    "head_routing": head_routing,
    "cadence": cadence,
    "representation": representation,
    "decoding": decoding,
}


def checks(axis: str) -> tuple[str, ...]:
    """Return the names of all checks of an axis, in the order they run.

    Raises:
        UnknownName: no such axis.
    """
    if axis not in _BY_AXIS:
        raise UnknownName("axis", axis, REGISTRY_AXES)
    return (*declaration.CHECKS, *_BY_AXIS[axis].CHECKS)


def check_strategy(
    strategy: Strategy,
    *,
    exempt: Collection[str] = (),
    only: Collection[str] = (),
    within: Mechanism | None = None,
    artefacts: ArtefactMaker | None = None,
    shapes: Sequence[Shape] = SHAPES,
) -> None:
    """Check that a strategy keeps the contract of its axis.

    Args:
        strategy: of any axis, a selector too.
        exempt: checks that do not apply, by name (`checks(axis)` lists them). A strategy whose outcome depends by design
            on a head's number or on the row's random stream, such as random retention, is exempt from "head permutation".
        only: run these alone.
        within: a mechanism to try it in, for a strategy that conflicts with plain strategies on the other axes.
        artefacts: makes a calibration that it needs, by name and geometry; without it query statistics are made up. If the
            second dimension of a per-layer tensor is as long as there are query heads or KV heads, it is read as these.
        shapes: shapes of events to try it on; fewer are quicker. Where heads hold the same tokens in all of them, they do so in
            a representation's store too.

    Raises:
        AssertionError: it breaks a rule; the message says which, on what input, and what was got.
        UnknownName: no check of that name.
    """
    wanted = _wanted(strategy.axis, exempt, only)
    for name in wanted:
        if name in declaration.CHECKS:
            _run(name, strategy, declaration.CHECKS[name], strategy)
    module = _BY_AXIS[strategy.axis]
    own = [name for name in wanted if name not in declaration.CHECKS]
    if own:
        trial: list[Any] = []
        host = HostMechanism(within, artefacts, shapes)
        _run(own[0], strategy, lambda s: trial.append(module.trial(s, host)), strategy)
        for name in own:
            _run(name, strategy, module.CHECKS[name], trial[0])


def _wanted(axis: str, exempt: Collection[str], only: Collection[str]) -> list[str]:
    """Return the checks of an axis that are to be run."""
    if axis not in _BY_AXIS:
        raise AssertionError(f"axis must be one of {', '.join(_BY_AXIS)}, got {axis!r}")
    known = checks(axis)
    for name in (*exempt, *only):
        if name not in known:
            raise UnknownName(f"check of {axis}", name, known)
    return [name for name in known if name not in exempt and (not only or name in only)]


def _run(name: str, strategy: Strategy, check: Callable[[Any], object], subject: Any) -> None:
    """Run one check; whatever else a strategy raises on legal input is a failure too."""
    try:
        check(subject)
    except AssertionError as error:
        error.add_note(f"conformance check {name!r} of {strategy!r}")
        raise
    except Exception as error:
        raise AssertionError(
            f"{named(strategy)} stopped with {type(error).__name__} in conformance check {name!r}: {error}"
        ) from error
