"""What must be true of a strategy of any axis before it runs: it is a frozen, hashable, documented value with an identity."""

from __future__ import annotations

import copy
import json
import re
import sys
from dataclasses import fields, is_dataclass, replace
from typing import Any

from designspace.axes import Strategy
from designspace.axes import strategy as axes
from designspace.registry import REGISTRY_AXES
from designspace.testing.conformance.probes import Best, Norms
from designspace.testing.conformance.verdict import expect, named

_KIND = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_CLASSES = {
    "representation": axes.Representation, "head_routing": axes.HeadRouting, "cadence": axes.Cadence,
    "decoding": axes.Decoding, "scoring": axes.Scoring, "selector": axes.Selector,
}  # fmt: skip


def check_frozen(strategy: Strategy) -> None:
    """Check that it is a frozen dataclass of its own: setting any field raises, and every annotation is a field."""
    kind = type(strategy)
    expect(is_dataclass(kind) and "__dataclass_fields__" in vars(kind), f"{named(strategy)} must be a dataclass")
    frozen = vars(kind)["__dataclass_params__"].frozen
    expect(frozen, f"{named(strategy)} must be frozen: @dataclass(frozen=True)")
    for f in fields(strategy):
        try:
            setattr(strategy, f.name, getattr(strategy, f.name))
        except AttributeError:
            continue
        expect(False, f"{named(strategy)} must be frozen, but {f.name} could be set")


def check_value(strategy: Strategy) -> None:
    """Check that it hashes, equals its copies, and prints every parameter."""
    try:
        hash(strategy)
    except TypeError as error:
        raise AssertionError(f"{named(strategy)} must be hashable: {error}; use tuples for lists") from error
    for same in (copy.deepcopy(strategy), replace(strategy)):
        expect(same == strategy, f"{named(strategy)} must equal a copy of itself, got {strategy} and {same}")
        expect(hash(same) == hash(strategy), f"{named(strategy)} and a copy of it must have the same hash")
    for f in fields(strategy):
        shown = f"{f.name}={getattr(strategy, f.name)!r}"
        expect(shown in repr(strategy), f"{named(strategy)} must print its parameter {shown}, got {strategy!r}")


def check_identity(strategy: Strategy) -> None:
    """Check that the identity is JSON, names kind and version, and differs wherever a parameter does; so does the strategy."""
    identity = _json(strategy)
    for key, value in (("kind", strategy.kind), ("version", strategy.version)):
        expect(identity.get(key) == value, f"identity() of {named(strategy)} must hold {key}={value!r}, got {identity}")
    for f in fields(strategy):
        changed = copy.copy(strategy)
        object.__setattr__(changed, f.name, _other(getattr(strategy, f.name)))
        expect(changed != strategy, f"{named(strategy)} must not equal one with another {f.name}")
        expect(
            _json(changed) != identity,
            f"identity() of {named(strategy)} must differ when {f.name} does: two cells would share their results",
        )


def _json(strategy: Strategy) -> dict[str, Any]:
    try:
        data: dict[str, Any] = json.loads(json.dumps(strategy.identity(), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"identity() of {named(strategy)} must be JSON-able: {error}") from error
    return data


def _other(value: Any) -> Any:
    """Return another value of the same sort."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return 2 * abs(value) + 1
    if isinstance(value, str):
        return value + "'"
    if isinstance(value, tuple):
        return (*value, *value[-1:]) if value else (1,)
    if isinstance(value, axes.Selector):
        return _Unlike()
    return Norms(sinks=987) if isinstance(value, Strategy) else 1


class _Unlike(Best):
    kind = "unlike-any-other"


def check_names(strategy: Strategy) -> None:
    """Check axis, base class, kind, version and citation."""
    expect(strategy.axis in REGISTRY_AXES, f"axis must be one of {', '.join(REGISTRY_AXES)}, got {strategy.axis!r}")
    base = _CLASSES[strategy.axis]
    expect(isinstance(strategy, base), f"{named(strategy)} must be a subclass of designspace.axes.{base.__name__}")
    kind, version, citation = strategy.kind, strategy.version, strategy.citation
    expect(
        isinstance(kind, str) and _KIND.fullmatch(kind) is not None,
        f"kind must be lower-case words joined by hyphens, got {kind!r}",
    )
    is_count = isinstance(version, int) and not isinstance(version, bool) and version >= 1
    expect(is_count, f"version of {named(strategy)} must be an integer of at least 1, got {version!r}")
    expect(
        citation is None or (isinstance(citation, str) and bool(citation.strip())),
        f"citation of {named(strategy)} must be a key or None, got {citation!r}",
    )
    for f in fields(strategy):
        expect(f.name not in ("axis", "kind", "version", "citation"), f"{f.name} must be a ClassVar, not a parameter")


def check_documented(strategy: Strategy) -> None:
    """Check that class and module have docstrings: they are what `designspace show` prints."""
    kind = type(strategy)
    own = (vars(kind).get("__doc__") or "").strip()
    # A dataclass without a docstring is given its signature for one.
    expect(bool(own) and not own.startswith(f"{kind.__name__}("), f"class {kind.__name__} must have a docstring")
    module = sys.modules.get(kind.__module__)
    expect(bool(getattr(module, "__doc__", None)), f"module {kind.__module__} must have a docstring")


CHECKS = {
    "frozen": check_frozen,
    "value": check_value,
    "identity": check_identity,
    "names": check_names,
    "documented": check_documented,
}
