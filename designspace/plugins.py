"""Groups of entry points: what this package and others register by name, found without importing any of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from designspace.errors import DesignspaceError, missing_extra


@cache
def points(group: str) -> Mapping[str, EntryPoint]:
    """Return the entry points of a group by name, sorted.

    Raises:
        DesignspaceError: two packages register one name for different objects.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        if point.name in found and found[point.name].value != point.value:
            raise DesignspaceError(
                f"two packages register {point.name!r} in {group}: {found[point.name].value} and {point.value}"
            )
        found[point.name] = point
    return dict(sorted(found.items()))


def load(point: EntryPoint) -> Any:
    """Return the object that an entry point names.

    Raises:
        MissingExtra: a package of one of our extras is not installed.
        DesignspaceError: its module cannot be imported, or lacks the object; the message names the package, and the extra of
            that package which the entry point says it needs.
    """
    try:
        return point.load()
    except Exception as error:  # somebody else's module may raise anything while it is imported
        if isinstance(error, ModuleNotFoundError) and (missing := missing_extra(error)) is not None:
            raise missing from error
        package = point.dist.name if point.dist is not None else point.value
        raise DesignspaceError(
            f"the plug-in {point.name!r} of package {package!r} ({point.value}) cannot be loaded: "
            f"{type(error).__name__}: {_first_line(error)}{_remedy(point, package, error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def _remedy(point: EntryPoint, package: str, error: Exception) -> str:
    """Return how to install what an entry point says that it needs: `name = module:object [extra]`."""
    if not isinstance(error, ModuleNotFoundError) or not point.extras:
        return ""
    return f": pip install '{package}[{','.join(point.extras)}]'"


def forget() -> None:
    """Look for entry points again when they are next asked for: a package may have been installed since."""
    points.cache_clear()
