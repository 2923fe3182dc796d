"""A small results folder like that of `sweeps/quickstart.yaml`, written row by row: no model runs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from designspace.registry import mechanism
from designspace.store import ResultsStore
from designspace.store.schema import FORCED_COLUMNS
from tests.designspace.store.conftest import grade_row, sample_row

N_PROBLEMS = 12
KINDS = ("recall", "sum")
# By arm, for the budgets 80 and 112: how many of the twelve problems it solves, the first ones.
SOLVED = {
    "h2o+none": (2, 8),
    "snapkv+none": (4, 6),
    "alpha+none": (9, 12),
    "triattention+none": (8, 11),
}
SYSTEMS = {
    "full": "full",
    "h2o+none": "h2o",
    "snapkv+none": "snapkv",
    "alpha+none": "alpha",
    "triattention+none": "triattention",
}


def write_study(
    root: Path, study: str = "quickstart", *, n_problems: int = N_PROBLEMS, leave_out: int = 0
) -> ResultsStore:
    """Write a study of one model, the full cache and four arms at two budgets; leave_out: cells that are not run yet."""
    store = ResultsStore.open(root)
    arms = [("full", None), *((name, budget) for budget in (80, 112) for name in SOLVED)]
    cells = [_cell(study, name, budget, n_problems) for name, budget in arms]
    mechanisms = [
        {"name": name, "budget_applies": name != "full", "axes": mechanism(system).identity()}
        for name, system in SYSTEMS.items()
    ]
    document = {
        "study": study,
        "models": ["trace-llama"],
        "tasks": [{"name": "trace-recall", "split": "dev"}],
        "budgets": ["80", "112"],
        "generation": {"temperature": 0.0, "max_new_tokens": 320, "rows": 4},
        "cells": cells,
        "mechanisms": mechanisms,
        "seeds": {"count": 1, "root": 7},
        "revision": 1,
    }
    store.write_study(study, document)
    for (name, budget), cell in zip(arms[: len(arms) - leave_out], cells, strict=False):
        _commit(store, study, name, budget, cell["cell_id"], n_problems)
    return store


def solves(name: str, budget: int | None, problem: int) -> bool:
    """Return whether an arm solves a problem."""
    if budget is None:
        return True
    return problem < SOLVED[name][0 if budget == 80 else 1]


def text_tokens(name: str, budget: int | None, problem: int) -> list[int]:
    """Return the ids of a text: that of the full cache, but for one token where the arm leaves it."""
    ids = [problem, *range(20, 40)]
    if budget is not None and not solves(name, budget, problem):
        ids[5 + len(name) % 7] = 99
    return ids


def _cell(study: str, name: str, budget: int | None, n_problems: int) -> dict[str, Any]:
    cell_id = hashlib.sha256(f"{study} {name} {budget}".encode()).hexdigest()
    labels = {"model": "trace-llama", "task": "trace-recall", "split": "dev", "mechanism": name, "replicate": 0}
    budget_name = "none" if budget is None else str(budget)
    return {**labels, "cell_id": cell_id, "budget": budget_name, "n_shards": 1, "n_problems": n_problems}


def _commit(store: ResultsStore, study: str, name: str, budget: int | None, cell_id: str, n_problems: int) -> None:
    rows, grades = [], []
    mean = 138.0 if budget is None else budget * (0.94 if name != "snapkv+none" else 0.8)
    for problem in range(n_problems):
        ids, right = text_tokens(name, budget, problem), solves(name, budget, problem)
        rows.append(
            sample_row(
                study=study, model="trace-llama", task="trace-recall", problem_id=f"trace-dev-{problem:05d}",
                kind=KINDS[problem % 2], mechanism=name, budget="none" if budget is None else str(budget),
                budget_tokens=budget, budget_of=None if budget is None else "mean", token_ids=ids,
                text=" ".join(f"t{token}" for token in ids), n_new_tokens=len(ids), n_events=0 if budget is None else 3,
                mean_cache_tokens=mean, steady_mean_cache_tokens=None if budget is None else float(budget),
                peak_cache_tokens=mean * 1.1, mean_cache_bytes=2048 * mean, mean_read_bytes=2048 * mean,
                cache_tokens_per_step=[mean] * (len(ids) - 1), **dict.fromkeys(FORCED_COLUMNS),
            )
        )  # fmt: skip
        said = "5" if right else "7"
        grades.append(
            grade_row(problem_id=f"trace-dev-{problem:05d}", answer="5", extracted=said, correct=right,
                      grade_status="correct" if right else "incorrect", lenient_extracted=said, lenient_correct=right,
                      lenient_status="correct" if right else "incorrect")
        )  # fmt: skip
    shard = cell_id[:32]
    store.commit(cell_id, shard, {"cell": cell_id}, rows)
    store.commit_grades("math-1", cell_id, shard, grades)
