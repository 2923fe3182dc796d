"""What is tuned: parameters with choices or ranges, the points that they span, and values checked against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isclose, isfinite
from typing import Any

from designspace.errors import DeclarationError, did_you_mean
from sweeps.yaml_document import DataPath, shown

Number = int | float

# As the reader of files rounds floats: a drawn value must be the one that a file with it would hold.
_FLOAT_DIGITS = 12


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole numbers if both bounds are.

    Attributes:
        log: draw evenly on a logarithmic scale. step: distance of the values; None = 1 for whole numbers, else any value.
    """

    low: Number
    high: Number
    log: bool = False
    step: Number | None = None

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            DeclarationError: there is nothing between them, or log and step do not fit them.
        """
        if self.low >= self.high:
            raise DeclarationError(f"low must be below high, got low={self.low}, high={self.high}")
        if self.log and self.low <= 0:
            raise DeclarationError(f"a log range must start above 0, got low={self.low}")
        if self.step is None:
            return
        if self.log:
            raise DeclarationError("a log range takes no step, got both")
        if self.whole and not isinstance(self.step, int):
            raise DeclarationError(f"a range of whole numbers needs a whole step, got step={self.step}")
        n_steps = (self.high - self.low) / self.step if self.step > 0 else 0.0
        if not isfinite(n_steps) or round(n_steps) < 1 or not isclose(n_steps, round(n_steps), rel_tol=1e-9):
            raise DeclarationError(f"high must be low plus a number of steps, got {self.low}, {self.high}, {self.step}")

    @property
    def whole(self) -> bool:
        """Whether the values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def points(self) -> tuple[Number, ...] | None:
        """Return all values in ascending order, or None where there are too many to list: no step, or a log scale."""
        if self.n_points is None:
            return None
        step = 1 if self.step is None else self.step
        return tuple(self.value(self.low + k * step) for k in range(self.n_points))

    @property
    def n_points(self) -> int | None:
        """How many values there are, without making them; None where there is no step, or a log scale."""
        step = self.step if self.step is not None else 1 if self.whole else None
        return None if step is None or self.log else round((self.high - self.low) / step) + 1

    def value(self, number: Number) -> Number:
        """Return a drawn number as a file would hold it."""
        return round(number) if self.whole else float(f"{number:.{_FLOAT_DIGITS}g}")

    def accepts(self, value: Any) -> bool:
        """Return whether a value lies in the range, and on its steps."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.whole and value != round(value):
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return isclose(steps, round(steps), abs_tol=1e-8)

    def document(self) -> dict[str, Any]:
        """Return the range as plain data."""
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}


@dataclass(frozen=True)
class Parameter:
    """One placeholder.

    Attributes:
        id: its dotted place with the mechanism's name in front: `alpha.scoring.selector.weight`.
        path: where its value stands in the sweep: `("mechanisms", 1, "scoring", "selector", "weight")`.
        choices: the labels of the values, None for a range.
        range: None for choices.
        condition: choices of other parameters, outermost first, without which this one does not exist.
        source: where the placeholder stands in the file. contents: what the choices are, as the file has them.
    """

    id: str
    path: DataPath
    choices: tuple[Any, ...] | None = None
    range: Range | None = None
    condition: tuple[tuple[str, str], ...] = ()
    source: DataPath = ()
    contents: tuple[Any, ...] = field(default=(), repr=False, compare=False)

    @property
    def mechanism(self) -> int:
        """Index of the mechanism entry."""
        return int(self.path[1])

    @property
    def probes(self) -> tuple[Any, ...]:
        """The values that a declaration is checked with: every choice, or both ends of the range."""
        return self.choices if self.choices is not None else (self._range.low, self._range.high)

    @property
    def points(self) -> tuple[Any, ...] | None:
        """All values in order, None where a range has too many."""
        return self.choices if self.choices is not None else self._range.points()

    @property
    def n_points(self) -> int | None:
        """How many values there are, without making them; None where a range does not say."""
        return len(self.choices) if self.choices is not None else self._range.n_points

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        numbers = self.choices if self.choices is not None else ()
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers)

    def active(self, values: Mapping[str, Any]) -> bool:
        """Return whether the parameter exists under these values."""
        return all(values.get(parameter) == label for parameter, label in self.condition)

    def checked(self, value: Any) -> Any:
        """Return the value as the file spells it: `1` and `1.0` are one choice.

        Raises:
            DeclarationError: it is none of the parameter's values.
        """
        if self.choices is not None:
            return self.choices[self.place(value)]
        if not self._range.accepts(value):
            raise DeclarationError(f"{self.id} must be {_range_text(self._range)}, got {shown(value)}")
        return self._range.value(value)

    def place(self, value: Any) -> int:
        """Return which choice a value is.

        Raises:
            DeclarationError: it is none of them.
        """
        choices = self.choices or ()
        for index, label in enumerate(choices):
            if _same(label, value):
                return index
        known = ", ".join(shown(label) for label in choices)
        raise DeclarationError(f"{self.id} must be one of {known}, got {shown(value)}")

    def document(self) -> dict[str, Any]:
        """Return the parameter as plain data, for registrations."""
        form = (
            {"choices": list(self.choices), "contents": list(self.contents)}
            if self.choices is not None
            else self._range.document()
        )
        return {"id": self.id, **form, "condition": [list(pair) for pair in self.condition]}

    @property
    def _range(self) -> Range:
        if self.range is None:
            raise DeclarationError(f"{self.id} must have choices or a range, got neither")
        return self.range


Space = tuple[Parameter, ...]


def first_values(space: Space) -> dict[str, Any]:
    """Return the first choice, or the lower end, of every parameter that then exists."""
    return complete(space, {})


def complete(space: Space, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for every parameter that exists under them: the given ones, else the first."""
    values: dict[str, Any] = {}
    for parameter in space:
        if parameter.active(values):
            values[parameter.id] = given.get(parameter.id, parameter.probes[0])
    return values


