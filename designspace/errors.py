"""Every failure a caller may want to tell apart, one class each, all below `DesignspaceError`."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class DesignspaceError(Exception):
    """Base of all errors that designspace raises on purpose; the command line prints them without a traceback."""


class DeclarationError(DesignspaceError, ValueError):
    """A sweep, a mechanism or a parameter breaks a rule. Holds every problem found, not just the first."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class InfeasibleBudget(DesignspaceError, ValueError):
    """A cadence cannot hold the requested budget with its parameters."""


class UnknownName(DesignspaceError, ValueError):
    """A name is not registered; the message names the nearest valid one."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        self.name, self.known = name, sorted(known)
        super().__init__(f"unknown {what} {name!r}{did_you_mean(name, self.known)}")


class ModelError(DesignspaceError, ValueError):
    """A model cannot be loaded, or is of a kind that the slot cache does not support."""


class CalibrationError(DesignspaceError, ValueError):
    """A calibration artefact is missing or was made for another model."""


class InvariantViolation(DesignspaceError, AssertionError):
    """A mechanism broke a contract of its axis at run time; the generation is refused rather than stored."""


class StoreError(DesignspaceError):
    """The results store cannot be read or written."""


class ProtocolError(DesignspaceError):
    """The rules of register, tune, confirm, decide are broken, or a record of them does not hold together."""


class RegistrationMismatch(ProtocolError):
    """What is here now is not what was registered. `differences` says where, one line each in the message."""

    def __init__(self, differences: Iterable[object]) -> None:
        self.differences = tuple(differences)
        super().__init__("\n".join(map(str, self.differences)))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the nearest known name, else the list of all known names."""
    known = list(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(sorted(known))})" if known else ""
