"""Packages of this project that a user's file hides: Python looks in the folder of a script, or of `python -m`, first."""

from __future__ import annotations

import sys

from designspace.errors import DesignspaceError

_OWN = ("cluster", "families", "sweeps")


class HiddenPackage(DesignspaceError, ValueError):
    """A file or a folder has the name of one of this project's packages, and is imported in its place."""

    def __init__(self, package: str, file: str) -> None:
        self.package, self.file = package, file
        super().__init__(
            f"{file} has the name of designspace's own package {package!r} and is imported in its place: rename it, or run the "
            "command `designspace` instead of `python -m designspace`, or from another folder"
        )


def hidden_package(error: ImportError) -> HiddenPackage | None:
    """Return what to tell the user about an import that failed, None where none of our packages is hidden."""
    package = (error.name or "").partition(".")[0]
    if package not in _OWN or package not in sys.modules:
        return None
    found = sys.modules[package]
    file = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", ())), "a folder")
    return HiddenPackage(package, file)
