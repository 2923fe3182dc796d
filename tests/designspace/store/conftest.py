"""Rows and stores for the tests of the store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from designspace.store import ResultsStore

CELL = "ab" + "0" * 62
OTHER_CELL = "cd" + "1" * 62
SHARD = "5" * 32


def sample_row(problem: int = 0, **changes: Any) -> dict[str, Any]:
    """A valid sample row."""
    row = {
        "study": "quick",
        "model": "pocket-llama",
        "task": "chain-arithmetic",
        "split": "dev",
        "problem_id": f"p{problem:03d}",
        "kind": "loop",
        "mechanism": "h2o",
        "budget": "48",
        "budget_tokens": 48,
        "budget_of": "mean",
        "replicate": 0,
        "seed": 7,
        "prompt": "a = 1 ; a ?",
        "text": 'ünïcode \\boxed{1}, "quoted"\nsecond line',
        "n_prompt_tokens": 10,
        "n_new_tokens": 3,
        "finish_reason": "stop",
        "mean_cache_tokens": 12.0,
        "steady_mean_cache_tokens": None,
        "peak_cache_tokens": 13,
        "mean_cache_bytes": 1024.5,
        "peak_cache_bytes": 2048,
        "mean_read_bytes": 900.0,
        "mean_aux_bytes": 0,
        "n_events": 0,
        "n_evicted": 0,
        "cache_tokens_per_step": (11.0, 12.0, 13.0),
        "wall_s": 0.5,
        "shard_wall_s": 1.5,
        "attempt": 1,
        "worker": "inline",
        "started_at": datetime(2026, 11, 22, 3, 4, 5, 678901, tzinfo=UTC),
        "code_id": "c0de",
        "engine_version": "1",
        "n_extra_tokens": 0,
        "look_sha256": None,
        "prompt_token_ids": (5, 6, 7, 8, 9, 5, 6, 7, 8, 2),
        "token_ids": (11, 12, 1),
        "prompt_survival_union": 1.0,
        "prompt_survival_mean": 0.75,
        "forced_of": "full",
        "forced_logp_mean": -0.75,
        "forced_logp_full_mean": -0.25,
        "forced_loss_over_full": 0.5,
        "forced_agreement": 0.5,
        "forced_first_disagreement": 1,
        "forced_logps": (-0.25, -1.5, -0.5),
        "forced_full_logps": (-0.25, -0.25, -0.25),
        "forced_agrees": (True, False, True),
        "sampling_error": None,
        "taken_from": None,
        "prompt_text": "<user>Solve: 1 + 1<assistant>",
        "forced_answer_agreement": None,
        "forced_answer_logp_mean": None,
    }
    return {**row, **changes}


def grade_row(problem: int = 0, **changes: Any) -> dict[str, Any]:
    """A valid grade row."""
    row = {
        "problem_id": f"p{problem:03d}",
        "replicate": 0,
        "answer": "1",
        "extracted": "1",
        "grade_status": "correct",
        "correct": True,
        "lenient_extracted": "1",
        "lenient_status": "correct",
        "lenient_correct": True,
        "grader": "math",
        "grader_version": 1,
    }
    return {**row, **changes}


@pytest.fixture
def make_row() -> Callable[..., dict[str, Any]]:
    """Makes a valid sample row, with changes."""
    return sample_row


@pytest.fixture
def make_grade() -> Callable[..., dict[str, Any]]:
    """Makes a valid grade row, with changes."""
    return grade_row


@pytest.fixture
def ids() -> tuple[str, str, str]:
    """Two cell ids and a shard id."""
    return CELL, OTHER_CELL, SHARD


@pytest.fixture
def store(tmp_path: Path) -> ResultsStore:
    """An empty store."""
    return ResultsStore.open(tmp_path / "results")


@pytest.fixture
def filled(store: ResultsStore) -> ResultsStore:
    """A store with two shards of three rows in two cells, the first of them graded."""
    store.commit(CELL, SHARD, {"cell": 1}, [sample_row(i) for i in range(3)])
    store.commit(OTHER_CELL, SHARD, {"cell": 2}, [sample_row(i, mechanism="r-kv") for i in range(3)])
    store.commit_grades("grader-1", CELL, SHARD, [grade_row(i, correct=i > 0) for i in range(3)])
    return store
