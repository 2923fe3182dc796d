"""The resolved declaration that a store keeps of a study: enough to read its rows without the YAML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from cluster.code_id import code_id
from cluster.preflight import PreflightError
from cluster.work import Work, merged
from designspace.axes import Mechanism
from designspace.canonical import canonical_json
from designspace.report.code_states import code_states, code_states_text
from designspace.report.declared import MODELS, REVISION, newest_document
from designspace.store import ResultsStore
from sweeps.expand import Cell
from sweeps.generation_fields import AutoGeneration
from sweeps.identity import IDENTITY_VERSION
from sweeps.plan import budget_label
from sweeps.spec import Sweep

STUDY_VERSION = 1


def study_document(sweep: Sweep, work: Work) -> dict[str, Any]:
    """Return a sweep as JSON-able data: labels in the order of the file, its cells, its text.

    It depends on the declaration alone, so that resuming finds it again; time and machine are with the rows.
    """
    n_shards: Counter[str] = Counter()
    n_problems: Counter[str] = Counter()
    for shard in work.shards:
        n_shards[shard.cell.cell_id] += 1
        n_problems[shard.cell.cell_id] += len(shard.problem_ids)
    return {
        "study_version": STUDY_VERSION,
        "identity_version": IDENTITY_VERSION,
        "schema": sweep.schema,
        "study": sweep.study,
        "models": [model.name for model in sweep.models],
        "tasks": [{"name": task.name, "split": task.split} for task in sweep.tasks],
        "mechanisms": _mechanisms(sweep),
        "budgets": [str(budget) for budget in sweep.budgets],
        "seeds": sweep.seeds.model_dump(),
        "generation": _generation(sweep, work),
        "cells": [_cell(cell, n_shards[cell.cell_id], n_problems[cell.cell_id]) for cell in work.cells],
        "source": sweep.source_text,
    }


def record_study(store: ResultsStore, sweep: Sweep, work: Work) -> None:
    """Store a sweep's document as the one that stands now.

    The document that stands already is left alone. Any other gets the next revision, also one that stood before: a study
    that went back to fewer problems is reported on those.
    """
    document = study_document(sweep, work)
    earlier = store.studies().get(sweep.study, [])
    newest = newest_document(store, earlier) if earlier else {}
    stands = {name: value for name, value in newest.items() if name != REVISION}
    if canonical_json(stands) != canonical_json(document):
        revision = 1 + max((found.get(REVISION, 0) for found in earlier), default=0)
        store.write_study(sweep.study, {**document, REVISION: revision})


def with_rows_of(sweep: Sweep, store: ResultsStore | None) -> Sweep:
    """Return a sweep that keeps the number of rows of its results, if it says `rows: auto` and has their memory.

    So a study goes on with what it began with, though an arm was added, or a later version counts bytes otherwise.
    """
    generation = sweep.generation
    if store is None or not isinstance(generation, AutoGeneration):
        return sweep
    earlier = [document["generation"] for document in store.studies().get(sweep.study, [])]
    numbers = [
        found["rows"] for found in earlier if found.get("memory") == generation.memory and found["rows"] != "auto"
    ]
    return replace(sweep, rows_before=min(numbers, default=None))


def code_notes(store: ResultsStore | None, parts: Iterable[Work], *, strict: bool = False) -> Iterator[str]:
    """Yield that work goes on under another state of the code than what is there of it was made by.

    Raises:
        PreflightError: it does, and `strict` forbids that.
    """
    work = merged(list(parts))
    if store is None or not work.pending:
        return
    states = code_states(store, {cell.cell_id for cell in work.cells})
    others = {code: n for code, n in states.items() if code != code_id()}
    if not others:
        return
    said = f"what is there of this sweep was made by another state of the code, {code_states_text(others)}; this is {code_id()}"
    if strict:
        raise PreflightError(f"{said}. Nothing was run: go back to that state, or use another results folder")
    yield f"{said}. The report says so, for arms may then differ by more than their mechanisms (--strict refuses)"


def _generation(sweep: Sweep, work: Work) -> dict[str, Any]:
    """Return the section with its number of rows; `memory` says that the file has none, and what it follows from.

    What differs from model to model stands under `models`, by their names, and nowhere else.
    """
    generation = work.cells[0].generation if work.cells else sweep.generation
    memory = sweep.generation.memory if isinstance(sweep.generation, AutoGeneration) else None
    found = generation.model_dump() | ({} if memory is None else {"memory": memory})
    if not sweep.own:
        return found
    of_models = {own.model: dict(own.settings) for own in sweep.own}
    return {name: value for name, value in found.items() if name not in of_models[sweep.own[0].model]} | {
        MODELS: of_models
    }


def _mechanisms(sweep: Sweep) -> list[dict[str, Any]]:
    identities = sweep.arm_identities()
    return [_mechanism(mechanism, identities[mechanism.name]) for mechanism in sweep.mechanisms]


def _mechanism(mechanism: Mechanism, axes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": mechanism.name,
        "summary": mechanism.summary,
        "citation": mechanism.citation,
        "budget_applies": mechanism.budget_applies,
        "bounded": mechanism.cadence.bounded,
        "axes": axes,
    }


def _cell(cell: Cell, n_shards: int, n_problems: int) -> dict[str, Any]:
    return {
        "cell_id": cell.cell_id,
        "model": cell.model.name,
        "task": cell.task.name,
        "split": cell.task.split,
        "mechanism": cell.mechanism.name,
        "budget": budget_label(cell),
        "replicate": cell.replicate,
        "n_shards": n_shards,
        "n_problems": n_problems,
    }
