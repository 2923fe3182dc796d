"""A results folder with made-up rows, written through the store's own interface: no model runs.

For measuring and testing what reads results. Every number of a row follows from its arm and its problem, so the same shape
gives the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from designspace.registry import mechanism
from designspace.store import ResultsStore
from designspace.store.schema import FORCED_COLUMNS

STUDY = "made-up"
GRADER = "math-1"
_SYSTEM = "snapkv"  # whose axes every arm has, but for the level that its name says
_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Shape:
    """How many rows, and how they are divided.

    Attributes:
        n_mechanisms: arms of each budget, beside the full cache.
        budgets: in tokens.
        n_problems: rows of each cell.
        n_per_shard: rows of each file.
        n_tokens: new tokens of each text.
    """

    n_mechanisms: int = 4
    budgets: tuple[int, ...] = (80, 112)
    models: tuple[str, ...] = ("made-llama", "made-qwen2")
    n_problems: int = 12
    n_per_shard: int = 1000
    n_tokens: int = 20

    @property
    def n_cells(self) -> int:
        """Cells of the study, those of the full cache included."""
        return len(self.models) * (1 + self.n_mechanisms * len(self.budgets))

    @property
    def n_rows(self) -> int:
        """Rows of the finished study."""
        return self.n_cells * self.n_problems


@dataclass(frozen=True)
class MadeCell:
    """A cell, its labels, and the share of problems that it solves in percent."""

    model: str
    name: str
    budget: int | None
    per_cent: int

    @property
    def cell_id(self) -> str:
        """Id, from the labels."""
        return hashlib.sha256(f"{self.model} {self.name} {self.budget}".encode()).hexdigest()

    @property
    def labels(self) -> dict[str, Any]:
        """The labels that its rows carry."""
        budget = "none" if self.budget is None else str(self.budget)
        return {"model": self.model, "task": "made-task", "split": "dev", "mechanism": self.name, "budget": budget}


def cells_of(shape: Shape) -> Iterator[MadeCell]:
    """Yield the cells of a shape, each model's full cache first."""
    for model in shape.models:
        yield MadeCell(model, "full", None, 95)
        for budget in shape.budgets:
            for arm in range(shape.n_mechanisms):
                yield MadeCell(model, f"arm-{arm:03d}", budget, (17 * arm + budget) % 90)


def declare(root: Path, shape: Shape) -> ResultsStore:
    """Make a folder with the declaration of a shape, and no rows."""
    store = ResultsStore.open(root)
    n_shards = -(-shape.n_problems // shape.n_per_shard)
    cells = [
        {**cell.labels, "replicate": 0, "cell_id": cell.cell_id, "n_shards": n_shards, "n_problems": shape.n_problems}
        for cell in cells_of(shape)
    ]
    names = dict.fromkeys(cell.name for cell in cells_of(shape))
    axes = mechanism(_SYSTEM).identity()
    mechanisms = [
        {"name": name, "budget_applies": name != "full", "axes": {**axes, "scoring": {**axes["scoring"], "kind": name}}}
        for name in names
    ]
    document = {
        "study": STUDY,
        "models": list(shape.models),
        "tasks": [{"name": "made-task", "split": "dev"}],
        "budgets": [str(budget) for budget in shape.budgets],
        "generation": {"temperature": 0.0, "max_new_tokens": shape.n_tokens, "rows": shape.n_per_shard},
        "cells": cells,
        "mechanisms": mechanisms,
        "seeds": {"count": 1, "root": 7},
        "revision": 1,
    }
    store.write_study(STUDY, document)
    return store


def fill(store: ResultsStore, shape: Shape, cells: list[MadeCell] | None = None) -> None:
    """Commit all rows of some cells, of all by default, with their grades."""
    for cell in cells_of(shape) if cells is None else cells:
        for first in range(0, shape.n_problems, shape.n_per_shard):
            problems = range(first, min(first + shape.n_per_shard, shape.n_problems))
            shard = hashlib.sha256(f"{cell.cell_id} {first}".encode()).hexdigest()[:32]
            rows = [_row(cell, problem, shape) for problem in problems]
            store.commit(cell.cell_id, shard, {"cell": cell.cell_id}, rows)
            store.commit_grades(GRADER, cell.cell_id, shard, [_grade(cell, problem) for problem in problems])


def made_store(root: Path, shape: Shape) -> ResultsStore:
    """Make the folder of a finished study."""
    store = declare(root, shape)
    fill(store, shape)
    return store


def _solves(cell: MadeCell, problem: int) -> bool:
    return (problem * 37 + 11) % 100 < cell.per_cent


def _row(cell: MadeCell, problem: int, shape: Shape) -> dict[str, Any]:
    has_budget, n = cell.budget is not None, shape.n_tokens
    mean = 138.0 if cell.budget is None else 0.94 * cell.budget
    ids = [(problem + step * (1 + _solves(cell, problem))) % 1000 for step in range(n)]
    return {
        **cell.labels, "study": STUDY, "problem_id": f"made-{problem:06d}", "kind": ("recall", "sum")[problem % 2],
        "budget_tokens": cell.budget, "budget_of": "mean" if has_budget else None, "replicate": 0, "seed": problem,
        "prompt": f"Problem {problem}: what is {problem} plus {problem % 7}, and why?", "text": " ".join(map(str, ids)),
        "n_prompt_tokens": 12, "n_new_tokens": n, "finish_reason": "stop" if problem % 9 else "length",
        "mean_cache_tokens": mean, "steady_mean_cache_tokens": float(cell.budget) if cell.budget is not None else None,
        "peak_cache_tokens": 1.1 * mean, "mean_cache_bytes": 2048 * mean, "peak_cache_bytes": 2253 * mean,
        "mean_read_bytes": 2048 * mean, "mean_aux_bytes": 0.0, "n_events": 3 * has_budget, "n_evicted": 40 * has_budget,
        "cache_tokens_per_step": [mean] * (n - 1), "wall_s": 0.5, "shard_wall_s": 1.5, "attempt": 1, "worker": "inline",
        "started_at": _BEGUN, "code_id": "made", "engine_version": "1", "n_extra_tokens": 0, "look_sha256": None,
        "prompt_token_ids": [problem % 1000, *range(11)], "token_ids": ids, "prompt_survival_union": 0.8,
        "prompt_survival_mean": 0.5, "sampling_error": None, "taken_from": None, "prompt_text": None,
        **dict.fromkeys(FORCED_COLUMNS),
    }  # fmt: skip


def _grade(cell: MadeCell, problem: int) -> dict[str, Any]:
    right, answer = _solves(cell, problem), str(problem + problem % 7)
    said, status = answer if right else "0", "correct" if right else "incorrect"
    return {
        "problem_id": f"made-{problem:06d}", "replicate": 0, "answer": answer, "extracted": said, "grade_status": status,
        "correct": right, "lenient_extracted": said, "lenient_status": status, "lenient_correct": right,
        "grader": "math", "grader_version": 1,
    }  # fmt: skip
