"""What arms are on each axis: a kind, with those parameters in which arms of one kind differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from designspace.canonical import canonical_json

AXES = ("scoring", "protect", "selector", "head_routing", "cadence", "representation", "decoding")
_WITHIN_SCORING = ("protect", "selector")


def axis_levels(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return axis -> arm -> level, for the axes on which arms differ.

    arms: what each is composed of, by its name: the identity of each axis, as a cell's identity or a study's document has it.
    """
    levels: dict[str, dict[str, str]] = {}
    for axis in AXES:
        chosen = {name: _level(composed, axis) for name, composed in arms.items()}
        distinct = {canonical_json(document): document for document in chosen.values()}
        if len(distinct) < 2:
            continue
        labels = {text: _label(document, list(distinct.values())) for text, document in distinct.items()}
        levels[axis] = {name: labels[canonical_json(document)] for name, document in chosen.items()}
    return levels


def _level(composed: Mapping[str, Mapping[str, Any]], axis: str) -> dict[str, Any]:
    if axis == "protect":
        return {"kind": composed["scoring"].get("protect", "none")}
    strategy = composed["scoring"]["selector"] if axis == "selector" else composed.get(axis)
    if strategy is None:
        return {"kind": "as generation says"}
    return {name: value for name, value in strategy.items() if name not in (*_WITHIN_SCORING, "version")}


def _label(document: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    same_kind = [other for other in others if other["kind"] == document["kind"]]
    differing = [n for n in document if any(other.get(n) != document[n] for other in same_kind)]
    parameters = ", ".join(f"{name}={document[name]}" for name in differing)
    return f"{document['kind']}({parameters})" if parameters else str(document["kind"])
