"""`designspace bench`: its arithmetic, and that it measures the arm that was asked for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from designspace.axes import Budget
from designspace.cli.app import app
from designspace.cli.speed import OtherWork
from designspace.engine import Engine, speed
from designspace.engine.hook import REGIONS
from designspace.engine.speed import PARTS, Machine, PartClock, floor_s
from designspace.registry import mechanism
from designspace.report.cost import read_costs
from designspace.store import ResultsStore
from families.decoding.greedy import Greedy
from families.scoring.h2o import H2O
from tests.conftest import toy_model


def engine(rows: int = 3) -> Engine:
    """A full-cache engine on a toy model."""
    arm = mechanism("full").override("full", decoding=Greedy())
    return Engine(toy_model("llama"), arm, None, rows=rows, max_new_tokens=9, max_prompt_tokens=8)


def test_the_floor_counts_weights_cache_and_products_by_hand() -> None:
    """Two layers, hidden 64, 4 heads and 2 KV heads of 16, intermediate 64, 97 words; 8 steps after 8 prompt tokens."""
    made = engine()
    todo = speed._requests(made, 8)
    done = list(made.generate(todo))
    layer = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 64 + 2 * 64
    n_weights = 2 * layer + 64 + 97 * 64
    tokens = sum(range(9, 17)) / 8
    cache_bytes = tokens * 2 * 2 * 16 * 4 * 2
    n_flop = 3 * (2 * n_weights + 4 * 2 * 4 * 16 * tokens)

    assert floor_s(made, Machine(1.0, 1e30), done) == pytest.approx(4 * n_weights + 3 * cache_bytes)
    assert floor_s(made, Machine(1e30, 1.0), done) == pytest.approx(n_flop)


def test_measuring_leaves_the_engine_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is removed again, and shares add up to the whole."""
    monkeypatch.setattr(speed, "measure_machine", lambda device, dtype: Machine(1e9, 1e9))
    made = engine()
    hook = made.hook
    measured = speed.measure(lambda: made, n_runs=2, prompt_tokens=8)

    assert made.hook is hook
    assert set(measured.time_shares) == set(PARTS)
    assert sum(measured.time_shares.values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in measured.time_shares.values())
    assert measured.tokens_per_s > 0 and measured.floor_share > 0


@pytest.mark.parametrize("regions", [REGIONS, ("events",)])
def test_a_clock_times_the_regions_it_is_asked_for(regions: tuple[str, ...]) -> None:
    """Each of them takes some time where rows are cut, and the text is the one without a clock."""
    arm = mechanism("h2o").override("h2o", scoring=H2O(recent=3), decoding=Greedy())
    texts = []
    for clock in (None, PartClock(torch.device("cpu"), regions)):
        made = Engine(toy_model("llama"), arm, Budget(12), rows=2, max_new_tokens=9, max_prompt_tokens=16)
        made.hook = clock or made.hook
        texts.append([generation.token_ids for generation in made.generate(speed._requests(made, 16))])

    assert texts[0] == texts[1]
    assert clock is not None and set(clock.spent_s) == set(regions)
    assert all(seconds > 0 for seconds in clock.spent_s.values())
    assert clock.spent_s.get("attention", 0) < clock.spent_s.get("model", 1)


def test_the_command_prints_figures_and_json(tmp_path: Path) -> None:
    """A short run of a shipped arm on a shipped model."""
    common = ["bench", "pocket-llama", "knorm", "--budget", "24", "--rows", "2", "--tokens", "40", "--runs", "1"]
    threads = torch.get_num_threads()
    told = CliRunner().invoke(app, common)
    ResultsStore.open(tmp_path / "results")
    measured = CliRunner().invoke(app, [*common, "--json", "--results", str(tmp_path / "results")])
    kept = read_costs(tmp_path / "results").found
    refused = CliRunner().invoke(app, ["bench", "pocket-llama", "no-such-arm"])

    assert told.exit_code == 0, told.output
    assert "tokens/s: 2 rows, " in told.output and "where the time goes: prefill" in told.output
    figures = json.loads(measured.stdout)
    assert figures["n_new_tokens"] == 40
    assert [(cost.model, cost.mechanism, cost.budget, cost.rows) for cost in kept] == [
        ("pocket-llama", "knorm", "24", 2)
    ]
    assert kept[0].tokens_per_s == figures["tokens_per_s"] == pytest.approx(kept[0].runs_tokens_per_s[0])
    assert refused.exit_code != 0 and "no-such-arm" in str(refused.output) + str(refused.exception)
    assert torch.get_num_threads() == threads


def test_work_of_others_is_noticed() -> None:
    """A process that keeps a core busy counts."""
    others = OtherWork()
    began_s = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        while time.perf_counter() - began_s < 1.5:
            pass
        load = others.load()
        busy.kill()
    assert load > 0.1
