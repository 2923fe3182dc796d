"""The worker: rows, grades, resume, refusal of what is not the declared cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.shard_queue import ShardSummary, Ticket
from cluster.work import Work, find_work
from cluster.worker import Worker
from designspace.errors import DeclarationError, InvariantViolation, ModelError
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.store import ResultsStore
from designspace.tasks.grading import MathGrader
from sweeps.generation_fields import GenerationSpec
from sweeps.shards import Shard, engine_key
from sweeps.spec import load_sweep


@pytest.fixture
def work(tiny_sweep: Path) -> Work:
    """All shards of the tiny sweep."""
    return find_work(load_sweep(tiny_sweep), None)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """A worker on an empty store."""
    ResultsStore.open(tmp_path / "r")
    made = Worker(tmp_path / "r", 1, study="tiny")
    yield made
    made.close()


def run_one(worker: Worker, shard: Shard, attempt: int = 1) -> ShardSummary:
    """Run a shard by itself."""
    ((_, result),) = worker.run((Ticket(shard, attempt),))
    assert isinstance(result, ShardSummary), result
    return result


def test_a_shard_becomes_graded_rows_in_task_order(worker: Worker, work: Work) -> None:
    """Rows carry labels, ids, the whole text and both readings."""
    shard = work.shards[1]
    summary = run_one(worker, shard, attempt=3)
    rows = worker.store.samples().to_table().to_pylist()
    assert list(shard.problem_ids) == [row["problem_id"] for row in rows]
    assert (2, True) == (summary.n_rows, summary.generated)
    assert summary.n_new_tokens == sum(row["n_new_tokens"] for row in rows)
    row = rows[0]
    expected = {"study": "tiny", "model": "tiny-a", "task": "gsm8k", "split": "test", "mechanism": "full", "attempt": 3}
    assert expected == {name: row[name] for name in expected}
    assert ("none", None, MathGrader().grader_id) == (row["budget"], row["budget_tokens"], row["grader_id"])
    assert "1 thread" in row["worker"]
    assert row["prompt"].endswith("add 2 and 3")
    assert "5" == row["answer"]


def test_a_model_runs_where_it_is_declared_to(worker: Worker, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` on the worker's device, else on its own, which rows name; a device that is not here is one clear error."""
    asked: list[str] = []

    def loaded_on(spec: ModelSpec, device: str) -> LoadedModel:
        asked.append(device)
        return load_model(spec, "cpu")

    monkeypatch.setattr("cluster.worker.load_model", loaded_on)
    shard = work.shards[1]
    worker.device = "cuda"
    run_one(worker, shard)
    own = replace(shard, cell=replace(shard.cell, model=replace(shard.cell.model, device="cuda:1")))
    worker._engine = None
    assert shard.cell.cell_id == own.cell.cell_id
    worker._load(own.cell)

    assert asked == ["cuda", "cuda:1"]
    assert ", cuda:1, 1 thread" in worker.name
    with pytest.raises(ModelError, match=r"cannot run on device 'cuda:77': torch finds [0-9]+ CUDA devices"):
        load_model(shard.cell.model, "cuda:77")
    with pytest.raises(ModelError, match="a device is cpu, cuda or cuda:N, got 'gpu'"):
        load_model(shard.cell.model, "gpu")


