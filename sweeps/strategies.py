"""Builds a strategy from its YAML form: `every-step`, or `{kind: h2o, recent: {share: 0.5}}`.

A strategy's frozen dataclass is its schema. Its fields are validated strictly through a pydantic model made from it, so
third-party strategies get the same messages without depending on pydantic.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from designspace.axes import Strategy
from designspace.errors import DesignspaceError, UnknownName
from designspace.registry import REGISTRY_AXES, kinds, strategy
from sweeps.problems import Problems
from sweeps.yaml_document import DataPath, shown

_CONFIG = ConfigDict(
    extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=()
)


def build_strategy(axis: str, data: Any, path: DataPath, problems: Problems) -> Strategy | None:
    """Return the strategy that `data` declares, or note every problem with it and return None."""
    if isinstance(data, str):
        data = {"kind": data}
        kind_path = path
    elif isinstance(data, dict) and data:
        kind_path = (*path, "kind")
    else:
        problems.add(path, f"must be a {axis} kind or a mapping with 'kind', got {shown(data)}")
        return None
    cls = _strategy_class(axis, data, kind_path, problems)
    return None if cls is None else _instance(cls, data, path, problems)


def _strategy_class(axis: str, data: dict[str, Any], path: DataPath, problems: Problems) -> type[Strategy] | None:
    kind = data.get("kind")
    if not isinstance(kind, str):
        if "kind" not in data:
            problems.add(path, f"required field is missing (known: {', '.join(kinds(axis))})")
        else:
            problems.add(path, f"must be text, got {shown(kind)}")
        return None
    try:
        return strategy(axis, kind)
    except UnknownName as error:
        problems.add(path, str(error))
        return None


def _instance(cls: type[Strategy], data: dict[str, Any], path: DataPath, problems: Problems) -> Strategy | None:
    parameters = {name: _hashable(value) for name, value in data.items() if name != "kind"}
    complete = True
    for name in sorted(_nested_axes(cls) & parameters.keys()):
        built = build_strategy(name, data[name], (*path, name), problems)
        complete &= built is not None
        # The placeholder keeps the other parameters checkable in the same pass.
        parameters[name] = built if built is not None else _placeholder(name)
    for name, record in _records(cls).items():
        if isinstance(parameters.get(name), dict):
            made = _made(record, parameters.pop(name), (*path, name), problems)
            complete &= made is not None
            parameters.update({} if made is None else {name: made})
    return _made(cls, parameters, path, problems, build=complete)


def _made(
    cls: Any, parameters: dict[str, Any], path: DataPath, problems: Problems, *, build: bool = True
) -> Any | None:
    """Return an instance of a dataclass, or note every problem with its parameters; None too if it is not to be built."""
    schema = _schema(cls)
    try:
        model = schema.model_validate(parameters)
    except ValidationError as error:
        problems.add_validation(error, schema, parameters, path)
        return None
    if not build:
        return None
    try:
        return cls(**{name: getattr(model, attribute) for name, attribute in _attributes(schema) if name in parameters})
    except (DesignspaceError, ValueError) as error:
        problems.add_error(path, error)
        return None


@cache
def _schema(cls: type[Any]) -> type[BaseModel]:
    hints = get_type_hints(cls)
    definitions: dict[str, Any] = {}
    for index, parameter in enumerate(fields(cls)):
        required = parameter.default is MISSING and parameter.default_factory is MISSING
        annotation = Any if parameter.name in REGISTRY_AXES else hints[parameter.name]
        # Aliased, because a parameter may well be called `copy` or `schema`, names that pydantic has taken.
        definitions[f"p{index}"] = (annotation, Field(... if required else None, alias=parameter.name))
    return create_model(cls.__name__, __config__=_CONFIG, **definitions)


def _attributes(schema: type[BaseModel]) -> list[tuple[str, str]]:
    return [(str(field.alias), attribute) for attribute, field in schema.model_fields.items()]


def _nested_axes(cls: type[Strategy]) -> set[str]:
    """Return the parameters that are strategies themselves: `selector` of a scoring."""
    return {parameter.name for parameter in fields(cls)} & set(REGISTRY_AXES)


@cache
def _records(cls: type[Strategy]) -> dict[str, type[Any]]:
    """Return the parameters that may be a mapping, each with the dataclass that holds it: `recent` of a scoring."""
    found = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(cls).items()}
    nested = _nested_axes(cls)
    return {
        name: kind
        for name, kinds_of in found.items()
        for kind in kinds_of
        if name not in nested and isinstance(kind, type) and is_dataclass(kind)
    }


def _placeholder(axis: str) -> object:
    return f"<invalid {axis}>"


def _hashable(value: Any) -> Any:
    """Return lists as tuples: parameters of a frozen dataclass must hash."""
    return tuple(_hashable(item) for item in value) if isinstance(value, list) else value
