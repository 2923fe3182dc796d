"""The resolved declaration that a store keeps of a study: enough to read its rows without the YAML file."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cluster.work import Work
from designspace.axes import Mechanism
from sweeps.expand import Cell
from sweeps.identity import IDENTITY_VERSION
from sweeps.plan import budget_label
from sweeps.spec import Sweep

STUDY_VERSION = 1


def study_document(sweep: Sweep, work: Work) -> dict[str, Any]:
    """Return a sweep as JSON-able data: labels in the order of the file, its cells, its text.

    It depends on the declaration alone, so that resuming writes the same document again; time and machine are with
    the rows.
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
        "mechanisms": [_mechanism(mechanism) for mechanism in sweep.mechanisms],
        "budgets": [str(budget) for budget in sweep.budgets],
        "seeds": sweep.seeds.model_dump(),
        "generation": sweep.generation.model_dump(),
        "cells": [_cell(cell, n_shards[cell.cell_id], n_problems[cell.cell_id]) for cell in work.cells],
        "source": sweep.source_text,
    }


def _mechanism(mechanism: Mechanism) -> dict[str, Any]:
    return {
        "name": mechanism.name,
        "summary": mechanism.summary,
        "citation": mechanism.citation,
        "budget_applies": mechanism.budget_applies,
        "bounded": mechanism.cadence.bounded,
        "axes": mechanism.identity(),
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
