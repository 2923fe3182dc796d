"""Types of parameters and fields in words."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

_NAMES = {
    int: "whole number", float: "number", bool: "`true` or `false`", str: "text", type(None): "null", Any: "see below"
}  # fmt: skip
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "multiple_of": "multiple of"}
# What the store can hold; a page says it once.
LARGEST = {2**31 - 1, 2**63 - 1}


def in_words(hint: Any, metadata: Iterable[Any] = ()) -> str:
    """Return a type hint in words, with the bounds that it or `metadata` names."""
    if get_origin(hint) is Annotated:
        inner, *more = get_args(hint)
        return in_words(inner, [*more, *metadata])
    return ", ".join([_kind(hint), *_bounds(metadata)])


def _kind(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(in_words(arg) for arg in args))
    if origin in (tuple, list):
        inner = next((arg for arg in args if arg is not Ellipsis), Any)
        return "list" if inner is Any else f"list of {in_words(inner)}"
    if origin is dict or hint is dict:
        return "mapping"
    if hint in _NAMES:
        return _NAMES[hint]
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return {"WindowShare": "`{share: …}`"}.get(hint.__name__, str(hint.__name__).lower())


def _bounds(metadata: Iterable[Any]) -> list[str]:
    found = []
    for rule in metadata:
        bounds = {words: getattr(rule, name) for name, words in _BOUNDS.items() if hasattr(rule, name)}
        found += [f"{words} {bound:,}" for words, bound in bounds.items() if bound not in LARGEST]
        if getattr(rule, "max_length", None) is not None:
            found.append(f"at most {rule.max_length} long")
    return found
