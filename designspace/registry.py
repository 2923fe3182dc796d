"""Names to strategies and to published systems, found through entry points.

`designspace` never imports `families`: a strategy is one line `<axis>.<kind> = module:Class` in the entry-point group
`designspace.mechanisms`, a set of named compositions one line in `designspace.catalog`, a calibration (what a strategy needs
measured on a model beforehand) one line `<artefact> = module:measure` in `designspace.calibrations`. Third parties use the
same groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from designspace import plugins
from designspace.axes import AXES, Mechanism, Strategy
from designspace.errors import DesignspaceError, UnknownName
from designspace.models.calibration import Measure

STRATEGY_GROUP = "designspace.mechanisms"
CATALOG_GROUP = "designspace.catalog"
CALIBRATION_GROUP = "designspace.calibrations"
REGISTRY_AXES = (*AXES, "selector")


@cache
def _strategy_points() -> Mapping[tuple[str, str], EntryPoint]:
    points: dict[tuple[str, str], EntryPoint] = {}
    for point in entry_points(group=STRATEGY_GROUP):
        axis, _, kind = point.name.partition(".")
        if (axis, kind) in points and points[axis, kind].value != point.value:
            raise DesignspaceError(
                f"two packages register {axis} {kind!r}: {points[axis, kind].value} and {point.value}"
            )
        points[axis, kind] = point
    return points


def kinds(axis: str) -> list[str]:
    """Return the registered kinds of an axis, sorted.

    Raises:
        UnknownName: no such axis.
    """
    if axis not in REGISTRY_AXES:
        raise UnknownName("axis", axis, REGISTRY_AXES)
    return sorted(kind for a, kind in _strategy_points() if a == axis)


@cache
def strategy(axis: str, kind: str) -> type[Strategy]:
    """Return the class of one strategy.

    Raises:
        UnknownName: no such axis or kind; the message names the nearest.
        DesignspaceError: what is registered cannot be loaded, or says that it is something else.
    """
    if kind not in kinds(axis):
        raise UnknownName(f"{axis} kind", kind, kinds(axis))
    point = _strategy_points()[axis, kind]
    loaded = plugins.load(point)
    if not (isinstance(loaded, type) and issubclass(loaded, Strategy)):
        raise DesignspaceError(f"{point.value} is registered as {axis} {kind!r}, got {loaded!r:.80}")
    if (loaded.axis, loaded.kind) != (axis, kind):
        raise DesignspaceError(f"{point.value} is registered as {axis} {kind!r} but says {loaded.axis} {loaded.kind!r}")
    return loaded


@cache
def catalog() -> Mapping[str, Mechanism]:
    """Return all named compositions of all installed packages, in the order they declare them.

    Raises:
        DesignspaceError: what is registered cannot be loaded, or is no mapping of names to mechanisms.
    """
    named: dict[str, Mechanism] = {}
    for point in sorted(entry_points(group=CATALOG_GROUP), key=lambda p: p.name):
        found = plugins.load(point)
        if not isinstance(found, Mapping) or not all(isinstance(entry, Mechanism) for entry in found.values()):
            raise DesignspaceError(f"{point.value} is registered as a catalogue of mechanisms, got {found!r:.80}")
        named.update(found)
    return named


def mechanism(name: str) -> Mechanism:
    """Return a published system by name, e.g. `mechanism("snapkv")`.

    Raises:
        UnknownName: not in the catalogue.
    """
    if name not in catalog():
        raise UnknownName("mechanism", name, catalog())
    return catalog()[name]


@cache
def calibrations() -> tuple[str, ...]:
    """Return the names of all artefacts that can be measured, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=CALIBRATION_GROUP)}))


@cache
def calibration(name: str) -> Measure:
    """Return the function that measures an artefact.

    Raises:
        UnknownName: no such artefact; the message names the nearest.
    """
    if name not in calibrations():
        raise UnknownName("calibration artefact", name, calibrations())
    (point, *_) = (point for point in entry_points(group=CALIBRATION_GROUP) if point.name == name)
    measure: Measure = plugins.load(point)
    return measure
