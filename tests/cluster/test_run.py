"""Running sweeps: resume, limits, outcomes, and errors before any work."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cluster.preflight import PreflightError
from cluster.ray_executor import RayExecutor
from cluster.run import RunOutcome, run_sweep
from cluster.shard_queue import Ticket
from cluster.work import find_work
from cluster.worker import Worker
from designspace import mechanism, open_results
from designspace.errors import DeclarationError, StoreError
from designspace.models.model_spec import ModelSpec
from designspace.store import ResultsStore
from designspace.tasks.task_spec import forget_problems
from sweeps.spec import load_sweep

VARYING = ["wall_s", "shard_wall_s", "started_at", "worker", "attempt"]  # time and place of a row


def stable_table(results: Path) -> pd.DataFrame:
    """Return all rows without what may differ between two runs, in one order."""
    rows = open_results(results).to_pandas().drop(columns=VARYING)
    rows["cache_tokens_per_step"] = rows["cache_tokens_per_step"].map(tuple)
    return rows.sort_values(["cell_id", "problem_id"]).reset_index(drop=True)


def inline(sweep: Path, results: Path, **options: object) -> RunOutcome:
    """Run inline and quietly."""
    return run_sweep(sweep, results, executor="inline", progress="none", **options)  # type: ignore[arg-type]


def test_a_limited_run_is_resumed_and_a_finished_one_is_not_repeated(tiny_sweep: Path, tmp_path: Path) -> None:
    """The store says what is done; every shard is run once."""
    first = inline(tiny_sweep, tmp_path / "r", limit=30)
    assert (36, 0, 30, 6, False) == (first.n_shards, first.n_cached, first.n_done, first.n_left, first.complete)
    second = inline(tiny_sweep, tmp_path / "r")
    assert (30, 6, True) == (second.n_cached, second.n_done, second.complete)
    third = inline(tiny_sweep, tmp_path / "r")
    assert (36, 0, 0) == (third.n_cached, third.n_done, third.n_new_tokens)
    table = stable_table(tmp_path / "r")
    assert 72 == len(table) == len(table.drop_duplicates(["cell_id", "problem_id"]))
    assert ["tiny"] == list(open_results(tmp_path / "r").studies())
    assert 1 == len(open_results(tmp_path / "r").studies()["tiny"])


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_both_executors_make_the_same_rows(tiny_sweep: Path, tmp_path: Path) -> None:
    """Same thread count, same numbers: the executor is no part of a result."""
    inline(tiny_sweep, tmp_path / "inline")
    outcome = run_sweep(tiny_sweep, tmp_path / "ray", workers=2, progress="none")
    assert outcome.complete
    pd.testing.assert_frame_equal(stable_table(tmp_path / "inline"), stable_table(tmp_path / "ray"))


def test_only_some_cells(tiny_sweep: Path, tmp_path: Path) -> None:
    """A predicate picks them."""
    outcome = inline(
        tiny_sweep, tmp_path / "r", only=lambda c: c.mechanism.name == "random" and c.model.name == "tiny-b"
    )
    assert (6, 6) == (outcome.n_shards, outcome.n_done)
    assert {"random"} == set(open_results(tmp_path / "r").to_pandas()["mechanism"])


def test_a_failing_shard_is_recorded_and_the_next_run_tries_again(
    tiny_sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quarantine holds for one run; attempts are numbered on."""
    generate = Worker._generate

    def fail_once_in_a_while(self: Worker, engine: Any, tickets: Sequence[Ticket]) -> Iterator[Any]:
        if any(t.shard.index == 0 and t.shard.cell.mechanism.name == "random" for t in tickets):
            raise ArithmeticError("no luck")
        return generate(self, engine, tickets)

    monkeypatch.setattr(Worker, "_generate", fail_once_in_a_while)
    first = inline(tiny_sweep, tmp_path / "r")
    assert (32, 4, False) == (first.n_done, len(first.quarantined), first.complete)
    assert ("ArithmeticError", "no luck") == (first.quarantined[0].error, first.quarantined[0].message)
    failures = open_results(tmp_path / "r").failures()
    assert [1, 2] * 4 == [failure.attempt for failure in sorted(failures, key=lambda f: (f.cell_id, f.attempt))]
    monkeypatch.undo()
    second = inline(tiny_sweep, tmp_path / "r")
    assert (4, True) == (second.n_done, second.complete)
    assert {1, 3} == set(open_results(tmp_path / "r").to_pandas()["attempt"])


