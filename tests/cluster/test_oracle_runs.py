"""A mechanism with foresight through the worker: it is given the text of the full cache, which the engine would write too."""

from __future__ import annotations

from pathlib import Path

from cluster.run import run_sweep
from designspace.axes import Request
from designspace.engine import Engine
from designspace.models.loading import load_model
from designspace.store import ResultsStore
from sweeps.expand import expand
from sweeps.spec import load_sweep
from tests.cluster.tiny import write_replicated

ARMS = "[{name: oracle-greedy, base: oracle, decoding: greedy, cadence: {kind: every-k, k: 4}}, streaming-llm]"


def test_what_the_worker_hands_in_is_what_the_engine_would_write(tmp_path: Path) -> None:
    """Token by token, and cells without foresight have nothing about it in their identity."""
    path = write_replicated(tmp_path / "s", mechanisms=ARMS, replicates=1)
    sweep = load_sweep(path)
    assert run_sweep(path, tmp_path / "r", executor="inline", workers=1).complete
    cells = {cell.mechanism.name: cell for cell in expand(sweep)}
    rows = ResultsStore.open(tmp_path / "r", create=False).samples().to_table().to_pylist()
    stored = {row["problem_id"]: row for row in rows if row["mechanism"] == "oracle-greedy"}
    cell = cells["oracle-greedy"]
    longest = max(len(row["prompt_token_ids"]) for row in stored.values())
    engine = Engine(
        load_model(cell.model), cell.mechanism, cell.budget, rows=2, max_new_tokens=40, max_prompt_tokens=longest
    )
    asked = [Request(name, tuple(row["prompt_token_ids"]), bytes(16)) for name, row in stored.items()]
    for generation in engine.generate(asked):
        assert list(generation.token_ids) == stored[generation.problem_id]["token_ids"]
    assert any(row["n_events"] > 1 for row in stored.values())
    assert "reference" in cell.identity
    assert "reference" not in cells["streaming-llm"].identity
