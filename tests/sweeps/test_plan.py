"""The plan: counts, progress, predictions, notes."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

from rich.console import Console

from sweeps.expand import expand
from sweeps.plan import plan
from sweeps.plan_table import print_plan
from sweeps.shards import shards
from sweeps.spec import Sweep
from tests.sweeps.conftest import write_model

SweepOf = Callable[..., Sweep]


PLAN_KEYS = [
    "plan_version",
    "study",
    "counts",
    "n_cells",
    "n_cells_uncounted",
    "n_shards",
    "n_committed",
    "n_pending",
    "n_rows_taken",
    "n_rows_to_generate",
    "max_new_tokens",
    "max_new_tokens_pending",
    "rows",
    "rows_limit",
    "tasks",
    "arms",
    "cells",
    "refused",
    "excluded",
    "notes",
]


class Store:
    """Knows some shards."""

    def __init__(self, committed: set[tuple[str, str]]) -> None:
        self.committed = committed

    def is_committed(self, cell_id: str, shard_id: str) -> bool:
        """Return whether the shard is one of them."""
        return (cell_id, shard_id) in self.committed


def test_counts_and_progress(sweep_of: SweepOf) -> None:
    """Six problems in blocks of four are two shards a cell; committed ones need no more tokens."""
    sweep = sweep_of()
    first = expand(sweep)[0]
    done = shards(first, first.task.load())[0]
    found = plan(sweep, Store({(first.cell_id, done.shard_id)}))
    assert found.counts == {"models": 1, "tasks": 1, "budgets": 2, "mechanisms": 2, "replicates": 1}
    assert (found.n_cells, found.n_shards, found.n_committed, found.n_pending) == (3, 6, 1, 5)
    assert (found.max_new_tokens, found.max_new_tokens_pending) == (3 * 6 * 16, 3 * 6 * 16 - 4 * 16)
    assert [cell.n_committed for cell in found.cells] == [1, 0, 0]


def test_arms_predict_their_cache(sweep_of: SweepOf) -> None:
    """Steady mean and peak come from the bound schedule; a cache that grows has neither."""
    sweep = sweep_of(
        budgets=[{"tokens": 64, "of": "nominal"}],
        mechanisms=[
            "full",
            {"name": "1d", "base": "triattention", "cadence": {"kind": "hysteresis", "slack": 128}},
            {"name": "once", "base": "snapkv", "cadence": "prefill-only"},
        ],
    )
    assert [(arm.mechanism, arm.budget, arm.steady_mean_tokens, arm.peak_tokens) for arm in plan(sweep).arms] == [
        ("full", "none", None, None),
        ("1d", "64 nominal", 128.5, 192),
        ("once", "64 nominal", None, None),
    ]
    assert "mechanism once: the cache grows with the text, so reports will call it unmatched" in plan(sweep).notes


def test_json_shape(sweep_of: SweepOf) -> None:
    """The keys that scripts rely on."""
    data = json.loads(plan(sweep_of()).to_json())
    assert list(data) == PLAN_KEYS
    assert data["tasks"] == [{"name": "chain-arithmetic", "split": "dev", "n_problems": 6, "state": "ready"}]
    assert data["arms"][1] == {
        "mechanism": "snapkv",
        "budget": "48",
        "steady_mean_tokens": 48.0,
        "peak_tokens": 56,
        "n_cells": 1,
        "n_shards": 2,
        "n_committed": 0,
    }
    assert {key: value for key, value in data["cells"][1].items() if key != "cell_id"} == {
        "provisional": False,
        "model": "pocket-llama",
        "task": "chain-arithmetic",
        "split": "dev",
        "mechanism": "snapkv",
        "budget": "48",
        "replicate": 0,
        "n_shards": 2,
        "n_committed": 0,
        "max_new_tokens": 96,
    }
    assert len(data["cells"][1]["cell_id"]) == 64


def test_missing_data_is_said_and_does_not_stop_the_plan(sweep_of: SweepOf, tmp_path: Path) -> None:
    """Neither hub nor weights are needed; what could not be counted is not shown as zero."""
    far = {"name": "far", "hub": "org/far", "revision": "main"}
    found = plan(sweep_of(models=[far], tasks=[{"name": "math500"}], mechanisms=["alpha"]), Store(set()))
    assert (found.n_cells, found.n_cells_uncounted, found.arms[0].n_shards) == (2, 2, None)
    assert found.tasks[0].state.startswith(
        "data not found here: cannot load HuggingFaceH4/MATH-500/test.jsonl from the hub (no hub in"
    )
    assert list(found.notes) == [
        "model far: revision 'main' can move; a commit id (40 hex digits) pins the weights",
        "task math500 dev: data not found here, so its shards are not counted",
        "cell ids are provisional where data or calibration is missing",
        "model far: calibration 'q-stats' is missing; "
        f"make it with: designspace calibrate far q-stats --sweep {tmp_path / 'sweep.yaml'}",
    ]


def test_notes_name_settings_without_effect(sweep_of: SweepOf) -> None:
    """Greedy decoding ignores top-p and repeats itself."""
    generation = {"temperature": 0, "top_p": 0.9, "max_new_tokens": 16, "rows": 4}
    assert plan(sweep_of(generation=generation, seeds={"count": 3, "root": 1})).notes == (
        "top_p 0.9 has no effect at temperature 0",
        "3 replicates at temperature 0 differ only in arms that draw random numbers",
    )


def test_axes_without_effect_are_noted(sweep_of: SweepOf) -> None:
    """A global ranking under Ada-KV, and an exact window larger than one of the budgets: the arm runs, and it is said."""
    grid = {"grid": {"scoring": ["h2o", "triattention"], "head_routing": ["uniform", "ada-kv"]}}
    kivi = {"name": "2-bit", "base": "h2o", "representation": {"kind": "kivi", "residual": 64}}
    found = plan(sweep_of(mechanisms=[grid, kivi]))

    assert found.n_cells == 10
    assert found.notes == (
        "mechanism triattention/ada-kv/every-step: head routing 'ada-kv' has no effect: scoring 'triattention' ranks the "
        "tokens alike in all layers and heads, so all heads get the same share",
        "mechanism 2-bit at budget 48: representation 'kivi' has no effect: the newest 64 tokens of every head stay exact, "
        "and this budget holds 48 on average, so nothing or next to nothing is encoded (a smaller residual changes that)",
    )


def test_an_axis_without_effect_on_one_model_names_it(sweep_of: SweepOf, tmp_path: Path) -> None:
    """Heads that are alone in their layer cannot compete."""
    write_model(tmp_path / "alone")
    config = json.loads((tmp_path / "alone/config.json").read_text()) | {"num_key_value_heads": 1}
    (tmp_path / "alone/config.json").write_text(json.dumps(config))
    models = ["pocket-llama", {"name": "alone", "path": "alone"}]
    found = plan(sweep_of(models=models, mechanisms=[{"name": "arm", "base": "h2o", "head_routing": "ada-kv"}]))

    assert found.notes == (
        "mechanism arm at budget 48, 96 on alone: head routing 'ada-kv' has no effect: a layer of this model has one KV "
        "head, so no head competes with another",
    )


def test_a_budget_in_bytes_is_held_against_the_window_in_tokens(sweep_of: SweepOf) -> None:
    """32 full tokens' bytes are 32 exact tokens."""
    kivi = {"name": "2-bit", "base": "h2o", "representation": {"kind": "kivi"}}
    (note,) = plan(sweep_of(budgets=[{"bytes_per_token_full": 32}], mechanisms=[kivi])).notes

    assert note.startswith("mechanism 2-bit: representation 'kivi' has no effect")
    assert "holds 32 on average" in note


