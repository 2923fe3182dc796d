"""A small study on paper: documents, problems and tables to cheat with."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from designspace.protocol.document import FORMAT
from designspace.protocol.look_entry import LookedArm
from designspace.protocol.problem_records import heldout_problems, task_record
from designspace.store.schema import RESULTS_SCHEMA
from designspace.tasks.problem import Problem

ARMS = {"baseline": LookedArm("b" * 64, "triattention"), "alpha": LookedArm("a" * 64, "triattention")}
DEV = [Problem(f"dev-{i}", f"Add {i} and {i + 7} while dev.", str(2 * i + 7)) for i in range(6)]
GRADER = "grader-1"
HEAD = "e" * 64  # of a ledger


def problem_of(problem_id: str) -> Problem:
    """Return a held-out problem; any number of them can be had by `confirm-<number>`."""
    i = int(problem_id.removeprefix("confirm-"))
    return Problem(problem_id, f"How much is {i} times {i + 3}, confirm?", str(i * (i + 3)))


HELDOUT = [problem_of(f"confirm-{i}") for i in range(20)]


def hypothesis(arm: str = "alpha", model: str = "toy-qwen", budget: str = "48", **changes: Any) -> dict[str, Any]:
    """Return one hypothesis; its id is made of contrast and cell."""
    contrast = f"{arm}-vs-baseline"
    return {
        "id": f"{contrast}/{model}/{budget}", "contrast": contrast, "arm": arm, "baseline": "baseline",
        "kind": "superiority", "margin": None, "model": model, "task": "toy", "budget": budget, **changes,
    }  # fmt: skip


def document(**changes: Any) -> dict[str, Any]:
    """Return a document that may be registered: two models, two budgets, one contrast."""
    models, budgets = ("toy-qwen", "toy-llama"), ("48", "96")
    hypotheses = [hypothesis(model=model, budget=budget) for model in models for budget in budgets]
    made = {
        "format": FORMAT, "study": "alpha-study", "parent": None, "amendment": None, "source": "schema: 1\n",
        "hypotheses": hypotheses, "m": len(hypotheses), "metric": "accuracy", "alpha": 0.05, "correction": "bonferroni",
        "smallest_effect": 0.05, "tolerance": 0.02, "test": {"name": "sign_flip", "resamples": 2000, "seed": 1},
        "decision": {"rules": "paper", "roles": {"qwen": "toy-qwen", "llama": "toy-llama"}},
        "tuning": {"sampler": "grid", "trials": 3, "seed": 7},
        "arms": {"baseline": {"kind": "1d"}, "alpha": {"kind": "1d_div", "weight": 0.5}},
        "data": data_of(HELDOUT),
        "generation": {"max_new_tokens": 320, "temperature": 0.6}, "replicates": 3, "root_seed": 20260514,
        "budgets": [{"label": label, "tokens": int(label), "of": "mean"} for label in budgets],
        "models": {name: {"hub": name} for name in models}, "calibration": {}, "grader": {"missing": "incorrect"},
        "code": {"id": "c" * 40}, "power": {}, "seen": False,
    }  # fmt: skip
    return copy.deepcopy({**made, **changes})


def data_of(heldout: list[Problem]) -> dict[str, Any]:
    """Return the data of a document: the development problems, and these as the held-out ones."""
    grader = {"id": GRADER, "kind": "math", "version": 1}
    return {
        "dev": [task_record("toy", "dev", DEV, "t" * 64, grader)],
        "heldout": [task_record("toy", "confirm", heldout, "t" * 64, grader)],
    }


TUNED_ARMS = {"baseline": {"kind": "1d"}, "alpha": {"kind": "1d_div", "weight": {"tune": {"choices": [0.5, 1.0]}}}}
TUNED = "alpha.weight"


def rows(
    registered: dict[str, Any],
    right: Callable[[str, str, str, str, int], bool] | None = None,
    look: str | None = HEAD,
) -> list[dict[str, Any]]:
    """Return every registered row once.

    Args:
        registered: the document; its held-out problems are the first of `HELDOUT`, or `problem_of` made them.
        right: whether model, budget, arm, problem, replicate is answered rightly; None hashes them.
        look: hash of the look that made them.
    """
    right = right or by_chance
    return [
        {
            **row(registered, model, budget, arm, name, replicate, right(model, budget["label"], arm, name, replicate)),
            "look_sha256": look,
        }
        for model in registered["models"]
        for budget in registered["budgets"]
        for arm in registered["arms"]
        for name in (problem["id"] for problem in heldout_problems(registered))
        for replicate in range(registered["replicates"])
    ]  # fmt: skip


def row(
    registered: dict[str, Any],
    model: str,
    budget: dict[str, Any],
    arm: str,
    problem_id: str,
    replicate: int,
    correct: bool,
) -> dict[str, Any]:
    """Return one row as the results store gives it; a third of the wrong answers is none at all."""
    problem, task = problem_of(problem_id), registered["data"]["heldout"][0]
    tokens = float(budget["tokens"])
    extracted = None if not correct and _share(problem_id, arm, replicate) < 1 / 3 else "7"
    return {
        "cell_id": f"{model}/{arm}/{budget['label']}/{replicate}", "shard_id": f"{model}/{arm}/{budget['label']}/{replicate}",
        "study": registered["study"], "model": model, "task": task["name"], "split": task["split"],
        "problem_id": problem_id, "kind": problem.kind, "mechanism": arm, "budget": budget["label"],
        "budget_tokens": budget["tokens"], "budget_of": budget["of"], "replicate": replicate,
        "seed": registered["root_seed"], "prompt": problem.prompt, "text": "...", "n_prompt_tokens": 20,
        "n_new_tokens": 100, "finish_reason": "stop", "mean_cache_tokens": tokens, "steady_mean_cache_tokens": tokens,
        "peak_cache_tokens": tokens + 4, "mean_cache_bytes": 1000 * tokens, "peak_cache_bytes": 1000 * tokens + 4000,
        "mean_read_bytes": 1000 * tokens, "mean_aux_bytes": 0.0, "n_events": 3, "n_evicted": 50,
        "cache_tokens_per_step": [tokens] * 9, "wall_s": 1.0, "shard_wall_s": 10.0, "attempt": 1, "worker": "w",
        "started_at": datetime(2026, 1, 1, tzinfo=UTC), "code_id": registered["code"]["id"], "engine_version": "1",
        "n_extra_tokens": 0, "grader_id": GRADER, "answer": problem.answer, "extracted": extracted,
        "grade_status": "correct" if correct else "incorrect", "correct": correct, "lenient_extracted": extracted,
        "lenient_status": "correct" if correct else "incorrect", "lenient_correct": correct,
    }  # fmt: skip


def by_chance(model: str, budget: str, arm: str, problem: str, replicate: int) -> bool:
    """Answer 40 % of the generations rightly."""
    return _share(model, budget, arm, problem, replicate) < 0.4


def table(found: list[dict[str, Any]]) -> pa.Table:
    """Return rows as a table of the store."""
    return pa.Table.from_pylist(found, schema=RESULTS_SCHEMA)


def _share(*words: Any) -> float:
    return int(hashlib.sha256("/".join(map(str, words)).encode()).hexdigest()[:8], 16) / 16**8
