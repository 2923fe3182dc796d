"""Rows for the tests of the report: a hand-computable table."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from designspace.report.arm_rows import COLUMNS
from designspace.store import RESULTS_SCHEMA

SCHEMA = pa.schema([RESULTS_SCHEMA.field(name) for name in ("study", *COLUMNS)])


def result_row(**changes: Any) -> dict[str, Any]:
    """One graded row; the ids follow from the arm unless given."""
    row: dict[str, Any] = {
        "study": "quick",
        "model": "pocket",
        "task": "chain",
        "split": "dev",
        "budget": "48",
        "mechanism": "h2o",
        "budget_tokens": 48,
        "budget_of": "mean",
        "problem_id": "p0",
        "replicate": 0,
        "kind": "loop",
        "n_new_tokens": 100,
        "finish_reason": "stop",
        "mean_cache_tokens": 48.0,
        "steady_mean_cache_tokens": 48.0,
        "peak_cache_tokens": 56.0,
        "mean_cache_bytes": 1024.0,
        "mean_read_bytes": 2048.0,
        "mean_aux_bytes": 0.0,
        "n_events": 4,
        "shard_wall_s": 2.0,
        "started_at": datetime(2026, 1, 1, tzinfo=UTC),
        "worker": "w0",
        "grader_id": "g1",
        "extracted": "1",
        "correct": True,
        "lenient_correct": True,
    }
    row |= changes
    arm = "-".join(str(row[name]) for name in ("model", "task", "split", "budget", "mechanism"))
    return {"cell_id": f"{arm}-{row['replicate']}", "shard_id": f"{arm}-{row['replicate']}"} | row


@pytest.fixture
def make_table() -> Callable[..., pa.Table]:
    """Makes a table from changes to a valid row, one mapping per row."""
    return lambda *changes: pa.Table.from_pylist([result_row(**change) for change in changes], schema=SCHEMA)


@pytest.fixture
def with_texts(make_table: Callable[..., pa.Table]) -> Callable[..., pa.Table]:
    """Makes a table with what was written: `text` and `code_id` are among the changes of each row."""

    def make(*changes: dict[str, Any]) -> pa.Table:
        rows = [dict(change) for change in changes]
        texts = [row.pop("text", "so it is 1") for row in rows]
        codes = [row.pop("code_id", "0.1.0+a") for row in rows]
        table = make_table(*rows)
        return table.append_column("text", pa.array(texts)).append_column("code_id", pa.array(codes))

    return make


@pytest.fixture
def small(make_table: Callable[..., pa.Table]) -> pa.Table:
    """Full cache, two matched arms and an unmatched one at one budget, four problems of two kinds each."""
    full = {"mechanism": "full", "budget": "none", "budget_tokens": None, "budget_of": None, "n_events": 0}
    full |= {"mean_cache_tokens": 200.0, "steady_mean_cache_tokens": None, "peak_cache_tokens": 260.0}
    arms = [full, {"mechanism": "h2o"}, {"mechanism": "r-kv"}, {"mechanism": "greedy", "mean_cache_tokens": 60.0}]
    n_right = {"full": 4, "h2o": 2, "r-kv": 3, "greedy": 4}
    rows = []
    for arm in arms:
        for i in range(4):
            right = i < n_right[str(arm["mechanism"])]
            rows.append(arm | {"problem_id": f"p{i}", "kind": "loop" if i % 2 else "once", "correct": right})
    return make_table(*rows)
