"""The parameters of a task that generates its problems: what may be declared, with its bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Value = int | str


@dataclass(frozen=True)
class WholeNumber:
    """A parameter that is a number: its default, and the smallest and the largest that may be asked for."""

    default: int
    least: int
    most: int

    def fault(self, value: object) -> str | None:
        """Return the rule that a value breaks, None if it keeps it."""
        fits = isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most
        return None if fits else f"must be a number from {self.least:,} to {self.most:,}"


@dataclass(frozen=True)
class OneOf:
    """A parameter that is one of several words, the first of which is the default."""

    options: tuple[str, ...]

    @property
    def default(self) -> str:
        """The first option."""
        return self.options[0]

    def fault(self, value: object) -> str | None:
        """Return the rule that a value breaks, None if it keeps it."""
        return None if value in self.options else f"must be {', '.join(self.options[:-1])} or {self.options[-1]}"


Parameter = WholeNumber | OneOf


def faults(known: Mapping[str, Parameter], declared: Mapping[str, Value]) -> Iterator[str]:
    """Yield what is wrong with declared values of known parameters."""
    for name, value in declared.items():
        if name in known and (fault := known[name].fault(value)) is not None:
            yield f"parameter {name} {fault}, got {value!r}"


def filled(known: Mapping[str, Parameter], declared: Mapping[str, Value]) -> dict[str, Value]:
    """Return the values of all parameters, defaults for those that are not declared."""
    return {name: declared.get(name, parameter.default) for name, parameter in known.items()}
