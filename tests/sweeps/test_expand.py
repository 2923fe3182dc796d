"""Cells: counts, order, collapse of the budget axis, exclusion, shards."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from designspace.errors import DeclarationError
from designspace.tasks.problem import Problem
from sweeps.expand import Cell, expand
from sweeps.shards import shards
from sweeps.spec import Sweep, parse_sweep
from tests.sweeps.conftest import declaration, write_model

SweepOf = Callable[..., Sweep]


def coordinates(cells: tuple[Cell, ...]) -> list[tuple[str, str, str, int]]:
    """Return model, mechanism, budget and replicate of each cell."""
    return [(c.model.name, c.mechanism.name, str(c.budget), c.replicate) for c in cells]


def test_cells_come_in_file_order_and_full_runs_once(sweep_of: SweepOf) -> None:
    """Models vary slowest, replicates fastest; a mechanism without a use for budgets has none."""
    sweep = sweep_of(models=["pocket-qwen2", "pocket-llama"], seeds={"count": 2, "root": 1})
    per_model = [("full", "None"), ("snapkv", "48"), ("snapkv", "96")]
    assert coordinates(expand(sweep)) == [
        (model, mechanism, budget, replicate)
        for model in ("pocket-qwen2", "pocket-llama")
        for mechanism, budget in per_model
        for replicate in (0, 1)
    ]


def test_exclude_rules_are_partial_matches(sweep_of: SweepOf) -> None:
    """What a rule leaves out matches anything; a plain number is a mean, a mapping any reading."""
    budgets = [48, {"tokens": 48, "of": "peak"}, 96]
    arms = {"mechanisms": ["full", "r-kv"], "budgets": budgets}
    mean_only = expand(sweep_of(**arms, exclude=[{"budget": 48}]))
    any_reading = expand(sweep_of(**arms, exclude=[{"mechanism": "r-kv", "budget": {"tokens": 48}}]))
    assert [budget for _, _, budget, _ in coordinates(mean_only)] == ["None", "48 peak", "96"]
    assert [budget for _, _, budget, _ in coordinates(any_reading)] == ["None", "96"]


def test_refused_pairs_have_no_cells(sweep_of: SweepOf) -> None:
    """A grid that skips what is illegal keeps the pair's other budgets."""
    grid = {"grid": {"scoring": ["knorm"], "cadence": [{"kind": "every-k", "k": 32}]}, "illegal": "skip"}
    sweep = sweep_of(budgets=[16, 64], mechanisms=[grid])
    assert coordinates(expand(sweep)) == [("pocket-llama", "knorm/uniform/every-k", "64", 0)]


def test_one_model_under_two_names_is_refused(sweep_of: SweepOf, tmp_path: Path) -> None:
    """The ids would be the same, so the second arm would silently share the first one's rows."""
    for name in ("a", "b"):
        write_model(tmp_path / name)
    models = [{"name": name, "path": name} for name in ("a", "b")]
    with pytest.raises(DeclarationError, match=r"two cells are the same run under two names: a · .* and b · "):
        expand(sweep_of(models=models))


def test_an_id_is_provisional_without_data_or_calibration(sweep_of: SweepOf, tmp_path: Path) -> None:
    """A run will have another one."""
    write_model(tmp_path / "bare", calibrated=False)
    sweep = sweep_of(
        models=["pocket-llama", {"name": "bare", "path": "bare"}], mechanisms=["full", "alpha"], budgets=[48]
    )
    assert [cell.provisional for cell in expand(sweep)] == [False, False, False, True]
    assert all(cell.provisional for cell in expand(sweep_of(tasks=[{"name": "math500"}])))


def test_a_cell_travels(sweep_of: SweepOf) -> None:
    """It can be pickled for a worker and used as a key."""
    cell = expand(sweep_of(mechanisms=["alpha"]))[0]
    assert (pickle.loads(pickle.dumps(cell)), len({cell, cell})) == (cell, 1)
    assert pickle.loads(pickle.dumps(cell)).identity == cell.identity


def test_shards_are_blocks_in_task_order(sweep_of: SweepOf) -> None:
    """The last block may be short; every arm has the same blocks and other ids."""
    full, small, _ = expand(sweep_of())
    problems = [Problem(f"p{index}", "", "") for index in range(10)]
    assert [shard.problem_ids for shard in shards(full, problems)] == [
        ("p0", "p1", "p2", "p3"),
        ("p4", "p5", "p6", "p7"),
        ("p8", "p9"),
    ]
    assert [shard.index for shard in shards(full, problems)] == [0, 1, 2]
    assert [s.problem_ids for s in shards(small, problems)] == [s.problem_ids for s in shards(full, problems)]
    ids = {shard.shard_id for cell in (full, small) for shard in shards(cell, problems)}
    assert (len(ids), {len(identity) for identity in ids}) == (6, {32})


def test_block_size_can_differ_from_rows(sweep_of: SweepOf) -> None:
    """`block` says how many problems a shard has."""
    generation = {"temperature": 0.0, "max_new_tokens": 16, "rows": 4, "block": 6}
    (cell,) = expand(sweep_of(mechanisms=["full"], generation=generation))
    assert [len(shard.problem_ids) for shard in shards(cell, cell.task.load())] == [6]


MECHANISMS = ["full", "random", "h2o", "snapkv-window-8", "r-kv", "alpha", "kivi"]
BUDGETS = [24, 48, {"tokens": 48, "of": "nominal"}, {"tokens": 48, "of": "peak"}, 96]


def shuffled(value: Any, random: Any) -> Any:
    """Return data with the keys of every mapping in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(item, random)) for key, item in value.items()]
        random.shuffle(items)
        return dict(items)
    return [shuffled(item, random) for item in value] if isinstance(value, list) else value


@given(
    st.lists(st.sampled_from(MECHANISMS), min_size=1, unique=True),
    st.lists(st.sampled_from(range(len(BUDGETS))), min_size=1, unique=True),
    st.integers(1, 3),
    st.integers(1, 2),
    st.randoms(),
)
def test_counts_and_key_order(
    mechanisms: list[str], budgets: list[int], count: int, n_models: int, random: Any
) -> None:
    """Cells are the product with the budget axis collapsed; ids are unique and do not depend on key order."""
    models = [{"name": f"m{index}", "hub": f"org/m{index}", "revision": "main"} for index in range(n_models)]
    data = declaration(
        models=models,
        mechanisms=mechanisms,
        budgets=[BUDGETS[index] for index in budgets],
        seeds={"count": count, "root": 1},
    )
    cells = expand(parse_sweep(json.dumps(data)))
    per_model = sum(1 if name in ("full", "kivi") else len(budgets) for name in mechanisms)
    assert len({cell.cell_id for cell in cells}) == len(cells) == n_models * per_model * count
    other = expand(parse_sweep(json.dumps(shuffled(data, random))))
    assert [cell.cell_id for cell in other] == [cell.cell_id for cell in cells]
