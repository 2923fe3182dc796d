"""What a worker says of the shards that it is at, and what others read of it while a run is on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.live_progress import LiveProgress
from cluster.run import run_sweep
from cluster.shard_queue import Ticket
from cluster.work import find_work
from cluster.worker import Worker
from designspace.engine import Engine, EngineHook
from designspace.store import ResultsStore
from designspace.store.leases import Leases
from sweeps.spec import load_sweep
from tests.cluster.tiny import ONE_MODEL, write_model, write_problems


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One shard of six problems, of which two are made at a time."""
    folder = tmp_path_factory.mktemp("live")
    write_model(folder / "tiny-a", 0)
    write_problems(folder, 6)
    text = (
        ONE_MODEL.format(models=folder, mechanisms="[streaming-llm]", replicates=2, max_new_tokens=30, rows=2)
        .replace("rows: 2", "rows: 2, block: 6")
        .replace("split: test", "split: test, answer: exact")
    )
    (folder / "one.yaml").write_text(text)
    return folder / "one.yaml"


def test_a_worker_counts_what_it_is_at(sweep_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every step: rows, texts that are done, tokens of those and of the others, against what the engine yields."""
    ResultsStore.open(tmp_path / "r")
    worker, seen = Worker(tmp_path / "r", 1), list[LiveProgress]()
    ended = list[int]()
    generate = Engine.generate

    class Watch(EngineHook):
        def on_step(self, states: Any) -> None:
            said = worker.progress
            begun = sum(len(state.tokens) for state in states)
            assert (len(ended), sum(ended)) == (said.n_rows_done, said.n_done_tokens)
            assert (begun, begun + sum(ended)) == (said.n_begun_tokens, said.n_made_tokens)
            seen.append(said)

    def watched(self: Engine, requests: Any) -> Any:
        self.hook = Watch()
        for generation in generate(self, requests):
            yield generation
            ended.append(generation.n_new_tokens)
            if len(ended) == 6:
                ended.clear()  # the first shard is whole, and no longer counted

    monkeypatch.setattr(Engine, "generate", watched)
    shards = find_work(load_sweep(sweep_file), None).shards
    settled = list(worker.run(tuple(Ticket(shard, 1) for shard in shards)))
    idle = worker.progress
    worker.close()

    assert (2, 2, 0, 0) == (len(settled), idle.n_settled, idle.n_rows, idle.n_made_tokens)
    assert len(set(seen)) == len(seen) > 20
    assert (12, 6) == (seen[0].n_rows, seen[-1].n_rows)


def test_a_run_says_how_far_it_is_within_a_shard(
    sweep_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others read it from the store while no shard is done, and it goes with the run."""
    monkeypatch.setattr("cluster.inline.ASK_EVERY_S", 0.005)
    monkeypatch.setattr("cluster.run_state.WRITE_EVERY_S", 0.0)
    monkeypatch.setattr("cluster.pace._FEWEST_S", 0.0)
    said, say = list[dict[str, Any]](), Leases.say

    def say_and_look(self: Leases, state: Any) -> None:
        say(self, state)
        said.append(ResultsStore.open(tmp_path / "r", create=False).leases().said_by(self.me.run) or {})

    monkeypatch.setattr(Leases, "say", say_and_look)
    outcome = run_sweep(sweep_file, tmp_path / "r", executor="inline", progress="none")

    early = [one for one in said if not one["n_shards_done"] and one["at_work"]["n_tokens"]]
    assert early
    assert all(12 == one["n_rows"] and one["at_work"]["n_rows"] in (6, 12) for one in early)
    assert all(one["left_s"] is not None for one in early)
    assert [one["n_tokens"] for one in said] == sorted(one["n_tokens"] for one in said)
    assert outcome.complete
    assert not (tmp_path / "r/leases").exists()
