"""Collects every problem of a sweep file with its position, and words pydantic's findings the way the project does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from designspace.errors import DeclarationError
from sweeps.yaml_document import DataPath, Document, Position, located, path_text, shown

Model = TypeVar("Model", bound=BaseModel)

_TYPES = {
    "bool_type": "true or false",
    "dataclass_exact_type": "a mapping",
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_type": "an integer",
    "list_type": "a list",
    "model_type": "a mapping",
    "string_type": "text",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


class Problems:
    """Every problem found so far, each with its position; raised together."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self._found: list[tuple[Position, str]] = []

    def __bool__(self) -> bool:
        """Whether anything was found."""
        return bool(self._found)

    @property
    def found(self) -> tuple[tuple[Position, str], ...]:
        """Everything found so far, each with its position."""
        return tuple(self._found)

    def add_found(self, position: Position, text: str) -> None:
        """Note what was found in another version of the same file."""
        self._found.append((position, text))

    def add(self, path: DataPath, message: str, *, of_key: bool = False) -> None:
        """Note a problem with what stands at a path."""
        text = f"{path_text(path)}: {message}" if path else message
        self._found.append((self.document.position(path, of_key=of_key), text))

    def add_error(self, path: DataPath, error: Exception) -> None:
        """Note what a constructor or a rule of the core had to say, each of its problems on its own."""
        for message in error.problems if isinstance(error, DeclarationError) else (str(error),):
            self.add(path, message)

    def raise_any(self) -> None:
        """Raise everything found, in file order.

        Raises:
            DeclarationError: there was something.
        """
        if self._found:
            ordered = dict.fromkeys(sorted(self._found, key=lambda found: found[0]))
            raise DeclarationError(located(self.document.source, *found) for found in ordered)

    def validated(self, model: type[Model], data: Any, path: DataPath) -> Model | None:
        """Return the data as a model, or note every problem with it and return None."""
        try:
            return model.model_validate(data)
        except ValidationError as error:
            self.add_validation(error, model, data, path)
            return None

    def add_validation(self, error: ValidationError, model: type[BaseModel], data: Any, path: DataPath) -> None:
        """Note pydantic's findings about one mapping, several about one field (the branches of a union) as one."""
        by_field: dict[DataPath, list[ErrorDetails]] = {}
        for details in error.errors(include_url=False):
            where = _within(data, details["loc"], may_be_absent=details["type"] == "missing")
            by_field.setdefault(where, []).append(details)
        for where, findings in by_field.items():
            kind = findings[0]["type"]
            if kind == "extra_forbidden":
                known = field_names(_model_at(model, where[:-1]))
                self.add((*path, *where), "unknown field" + suggestion(str(where[-1]), known), of_key=True)
            elif kind == "missing":
                self.add((*path, *where), "required field is missing")
            else:
                self.add((*path, *where), _worded(findings))


def field_names(model: type[BaseModel]) -> list[str]:
    """Return the names of a model's fields as they stand in YAML."""
    return [field.alias or name for name, field in model.model_fields.items()]


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)`, or the list of known fields when nothing is near."""
    known = list(known)
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known)})"


def _within(data: Any, loc: DataPath, *, may_be_absent: bool) -> DataPath:
    """Return the part of pydantic's path that the user's document has too: union branches are no part of it."""
    where: DataPath = ()
    for key in loc:
        inside = isinstance(data, dict) and key in data
        if isinstance(data, list | tuple) and isinstance(key, int) and key < len(data):
            inside = True
        if not inside:
            return (*where, key) if may_be_absent and key == loc[-1] else where
        where, data = (*where, key), data[key]
    return where


def _model_at(model: type[BaseModel], where: DataPath) -> type[BaseModel]:
    """Return the nested model that a path of field names leads to."""
    for key in where:
        if isinstance(key, int):
            continue  # an entry of a list: its model was found with the list's name
        annotation = model.model_fields[key].annotation
        model = next(
            t for t in get_args(annotation) or (annotation,) if isinstance(t, type) and issubclass(t, BaseModel)
        )
    return model


def _worded(findings: list[ErrorDetails]) -> str:
    """Return one message for one field: the branches of a union become `a or b`."""
    first = findings[0]
    if first["type"] in ("value_error", "assertion_error"):
        return str(first.get("ctx", {}).get("error", first["msg"]))
    if first["type"] == "too_short":
        return "must have at least one entry"
    if first["type"] == "string_too_short":
        return "must not be empty"
    if first["type"] == "string_too_long":
        return f"must have at most {first['ctx']['max_length']} characters, got {len(first['input'])}"
    rules = list(dict.fromkeys(_rule(details) for details in findings))
    got = first["input"]
    near = _near_literal(findings, got)
    return f"must be {' or '.join(rules)}, got {shown(got)}{near}"


def _rule(details: ErrorDetails) -> str:
    context: Mapping[str, Any] = details.get("ctx", {})
    kind = details["type"]
    if kind in _TYPES:
        return _TYPES[kind]
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        bound = context[key]
        return f"{words} {bound:g}" if isinstance(bound, float) else f"{words} {bound}"
    if kind == "literal_error":
        return str(context["expected"])
    if kind == "finite_number":
        return "a finite number"
    return details["msg"][:1].lower() + details["msg"][1:]


def _near_literal(findings: list[ErrorDetails], got: Any) -> str:
    if not isinstance(got, str):
        return ""
    choices = [
        choice.strip("'")
        for details in findings
        if details["type"] == "literal_error"
        for choice in str(details["ctx"]["expected"]).replace(" or ", ", ").split(", ")
    ]
    close = get_close_matches(got, choices, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
