"""A page for each kind of strategy, and one that lists them by axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, get_type_hints

from designspace.axes import Mechanism, Representation, Strategy
from designspace.cli.bibliography import references_in
from designspace.cli.describe import claim, describe
from designspace.registry import REGISTRY_AXES, catalog, kinds, strategy
from docs.generate.markdown import Docstring, default, prose, reference, table
from docs.generate.memory import memory_of
from docs.generate.needs import needs_list
from docs.generate.types import in_words

# The axes in the order of the README, with the question that each answers.
AXES: Mapping[str, tuple[str, str]] = {
    "scoring": ("Scoring", "Which tokens are worth a slot?"),
    "selector": ("Selector", "How does a scoring's ranking become a set of tokens? It is a parameter of the scoring."),
    "head_routing": ("Head routing", "How many tokens may each layer and head hold?"),
    "cadence": ("Cadence", "When is the cache cut, and to what size?"),
    "representation": ("Representation", "What does a slot hold?"),
    "decoding": ("Decoding", "How do logits become tokens?"),
}
INDEX = """# Strategies

A mechanism has one strategy on each of five axes. Any can be combined with any on the other axes; the few combinations that
make no sense are refused before the run, with the reason. A strategy is named in [the sweep file](../sweep-file.md) by its
kind, or with parameters: `{kind: every-k, k: 8}`. [Systems](../systems/index.md) are published combinations.

`make compositions` runs a sample that covers every pair of kinds of different axes, with every invariant checked. An axis that
would change nothing in an arm is named by `plan` and `run`.
"""


def place(axis: str, kind: str) -> str:
    """Return the file of a strategy's page, in the folder of strategies."""
    return f"{axis.replace('_', '-')}-{kind}.md"


def pages() -> Iterator[tuple[str, str]]:
    """Yield the files of the folder of strategies, with their text."""
    yield "index.md", index()
    for axis in AXES:
        for kind in ours(axis):
            yield place(axis, kind), page(axis, kind)


def ours(axis: str) -> list[str]:
    """Return the kinds that this package has, without those of others that happen to be installed."""
    return [kind for kind in kinds(axis) if strategy(axis, kind).__module__.startswith("families.")]


def index() -> str:
    """Return the list of all kinds."""
    assert {*AXES} == {*REGISTRY_AXES}
    parts = [INDEX.rstrip()]
    for axis, (title, question) in AXES.items():
        rows = [[f"[`{kind}`]({place(axis, kind)})", prose(claim(strategy(axis, kind)))] for kind in ours(axis)]
        parts += [f"## {title}", question, table(["kind", "what it does"], rows)]
    return "\n\n".join(parts) + "\n"


def page(axis: str, kind: str) -> str:
    """Return the page of one strategy."""
    found, doc = strategy(axis, kind), Docstring(strategy(axis, kind))
    described = describe(f"{axis}.{kind}")
    parts = [
        f"# {AXES[axis][0]} `{kind}`",
        doc.text,
        "## Parameters",
        _parameters(found, doc, described["parameters"]),
        *_needs(found),
        *_memory(found),
        *_used_by(axis, kind),
        *references(f"[{found.citation}] {found.__doc__}"),
        f"Version {found.version}, in `{found.__module__.replace('.', '/')}.py`.",
    ]
    return "\n\n".join(parts) + "\n"


def references(text: str) -> list[str]:
    """Return the section of what a text cites."""
    rows = [f"* {reference(key, found)}" for key, found in references_in(text).items()]
    return ["## References", "\n".join(rows)] if rows else []


def _parameters(found: type[Strategy], doc: Docstring, defaults: Mapping[str, Any]) -> str:
    hints = get_type_hints(found, include_extras=True)
    rows = []
    for field in fields(found):
        value = defaults[field.name]
        shown = "required" if value == "required" else default(value)
        rows.append([f"`{field.name}`", in_words(hints[field.name]), shown, doc.names.get(field.name, "")])
    return table(["parameter", "type", "default", "meaning"], rows) if rows else "None."


def _needs(found: type[Strategy]) -> list[str]:
    try:
        instance = found()
    except TypeError:  # a parameter has no default
        return []
    return ["## What it needs, at its defaults", needs_list(instance.needs())]


def _memory(found: type[Strategy]) -> list[str]:
    return ["## Memory, at its defaults", memory_of(found())] if issubclass(found, Representation) else []


def _used_by(axis: str, kind: str) -> list[str]:
    users = [
        f"[`{name}`](../systems/{name}.md)" for name, system in catalog().items() if (axis, kind) in _parts(system)
    ]
    return ["## Systems with it", ", ".join(users)] if users else []


@cache
def _parts(system: Mechanism) -> frozenset[tuple[str, str]]:
    """Return axis and kind of every strategy of a system, the selector and what wraps another too."""
    found, waiting = set[tuple[str, str]](), list[Strategy](system.strategies().values())
    while waiting:
        part = waiting.pop()
        found.add((part.axis, part.kind))
        waiting += [inner for field in fields(part) if isinstance(inner := getattr(part, field.name), Strategy)]
    return frozenset(found)