def test_a_stored_shard_is_only_graded(worker: Worker, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grades that are missing do not cost another generation, and none are made twice."""
    shard = work.shards[0]
    monkeypatch.setattr(MathGrader, "version", 99)
    first = run_one(worker, shard)
    monkeypatch.undo()
    assert not worker.store.grades_committed(MathGrader().grader_id, shard.cell.cell_id, shard.shard_id)
    second = run_one(worker, shard)
    assert (True, False) == (first.generated, second.generated)
    assert worker.store.grades_committed(MathGrader().grader_id, shard.cell.cell_id, shard.shard_id)
    assert (first.n_rows, first.n_new_tokens) == (second.n_rows, second.n_new_tokens)


def test_the_cut_into_shards_changes_no_row(worker: Worker, work: Work, tmp_path: Path) -> None:
    """Capacity and random numbers depend on the cell, so a problem gives the same text in any block."""
    cell_shards = [shard for shard in work.shards if shard.cell == work.shards[-1].cell]
    for shard in cell_shards:
        run_one(worker, shard)
    whole = tuple(name for shard in cell_shards for name in shard.problem_ids)
    other = Worker(ResultsStore.open(tmp_path / "other").root, 1)
    run_one(other, replace(cell_shards[0], problem_ids=whole))
    other.close()
    texts = [
        {row["problem_id"]: row["text"] for row in store.samples(["problem_id", "text"]).to_table().to_pylist()}
        for store in (worker.store, other.store)
    ]
    assert texts[0] == texts[1]
    assert 6 == len(texts[0])


def test_a_text_is_stored_up_to_its_stop_string(worker: Worker, work: Work, tiny_sweep: Path, tmp_path: Path) -> None:
    """Text, tokens and reason are those of the same text without the stop string, up to there."""
    shards = [shard for shard in work.shards if shard.cell == work.shards[-1].cell]
    declared = tiny_sweep.read_text().replace("rows: 2", 'rows: 2, stop: ["so", "5 "]')
    file = tiny_sweep.with_name("stopped.yaml")
    file.write_text(declared)
    stopped = [s for s in find_work(load_sweep(file), None).shards if s.cell.label() == shards[0].cell.label()]
    other = Worker(ResultsStore.open(tmp_path / "other").root, 1)
    for mine, its in zip(shards, stopped, strict=True):
        run_one(worker, mine)
        run_one(other, its)
    whole, found = (
        {row["problem_id"]: row for row in store.samples().to_table().to_pylist()}
        for store in (worker.store, other.store)
    )
    other.close()

    cuts = {name: [at for stop in ("so", "5 ") if (at := row["text"].find(stop)) >= 0] for name, row in whole.items()}
    assert 2 <= sum(map(bool, cuts.values()))
    for name, row in found.items():
        assert whole[name]["token_ids"][: row["n_new_tokens"]] == row["token_ids"]
        assert whole[name]["text"][: min(cuts[name], default=None)] == row["text"]
        if cuts[name]:
            assert "stop" == row["finish_reason"]


def test_another_model_than_the_declared_one_is_refused(worker: Worker, work: Work) -> None:
    """Rows must not be stored under an identity that is not what ran."""
    shard = work.shards[0]
    identity = {**shard.cell.identity, "model": {**shard.cell.identity["model"], "content": "0" * 64}}
    with pytest.raises(ModelError, match="the model on this machine is not the one"):
        run_one(worker, replace(shard, cell=replace(shard.cell, identity=identity)))
    assert [] == worker.store.shards()


def test_an_engine_is_shared_across_seeds_alone(work: Work) -> None:
    """Everything else of an identity tells engines apart."""
    cell = work.shards[0].cell
    changed = {name: replace(cell, identity={**cell.identity, name: "other"}) for name in cell.identity}
    assert {"replicate", "root_seed"} == {name for name in changed if engine_key(changed[name]) == engine_key(cell)}


def test_shards_that_need_two_engines_are_refused(worker: Worker, work: Work) -> None:
    """Rows of one mechanism must not be stored under another."""
    arms = {shard.cell.mechanism.name: shard for shard in work.shards if shard.cell.model.name == "tiny-a"}
    bundle = (Ticket(arms["random"], 1), Ticket(arms["streaming-llm"], 1))
    with pytest.raises(InvariantViolation, match="must share an engine"):
        list(worker.run(bundle))
    assert [] == worker.store.shards()


@pytest.mark.parametrize(
    ("caps", "expected"),
    [({"max_new_tokens": 9}, 9), ({"max_total_tokens": 30}, 10), ({"max_new_tokens": 9, "max_total_tokens": 25}, 5)],
)
def test_the_cap_counts_from_the_prompt(caps: dict[str, int], expected: int) -> None:
    """The smaller of both caps, prompt and text together."""
    assert expected == GenerationSpec(temperature=0.0, rows=2, **caps).new_token_cap(n_prompt_tokens=20)


def test_a_prompt_that_leaves_no_room_is_an_error() -> None:
    """Rather than a generation of nothing."""
    with pytest.raises(DeclarationError, match="max_total_tokens=20, longest prompt=20"):
        GenerationSpec(temperature=0.0, rows=2, max_total_tokens=20).new_token_cap(n_prompt_tokens=20)
