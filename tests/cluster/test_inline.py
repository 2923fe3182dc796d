"""The inline executor passes the suite, in this process, and takes as many threads as a model can use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.cores import SMALL_WEIGHTS_BYTES
from cluster.inline import InlineExecutor
from cluster.run import run_sweep
from designspace.engine import Engine
from designspace.models.model_spec import ModelSpec
from designspace.store import ResultsStore
from tests.cluster import tiny
from tests.cluster.executor_suite import ExecutorSuite, FakeCell, FakeShard, drain, shards

N_THREADS = 2


class TestInline(ExecutorSuite):
    """The suite."""

    def make(self) -> InlineExecutor:
        """One thread, so that nothing of the test process changes."""
        return InlineExecutor(threads=1)


def test_it_stays_in_this_process(tmp_path: Path) -> None:
    """That is what it is for."""
    drain(InlineExecutor(threads=1), shards("ok"), tmp_path)
    assert str(os.getpid()) == (tmp_path / "ok#0").read_text().split()[0]


@pytest.fixture
def many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which torch takes more than one thread, of which nobody has said anything."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("cluster.cores.usable_cores", lambda: N_THREADS)
    torch.set_num_threads(N_THREADS)


def model_of(folder: Path, n_bytes: int) -> ModelSpec:
    """Write a file of weights of a size, in two parts, and return the model."""
    folder.mkdir()
    for part in range(2):
        with (folder / f"model-{part}.safetensors").open("wb") as file:
            file.truncate(n_bytes // 2)  # holes: nothing is written
    return ModelSpec(folder.name, path=str(folder))


def test_the_threads_are_those_that_the_model_can_use(
    tmp_path: Path, many_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for a small model; torch's number for a large one, and for one whose size is not known before it is there."""
    small, large = model_of(tmp_path / "s", SMALL_WEIGHTS_BYTES - 2), model_of(tmp_path / "l", SMALL_WEIGHTS_BYTES)
    remote = ModelSpec("remote", hub="org/model", revision="0" * 40)

    assert [InlineExecutor().threads_for(model) for model in (small, large, remote)] == [1, N_THREADS, N_THREADS]
    assert [InlineExecutor(threads=3).threads_for(model) for model in (small, large)] == [3, 3]
    monkeypatch.setenv("OMP_NUM_THREADS", str(N_THREADS))
    assert InlineExecutor().threads_for(small) == N_THREADS
    monkeypatch.setattr("cluster.cores.usable_cores", lambda: 1)
    assert InlineExecutor().threads_for(large) == 1


def test_every_model_of_a_run_has_its_own_number(tmp_path: Path, many_threads: None) -> None:
    """Whatever order they come in: the number of the worker before does not leak into the next."""
    models = [
        model_of(tmp_path / "s", 100),
        model_of(tmp_path / "l", SMALL_WEIGHTS_BYTES),
        model_of(tmp_path / "t", 100),
    ]
    work = [FakeShard(f"ok#{model.name}{n}", FakeCell(model)) for model in models for n in range(2)]
    (tmp_path / "log").mkdir()
    events = drain(InlineExecutor(), work, tmp_path / "log")

    used = {e.ticket.shard.cell.model.name: e.summary.worker for e in events if e.summary is not None}
    assert used == {"s": "1 cpu", "l": f"{N_THREADS} cpu", "t": "1 cpu"}


def test_rows_tell_the_number_that_was_used(
    tmp_path: Path, many_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread while a small model runs, one in every row, and the caller's number again afterwards."""
    seen, generate = [], Engine.generate

    def noted(engine: Engine, requests: Any) -> Any:
        seen.append(torch.get_num_threads())
        return generate(engine, requests)

    monkeypatch.setattr(Engine, "generate", noted)
    outcome = run_sweep(tiny.write_replicated(tmp_path), tmp_path / "r", executor="inline", progress="none")

    assert outcome.complete
    assert set(seen) == {1}
    workers = set(ResultsStore.open(tmp_path / "r").to_pandas(["worker"])["worker"])
    assert {worker.rpartition(", ")[2] for worker in workers} == {"1 thread"}
    assert torch.get_num_threads() == N_THREADS
