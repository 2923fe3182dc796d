"""Canonical JSON: one spelling for equal data, so that hashes of documents mean something."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_LARGEST_EXACT_FLOAT = 2.0**53


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys, no spaces and UTF-8 as is; NaN and infinities raise ValueError.

    A whole float is written as an integer (as in RFC 8785), so that `weight: 1` and `weight: 1.0` hash alike whichever
    way a strategy was made.
    """
    return json.dumps(_typed(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _typed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _typed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_typed(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_EXACT_FLOAT:
        return int(value)
    return value
