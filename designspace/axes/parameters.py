"""Checks the parameters of a strategy against the annotations of its fields: types, choices and bounds.

A strategy declares `window: Annotated[int, Ge(1)] = 64` with the constraints of `annotated_types`. A rule that relates one
parameter to another stays in the strategy's own `__post_init__`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Lt, MinLen, MultipleOf

from designspace.errors import DeclarationError

_TYPES = {bool: "True or False", int: "an integer", float: "a number", str: "text", tuple: "a tuple"}


def check_parameters(strategy: Any) -> None:
    """Check every parameter of a strategy, a dataclass instance, against its annotation.

    Integers are accepted where a float is declared, booleans are no numbers, and no float may be NaN or infinite. Where a
    subclass declares a parameter anew, the annotations of its bases hold too.

    Raises:
        DeclarationError: with one message for each parameter that breaks a rule.
        TypeError: an annotation cannot be resolved, or has a constraint that is not supported.
    """
    cls: type = type(strategy)
    problems: list[str] = []
    for name, annotated in _annotated(cls):
        found = (list(_problems(name, getattr(strategy, name), options)) for options in annotated)
        problems += next(filter(None, found), [])
    if problems:
        raise DeclarationError(problems)


@dataclass(frozen=True)
class _Choice:
    """An alternative of an annotation that is one value: a member of a `Literal`, or None."""

    value: Any

    def is_type_of(self, value: Any) -> bool:
        return type(value) is type(self.value) and bool(value == self.value)

    def allows(self, value: Any) -> bool:
        return self.is_type_of(value)

    def type_rule(self) -> str:
        return f"be {self.value!r}"

    def rule(self) -> str:
        return self.type_rule()


@dataclass(frozen=True)
class _Typed:
    """An alternative of an annotation that is a type, with its bounds."""

    kind: Any
    bounds: tuple[BaseMetadata, ...] = ()

    def is_type_of(self, value: Any) -> bool:
        kind = get_origin(self.kind) or self.kind
        if isinstance(value, bool) and kind in (int, float):
            return False
        if kind is tuple:
            return isinstance(value, tuple) and self.n_entries() in (None, len(value))
        if kind is float:
            return isinstance(value, int | float)
        try:
            return isinstance(value, kind)
        except TypeError:  # Any, a protocol, a type variable: nothing to check
            return True

    def allows(self, value: Any) -> bool:
        return all(_holds(bound, value) for bound in self.bounds)

    def type_rule(self) -> str:
        kind = get_origin(self.kind) or self.kind
        if kind is tuple and self.n_entries() is not None:
            return f"be a tuple of {self.n_entries()} entries"
        name = getattr(kind, "__name__", str(kind))
        # A record among the parameters says how a declaration writes it.
        return f"be {_TYPES.get(kind) or getattr(kind, 'form', f'{_article(name)} {name}')}"

    def rule(self) -> str:
        return _rule_of(self.bounds) if self.bounds else self.type_rule()

    def n_entries(self) -> int | None:
        """Return the length of a tuple type, or None if any length will do."""
        entries = get_args(self.kind)
        return None if not entries or entries[-1] is Ellipsis else len(entries)

    def entries(self, value: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the entries of a tuple, each with its annotation."""
        entries = get_args(self.kind)
        if isinstance(value, tuple) and entries:
            yield from zip(value, entries[:1] * len(value) if entries[-1] is Ellipsis else entries, strict=True)


_Options = tuple[_Choice | _Typed, ...]


@cache
def _annotated(cls: type) -> tuple[tuple[str, tuple[_Options, ...]], ...]:
    """Return the parameters of a class, each with its annotations: that of the class first, then those of its bases."""
    try:
        declared = [get_type_hints(base, include_extras=True) for base in cls.__mro__ if is_dataclass(base)]
    except NameError as error:
        raise TypeError(
            f"annotations of {cls.__qualname__} must be resolvable at run time, got {error}: "
            "import and define names at module level, outside of TYPE_CHECKING"
        ) from error
    found = []
    for parameter in fields(cls):
        hints = [hints[parameter.name] for hints in declared if parameter.name in hints] if parameter.init else []
        found.append((parameter.name, tuple(dict.fromkeys(_options(hint) for hint in hints))))
    return tuple(found)


