"""Every failure a caller may want to tell apart, one class each, all below `DesignspaceError`."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec

# Which extra of this distribution brings a top-level module that a mechanism by itself does not need.
EXTRA_OF = {
    "accelerate": "gguf",
    "duckdb": "duckdb",
    "gguf": "gguf",
    "inspect_ai": "inspect",
    "lm_eval": "lm-eval",
    "math_verify": "sweep",
    "matplotlib": "report",
    "optuna": "study",
    "pandas": "sweep",
    "pyarrow": "sweep",
    "pydantic": "sweep",
    "pydantic_core": "sweep",
    "ray": "sweep",
    "rich": "sweep",
    "ruamel": "sweep",
    "scipy": "sweep",
    "statsmodels": "study",
    "torchao": "quantized",
    "typer": "sweep",
}
_MOST_NAMED = 20


class DesignspaceError(Exception):
    """Base of all errors that designspace raises on purpose; the command line prints them without a traceback."""


class DeclarationError(DesignspaceError, ValueError):
    """A sweep, a mechanism or a parameter breaks a rule. Holds every problem found, not just the first."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class DataMissing(DesignspaceError):
    """A task's data is not on this machine and cannot be fetched now; it may be there where the task runs."""


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


class NoResults(StoreError, ValueError):
    """The folder that a command was given holds no results."""


class MissingExtra(DesignspaceError, ValueError):
    """A package that only some commands need is not installed; the message says how to install it."""

    def __init__(self, module: str) -> None:
        self.module, self.extra = module, EXTRA_OF[module]
        super().__init__(f"this command needs {module}: pip install 'designspace[{self.extra}]'")


class ProtocolError(DesignspaceError):
    """The rules of register, tune, confirm, decide are broken, or a record of them does not hold together."""


class UnreadableDocument(ProtocolError, ValueError):
    """The registration, selection or report that a command was given is not there, lies elsewhere, or is no JSON."""


class RegistrationMismatch(ProtocolError):
    """What is here now is not what was registered. `differences` says where, one line each in the message."""

    def __init__(self, differences: Iterable[object]) -> None:
        self.differences = tuple(differences)
        super().__init__("\n".join(map(str, self.differences)))


def missing_extra(error: ModuleNotFoundError) -> MissingExtra | None:
    """Return what to tell the user about an import that failed, None if the module belongs to no extra."""
    # `importlib.metadata` names the distribution: math-verify, not math_verify.
    module = (error.name or "").partition(".")[0].replace("-", "_")
    return MissingExtra(module) if module in EXTRA_OF else None


def require(module: str) -> None:
    """Check that a package of an extra is installed, where its absence would be noticed only after long work.

    Raises:
        MissingExtra: it is not installed.
    """
    if find_spec(module) is None:
        raise MissingExtra(module)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the nearest known name, else the list of known names, of very many the first."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    more = f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
    return f" (known: {', '.join(known[:_MOST_NAMED])}{more})" if known else ""
