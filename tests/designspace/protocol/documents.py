"""A small study on paper: documents, problems and tables to cheat with."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pyarrow as pa

from designspace.protocol.document import FORMAT, heldout_problems, task_record
from designspace.protocol.looks import LookedArm
from designspace.tasks.problem import Problem

ARMS = {"baseline": LookedArm("b" * 64, "triattention"), "alpha": LookedArm("a" * 64, "triattention")}
DEV = [Problem(f"dev-{i}", f"Add {i} and {i + 7} while dev.", str(2 * i + 7)) for i in range(6)]
HELDOUT = [Problem(f"confirm-{i}", f"How much is {i} times {i + 3}, confirm?", str(i * (i + 3))) for i in range(20)]
GRADER = "grader-1"


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
        "arms": {"baseline": {"kind": "1d"}, "alpha": {"kind": "1d_div", "weight": {"tune": {"choices": [0.5, 1.0]}}}},
        "data": {
            "dev": [task_record("toy", "dev", DEV, "t" * 64)],
            "heldout": [task_record("toy", "confirm", HELDOUT, "t" * 64)],
        },
        "generation": {"max_new_tokens": 320, "temperature": 0.6}, "replicates": 3, "root_seed": 20260514,
        "budgets": [{"label": label, "tokens": int(label), "of": "mean"} for label in budgets],
        "models": {name: {"hub": name} for name in models}, "calibration": {}, "grader": {"id": GRADER},
        "code": {"id": "c" * 40}, "power": {}, "seen": False,
    }  # fmt: skip
    return copy.deepcopy({**made, **changes})


def rows(registered: dict[str, Any], chance: dict[str, float] | None = None, seed: int = 0) -> list[dict[str, Any]]:
    """Return every expected row once; `chance` is the accuracy of an arm, 0.4 for those not in it."""
    draw, found = np.random.default_rng(seed), []
    task = registered["data"]["heldout"][0]
    for model in registered["models"]:
        for budget in registered["budgets"]:
            for arm in registered["arms"]:
                for problem in heldout_problems(registered):
                    for replicate in range(registered["replicates"]):
                        correct = bool(draw.random() < (chance or {}).get(arm, 0.4))
                        found.append({
                            "problem_id": problem["id"], "replicate": replicate, "model": model,
                            "task": task["name"], "split": task["split"], "mechanism": arm, "budget": budget["label"],
                            "budget_tokens": budget["tokens"], "budget_of": budget["of"], "correct": correct,
                            "extracted": "7" if correct or draw.random() < 0.5 else None, "grader_id": GRADER,
                            "mean_cache_tokens": float(budget["tokens"]), "study": registered["study"],
                            "steady_mean_cache_tokens": float(budget["tokens"]), "n_events": 3, "n_new_tokens": 100,
                            "mean_cache_bytes": 1000.0 * budget["tokens"], "finish_reason": "stop",
                            "cell_id": f"{model}/{arm}/{budget['label']}/{replicate}", "seed": registered["root_seed"],
                            "cache_tokens_per_step": [1.0] * 99, "code_id": registered["code"]["id"],
                        })  # fmt: skip
    return found


def table(found: list[dict[str, Any]]) -> pa.Table:
    """Return rows as a table."""
    return pa.Table.from_pylist(found)
