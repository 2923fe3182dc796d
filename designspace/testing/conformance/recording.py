"""Views that note what a strategy reads of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

from designspace.axes import Contents, Needs, Observed, RunContext, Strategy, View
from designspace.testing.conformance.cases import Case
from designspace.testing.conformance.verdict import expect, named
from designspace.testing.conformance.view_changes import showing

Key = TypeVar("Key")
Value = TypeVar("Value")
# What reading each declared need looks like; trackers and calibrations are recorded by their own keys.
_READ_AS = {
    "keys": ("keys",),
    "values": ("values",),
    "queries": ("queries", "query_positions"),
    "accumulated": ("accumulated",),
    "last": ("last",),
    "output_projection": ("output_projection",),
    "layer_cosine": ("layer_cosine",),
    "foresight": ("foreseen",),
    "sentences": ("sentence_ends", "sentence_sums"),
}


class NotedMapping(Mapping[Key, Value], Generic[Key, Value]):
    """A mapping that notes which keys are asked for."""

    def __init__(self, values: Mapping[Key, Value], reads: set[Any]) -> None:
        self._values, self.reads = values, reads

    def __getitem__(self, key: Key) -> Value:
        self.reads.add(key)
        return self._values[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class _NotedObserved(Observed):
    def __getattribute__(self, name: str) -> Any:
        vars_of = object.__getattribute__(self, "__dict__")
        vars_of.setdefault("_reads", set()).add(name)
        return object.__getattribute__(self, name)


class _NotedContents(Contents):
    def __getattribute__(self, name: str) -> Any:
        vars_of = object.__getattribute__(self, "__dict__")
        vars_of.setdefault("_reads", set()).add(name)
        return object.__getattribute__(self, name)


class _NotedSetting(RunContext):
    def __getattribute__(self, name: str) -> Any:
        vars_of = object.__getattribute__(self, "__dict__")
        vars_of.setdefault("_reads", set()).add(name)
        return object.__getattribute__(self, name)


def noted_observed(seen: Observed, reads: set[Any]) -> Observed:
    """Return the same observations, noting in `reads` what is read of them from now on: names and trackers."""
    observed = _NotedObserved(**{f.name: getattr(seen, f.name) for f in fields(Observed)})
    observed.tracked = NotedMapping(seen.tracked, reads)
    vars(observed)["_reads"] = reads
    return observed


def reads_of(view: View, use: Callable[[View], object]) -> set[Any]:
    """Return what `use` reads of a view's contents and observations: names, trackers, and names of artefacts."""
    reads: set[Any] = set()
    kept = {f.name: getattr(view.context, f.name) for f in fields(RunContext)}
    context = _NotedSetting(**{**kept, "artefacts": NotedMapping(view.context.artefacts, reads)})
    contents = _NotedContents(view.contents.keys, view.contents.values)
    vars(context)["_reads"] = vars(contents)["_reads"] = reads
    shown = replace(view, contents=contents, observed=noted_observed(view.observed, reads), context=context)
    reads.clear()  # what construction itself has read does not count
    use(shown)
    return reads


def check_needs(strategy: Strategy, tried: list[Case], use: Callable[[Case, View], object]) -> None:
    """Check that a strategy works on what it declares alone, and reads all of that in at least one case.

    Reading anything undeclared raises in `View`.
    """
    reads: set[Any] = set()
    for case in tried:
        reads |= reads_of(showing(case.view, strategy.needs()), lambda view, case=case: use(case, view))  # type: ignore[misc]
    check_reads(strategy, reads)


def check_reads(strategy: Strategy, reads: set[Any]) -> None:
    """Check that everything a strategy declares is among what it has read."""
    for need in _declared(strategy.needs()):
        wanted = _READ_AS.get(need, (need,)) if isinstance(need, str) else (need,)
        expect(
            bool(reads & set(wanted)),
            f"{named(strategy)} declares {need} in needs() but never reads it: it would be collected and paid for in vain",
        )


def _declared(needs: Needs) -> list[Any]:
    """Return what is declared: names of plain needs, trackers, gates, names of artefacts."""
    plain = {f.name: getattr(needs, f.name) for f in fields(Needs)}
    keyed = [*plain.pop("trackers"), *plain.pop("gates")]
    in_gates = {gate.artefact for gate in needs.gates}  # read where tokens arrive, not at events
    keyed += [name for name in plain.pop("calibrations") if name not in in_gates]
    return [*(name for name, value in plain.items() if value), *keyed]