@cache
def _options(hint: Any) -> _Options:
    return tuple(_alternatives(hint, ()))


def _alternatives(hint: Any, bounds: tuple[BaseMetadata, ...]) -> Iterator[_Choice | _Typed]:
    """Yield the alternatives of an annotation, those of unions and choices one by one."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *metadata = get_args(hint)
        yield from _alternatives(inner, (*bounds, *_constraints(metadata)))
    elif origin in (Union, UnionType):
        for part in get_args(hint):
            yield from _alternatives(part, bounds)
    elif origin is Literal:
        yield from map(_Choice, get_args(hint))
    else:
        yield _Choice(None) if hint in (None, NoneType) else _Typed(hint, bounds)


def _constraints(metadata: Iterable[Any]) -> Iterator[BaseMetadata]:
    for item in metadata:
        if isinstance(item, GroupedMetadata):
            yield from _constraints(item)
        elif isinstance(item, BaseMetadata):
            yield item


def _problems(name: str, value: Any, options: _Options) -> Iterator[str]:
    """Yield the rule that a value breaks, or those that the entries of a tuple break."""
    fitting = [option for option in options if option.is_type_of(value)]
    if not fitting:
        rules = [option.type_rule() for option in options]
    elif isinstance(value, float) and not math.isfinite(value):
        rules = ["be a finite number", *(option.rule() for option in options if option not in fitting)]
    elif not any(option.allows(value) for option in fitting):
        rules = [option.rule() for option in options]
    else:
        for option in fitting:
            if isinstance(option, _Typed):
                for index, (entry, hint) in enumerate(option.entries(value)):
                    yield from _problems(f"{name}[{index}]", entry, _options(hint))
        return
    yield f"{name} must {_joined(rules, 'or')}, got {name}={value!r}"


def _holds(bound: BaseMetadata, value: Any) -> bool:
    match bound:
        case Ge(least):
            return bool(value >= least)
        case Gt(limit):
            return bool(value > limit)
        case Le(most):
            return bool(value <= most)
        case Lt(limit):
            return bool(value < limit)
        case MultipleOf(step):
            return bool(value % step == 0)
        case MinLen(least):
            return len(value) >= least
    raise TypeError(f"{bound} is not supported in the annotation of a parameter: check it in __post_init__")


def _rule_of(bounds: tuple[BaseMetadata, ...]) -> str:
    match bounds:
        case [Ge(low) | Gt(low) as lower, Le(high) | Lt(high) as upper]:
            return f"lie in {'[' if isinstance(lower, Ge) else '('}{low}, {high}{']' if isinstance(upper, Le) else ')'}"
    return _joined(map(_words, bounds), "and")


def _words(bound: BaseMetadata) -> str:
    match bound:
        case Ge(least):
            return f"be at least {least}"
        case Gt(limit):
            return f"be above {limit}"
        case Le(most):
            return f"be at most {most}"
        case Lt(limit):
            return f"be below {limit}"
        case MultipleOf(step):
            return f"be a multiple of {step}"
        case MinLen(1):
            return "not be empty"
        case MinLen(least):
            return f"have at least {least} entries"
    return str(bound)


def _joined(rules: Iterable[str], word: str) -> str:
    """Join `be 1`, `be 2`, `be 'auto'` to `be 1, 2 or 'auto'`: a verb that the rule before has too is not repeated."""
    rules = list(dict.fromkeys(rules))
    said = [
        rule.removeprefix("be ") if before.startswith("be ") else rule
        for before, rule in zip(["", *rules], rules, strict=False)
    ]
    return f"{', '.join(said[:-1])} {word} {said[-1]}" if len(said) > 1 else said[0]


def _article(name: str) -> str:
    return "an" if name[:1].lower() in "aeiou" else "a"