def test_everything_that_is_missing_is_said_before_any_work(tiny_sweep: Path, tmp_path: Path) -> None:
    """Gold answers with their line, then every calibration: one error, nothing started, no folder made."""
    task = tmp_path / "bad.jsonl"
    task.write_text(json.dumps({"id": "p0", "problem": "add", "answer": "\\boxed{"}) + "\n")
    text = tiny_sweep.read_text().replace("random", "random, triattention")
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(text.replace(str(tiny_sweep.parent / "problems.jsonl"), str(task)))
    with pytest.raises(DeclarationError) as caught:
        inline(sweep, tmp_path / "r")
    assert "task 'gsm8k' split 'test'" in str(caught.value)
    assert "bad.jsonl:1: the gold answer cannot be read as mathematics" in str(caught.value)
    task.write_text(json.dumps({"id": "p0", "problem": "add", "answer": "3"}) + "\n")
    forget_problems()
    with pytest.raises(DeclarationError) as caught:
        inline(sweep, tmp_path / "r")
    message = str(caught.value)
    assert re.search(r"designspace calibrate tiny-a q-stats --sweep \S*tiny\.yaml", message)
    assert re.search(r"designspace calibrate tiny-b q-stats --sweep \S*tiny\.yaml", message)
    assert not (tmp_path / "r").exists()


def test_missing_task_data_is_an_error(tiny_sweep: Path, tmp_path: Path) -> None:
    """It names the file."""
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(tiny_sweep.read_text().replace("problems.jsonl", "nowhere.jsonl"))
    with pytest.raises(DeclarationError, match=r"nowhere\.jsonl"):
        inline(sweep, tmp_path / "r")


def test_a_representation_that_does_not_fit_is_refused_before_weights_are_read(tiny_sweep: Path) -> None:
    """KIVI's groups do not divide heads of 8 channels; a declaration made in Python is checked like a file."""
    sweep = load_sweep(tiny_sweep)
    kivi = replace(mechanism("kivi"), decoding=sweep.mechanisms[0].decoding)
    with pytest.raises(PreflightError, match="mechanism 'kivi' on model 'tiny-a': kivi group must divide"):
        find_work(replace(sweep, mechanisms=(kivi,)), None)


def test_a_hub_model_that_cannot_be_had_is_said_before_any_work(
    tiny_sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its configuration is asked for."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    sweep = load_sweep(tiny_sweep)
    model = ModelSpec("far", hub="nobody/nothing", revision="0" * 40)
    with pytest.raises(PreflightError, match="model 'far': cannot get nobody/nothing at 0000"):
        find_work(replace(sweep, models=(model,)), None)


def test_a_folder_of_something_else_is_not_touched(tiny_sweep: Path, tmp_path: Path) -> None:
    """Results never go among other files."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError):
        inline(tiny_sweep, tmp_path)
    assert ["notes.txt"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 2}, {"address": "auto"}, {"executor": "dask"}])
def test_options_that_cannot_be_followed_are_refused(
    tiny_sweep: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    """Nothing is ignored in silence."""
    with pytest.raises(ValueError, match=r"workers|executor"):
        run_sweep(tiny_sweep, tmp_path / "r", progress="none", **{"executor": "inline", **options})  # type: ignore[arg-type]


def test_a_store_is_opened_by_workers_not_made(tmp_path: Path) -> None:
    """A worker on another machine that does not see the shared folder must not start a private one."""
    with pytest.raises(StoreError):
        Worker(tmp_path / "nowhere", 1)
    assert RayExecutor().workers is None
    ResultsStore.open(tmp_path / "r")
    Worker(tmp_path / "r", 1).close()
