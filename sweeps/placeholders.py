"""`{tune: …}` placeholders: where they stand, what they may be, and a document with values in their place.

A choice may be a whole strategy that holds placeholders of its own. Those exist only where it is chosen: they are
conditional on it. In values, such a choice goes by its label: its kind, or its number where kinds repeat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isclose
from typing import Any

from pydantic import Field

from designspace.canonical import canonical_json
from designspace.errors import DeclarationError, did_you_mean
from sweeps.document import DataPath, Document, Position, path_text, shown
from sweeps.fields import Strict
from sweeps.problems import Problems

Number = int | float

# As the reader of files rounds floats: a drawn value must be the one that a file with it would hold.
_FLOAT_DIGITS = 12
_NO_PLACEHOLDER_KEYS = ("kind", "name", "grid")


class TuneEntry(Strict):
    """What stands under `tune`: `{choices: […]}` or `{low, high, log, step}`."""

    choices: list[Any] | None = Field(default=None, min_length=1)
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | float | None = None


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
        if round(n_steps) < 1 or not isclose(n_steps, round(n_steps), rel_tol=1e-9):
            raise DeclarationError(f"high must be low plus a number of steps, got {self.low}, {self.high}, {self.step}")

    @property
    def whole(self) -> bool:
        """Whether the values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def points(self) -> tuple[Number, ...] | None:
        """Return all values in ascending order, or None where there are too many to list: no step, or a log scale."""
        step = self.step if self.step is not None else 1 if self.whole else None
        if step is None or self.log:
            return None
        return tuple(self.value(self.low + k * step) for k in range(round((self.high - self.low) / step) + 1))

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


def is_placeholder(data: Any) -> bool:
    """Return whether data is meant as a placeholder: a mapping with `tune` that is not a named thing of its own."""
    return isinstance(data, dict) and "tune" in data and not any(key in data for key in _NO_PLACEHOLDER_KEYS)


