"""`{tune: …}` placeholders: where they stand, what they may be, and a document with values in their place.

A choice may be a whole strategy that holds placeholders of its own. Those exist only where it is chosen: they are
conditional on it. In values, such a choice goes by its label: its kind, or its number where kinds repeat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from designspace.canonical import canonical_json
from designspace.errors import DeclarationError
from sweeps.fields import Strict
from sweeps.problems import Problems
from sweeps.space import Parameter, Range, Space
from sweeps.yaml_document import DataPath, Document, Position, path_text, shown

_NO_PLACEHOLDER_KEYS = ("kind", "name", "grid")


class TuneEntry(Strict):
    """What stands under `tune`: `{choices: […]}` or `{low, high, log, step}`."""

    choices: list[Any] | None = Field(default=None, min_length=1)
    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | float | None = None


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