def probes(space: Space) -> Iterator[tuple[Parameter, dict[str, Any]]]:
    """Yield values by which every choice, and both ends of every range, occur once; the rest are first values."""
    for parameter in space:
        for value in parameter.probes:
            yield parameter, complete(space, {**dict(parameter.condition), parameter.id: value})


def grid(space: Space) -> Iterator[dict[str, Any]]:
    """Yield every combination of values, the last parameter of the file varying fastest.

    Raises:
        DeclarationError: a range has neither steps nor whole numbers.
    """
    return _grid(space, {})


def _grid(space: Space, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not space:
        yield values
        return
    parameter, rest = space[0], space[1:]
    if not parameter.active(values):
        yield from _grid(rest, values)
        return
    if parameter.points is None:
        raise DeclarationError(f"{parameter.id} must have choices or steps to be on a grid, got a range with neither")
    for point in parameter.points:
        yield from _grid(rest, {**values, parameter.id: point})


def checked_values(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values in file order, each as the file spells it.

    Raises:
        DeclarationError: with every value that is missing, unknown or outside its parameter's choices or range.
    """
    found: dict[str, Any] = {}
    problems = []
    for parameter in space:
        if not parameter.active(found):
            continue
        if parameter.id not in values:
            problems.append(f"a value for {parameter.id} is missing")
            continue
        try:
            found[parameter.id] = parameter.checked(values[parameter.id])
        except DeclarationError as error:
            problems += error.problems
    existing = {parameter.id for parameter in space if parameter.active(found)}
    for name in values:
        if name not in existing:
            problems.append(f"nothing to tune is called {name!r}{did_you_mean(name, existing)}")
    if problems:
        raise DeclarationError(problems)
    return found


def _same(label: Any, value: Any) -> bool:
    """Return whether two values are one: 1 and 1.0 are, 1 and true are not."""
    return label == value and isinstance(label, bool) == isinstance(value, bool)


def _range_text(bounds: Range) -> str:
    step = "" if bounds.step is None else f" in steps of {bounds.step}"
    return f"{'a whole number' if bounds.whole else 'a number'} from {bounds.low} to {bounds.high}{step}"