def test_the_table_says_it_all(sweep_of: SweepOf, tmp_path: Path) -> None:
    """For people: progress, predictions, what is left out and why."""
    write_model(tmp_path / "bare", calibrated=False)
    grid = {"grid": {"scoring": ["knorm"], "cadence": ["never", "every-step"]}, "illegal": "skip"}
    sweep = sweep_of(
        models=["pocket-llama", {"name": "bare", "path": "bare"}],
        mechanisms=["full", "alpha", grid],
        exclude=[{"mechanism": "alpha", "budget": 96, "why": "known [already]"}],
    )
    stream = StringIO()
    print_plan(plan(sweep, Store(set())), Console(file=stream, width=100))
    text = stream.getvalue()
    for line in (
        "small: 2 models × 1 task × 2 budgets × 3 mechanisms × 1 replicate → 8 cells",
        "16 shards: 0 committed, 16 pending; at most 768 tokens to generate",
        "task chain-arithmetic dev: 6 problems, ready",
        "refused: knorm/uniform/never: cadence 'never' makes no event, so scoring 'knorm' would have no effect",
        "excluded: budget 96 mean, mechanism alpha, 2 cells (known [already])",
        "note: model bare: calibration 'q-stats' is missing; make it with: designspace calibrate ",
    ):
        assert line in text
    assert any(row.split() == ["alpha", "48", "48", "56", "2", "4", "0"] for row in text.splitlines())