def placeholder_paths(data: Any, path: DataPath = ()) -> Iterator[DataPath]:
    """Yield where placeholders stand, outer ones only, in file order."""
    if is_placeholder(data):
        yield path
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from placeholder_paths(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from placeholder_paths(value, (*path, index))


def find_space(data: Mapping[str, Any], problems: Problems) -> Space:
    """Return a study's placeholders in file order, those of a choice right after the one that it belongs to.

    Placeholders that are malformed, or stand where nothing can be tuned, are noted and left out.
    """
    finder = _Finder(problems)
    for section, content in data.items():
        if section not in ("mechanisms", "protocol"):
            for path in placeholder_paths(content, (section,)):
                problems.add(path, "only a mechanism's parts can be tuned, got a placeholder")
    entries = data.get("mechanisms")
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        finder.entry(entry, ("mechanisms", index))
    return tuple(finder.found)


class _Finder:
    """One pass over the mechanisms that collects parameters and notes malformed ones."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.found: list[Parameter] = []

    def entry(self, entry: Any, path: DataPath) -> None:
        name = entry.get("name") if isinstance(entry, dict) else None
        if is_placeholder(entry) or (isinstance(entry, dict) and "grid" in entry) or not isinstance(name, str):
            for where in placeholder_paths(entry, path):
                self.problems.add(where, "only a part of a named mechanism can be tuned, got a placeholder")
            return
        self.walk(entry, path, path, name, ())

    def walk(self, data: Any, source: DataPath, target: DataPath, name: str, condition: Any) -> None:
        if is_placeholder(data):
            self.placeholder(data, source, target, name, condition)
            return
        items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
        for key, value in items:
            self.walk(value, (*source, key), (*target, key), name, condition)

    def placeholder(self, data: Any, source: DataPath, target: DataPath, name: str, condition: Any) -> None:
        for key in data.keys() - {"tune"}:
            self.problems.add((*source, key), "a placeholder has the one field tune, got another", of_key=True)
        entry = self.problems.validated(TuneEntry, data["tune"], (*source, "tune"))
        if entry is None:
            return
        own = Parameter(f"{name}.{path_text(target[2:])}", target, condition=condition, source=source)
        if entry.choices is None:
            found = self.range_of(entry, own)
        elif entry.model_fields_set != {"choices"}:
            self.problems.add((*source, "tune"), "choices stand alone, got choices and a range")
            return
        else:
            found = self.choices_of(entry.choices, own)
        if found is None:
            return
        self.found.append(found)
        for index, (label, content) in enumerate(zip(found.choices or (), found.contents, strict=True)):
            where = (*source, "tune", "choices", index)
            self.walk(content, where, target, name, (*condition, (found.id, label)))

    def range_of(self, entry: TuneEntry, own: Parameter) -> Parameter | None:
        where = (*own.source, "tune")
        if entry.low is None or entry.high is None:
            self.problems.add(where, "must have choices, or low and high, got neither")
            return None
        try:
            return replace(own, range=Range(entry.low, entry.high, entry.log, entry.step))
        except DeclarationError as error:
            self.problems.add_error(where, error)
            return None

    def choices_of(self, contents: Sequence[Any], own: Parameter) -> Parameter | None:
        where = (*own.source, "tune", "choices")
        sound = True
        for index, content in enumerate(contents):
            if is_placeholder(content):
                self.problems.add((*where, index), "a choice must be a value, got a placeholder")
                sound = False
        texts = [canonical_json(content) for content in contents]
        for index in (index for index, text in enumerate(texts) if text in texts[:index]):
            self.problems.add((*where, index), f"choices must differ, got {shown(contents[index])} again")
            sound = False
        return replace(own, choices=_labels(contents), contents=tuple(contents)) if sound else None


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


def substituted(document: Document, space: Space, values: Mapping[str, Any]) -> Document:
    """Return the document with values in place of placeholders.

    A value has the position of its choice (or bound) in the file, so that a message about it points there.
    """
    filler = _Filler(document, {parameter.source: parameter for parameter in space}, values)
    data = {name: filler.fill(content, (name,), (name,)) for name, content in document.data.items()}
    return replace(document, data=data, keys=filler.keys, values=filler.positions)


class _Filler:
    """One pass over a document that copies data and positions, with values in place of placeholders."""

    def __init__(self, document: Document, by_source: Mapping[DataPath, Parameter], values: Mapping[str, Any]) -> None:
        self.document = document
        self.by_source = by_source
        self.given = values
        self.keys: dict[DataPath, Position] = {}
        self.positions: dict[DataPath, Position] = {}

    def fill(self, data: Any, source: DataPath, target: DataPath) -> Any:
        self.note(source, target)
        parameter = self.by_source.get(source)
        if parameter is not None:
            return self.chosen(data["tune"], parameter, target)
        if isinstance(data, dict):
            return {key: self.fill(value, (*source, key), (*target, key)) for key, value in data.items()}
        if isinstance(data, list):
            return [self.fill(value, (*source, index), (*target, index)) for index, value in enumerate(data)]
        return data

    def chosen(self, entry: Mapping[str, Any], parameter: Parameter, target: DataPath) -> Any:
        value = self.given[parameter.id]
        if parameter.choices is None:
            bound = next((name for name in ("low", "high") if entry[name] == value), None)
            if bound is not None:
                self.note((*parameter.source, "tune", bound), target, key_too=False)
            return value
        index = parameter.place(value)
        return self.fill(entry["choices"][index], (*parameter.source, "tune", "choices", index), target)

    def note(self, source: DataPath, target: DataPath, *, key_too: bool = True) -> None:
        if source in self.document.values:
            self.positions[target] = self.document.values[source]
        if key_too and source in self.document.keys:
            self.keys[target] = self.document.keys[source]


def _labels(contents: Sequence[Any]) -> tuple[Any, ...]:
    """Return one label per choice: the value itself, or a mapping's kind; numbered where that does not tell them apart."""
    kinds = [_kind(content) if isinstance(content, dict | list) else None for content in contents]
    plain = [content for content in contents if isinstance(content, str)]
    labels: list[Any] = []
    for number, (content, kind) in enumerate(zip(contents, kinds, strict=True), start=1):
        if kind is None:
            labels.append(content)
        else:
            unique = kind and kinds.count(kind) == 1 and kind not in plain
            labels.append(kind if unique else f"{kind}#{number}")
    return tuple(labels)


def _kind(content: dict[str, Any] | list[Any]) -> str:
    kind = content.get("kind") if isinstance(content, dict) else None
    return kind if isinstance(kind, str) else ""


def _same(label: Any, value: Any) -> bool:
    """Return whether two values are one: 1 and 1.0 are, 1 and true are not."""
    return label == value and isinstance(label, bool) == isinstance(value, bool)


def _range_text(bounds: Range) -> str:
    step = "" if bounds.step is None else f" in steps of {bounds.step}"
    return f"{'a whole number' if bounds.whole else 'a number'} from {bounds.low} to {bounds.high}{step}"
