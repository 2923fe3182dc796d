"""Memory before a run: what does not fit is named, and the number of rows that a study began with is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.preflight import PreflightError, check_memory, check_models, check_room, fits_by_far
from cluster.run import run_sweep
from cluster.study_record import with_rows_of
from cluster.work import find_work
from designspace.axes import Budget
from designspace.memory.footprint import ArmMemory
from designspace.memory.probe_cache import ProbeCache
from designspace.models.model_spec import ModelSpec
from designspace.models.skeleton import load_skeleton
from designspace.registry import mechanism
from designspace.store import ResultsStore
from families.decoding.sampling import Sampling
from sweeps.expand import expand
from sweeps.generation_fields import AutoGeneration
from sweeps.spec import Sweep, load_sweep
from sweeps.task_data import task_data
from tests.cluster import tiny


def auto_sweep(folder: Path, memory: str = "2MiB", mechanisms: str = "[streaming-llm]") -> Path:
    """Write a sweep of one model with `rows: auto`."""
    file = tiny.write_replicated(folder, mechanisms=mechanisms, replicates=1, max_new_tokens=200)
    text = file.read_text().replace("budgets: [24]", "budgets: [40]")
    file.write_text(text.replace("rows: 2}", f"rows: auto, memory: {memory}}}"))
    return file


def checked(sweep: Sweep, available: int) -> list[str]:
    """Return what is wrong with the memory."""
    data = {task: task_data(task) for task in sweep.tasks}
    return list(check_memory(expand(sweep, data), data, available))


def test_what_fits_is_not_mentioned(tiny_sweep: Path) -> None:
    """All arms of both models in plenty of memory."""
    assert checked(load_sweep(tiny_sweep), 2**30) == []


def test_what_does_not_fit_is_named_with_what_would(tmp_path: Path) -> None:
    """The largest arm, its bytes, the memory, and a number of rows."""
    sweep = load_sweep(
        tiny.write_replicated(tmp_path, mechanisms="[full, streaming-llm]", rows=512, max_new_tokens=400)
    )
    (problem,) = checked(sweep, 4 * 2**20)
    assert problem.startswith("rows must leave every arm within 4.0 MiB of memory, got rows=512: full on tiny-a takes ")
    assert problem.endswith("rows fit")
    (problem,) = checked(sweep, 2**10)
    assert problem.endswith("not even one row fits")


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows that stand-ins were made for, one entry for each."""
    made: list[int] = []

    def counted(*arguments: Any, rows: int, **rest: Any) -> ProbeCache:
        made.append(rows)
        return ProbeCache(*arguments, rows=rows, **rest)

    for name in ("step", "event", "load"):
        setattr(counted, name, getattr(ProbeCache, name))
    monkeypatch.setattr("designspace.memory.footprint.ProbeCache", counted)
    return made


def test_what_fits_by_far_is_not_tried_out(tmp_path: Path, probes: list[int]) -> None:
    """A whole run of a small design without a stand-in; with less memory the same design is tried, and fits."""
    file = tiny.write_replicated(tmp_path, mechanisms="[full, streaming-llm]", replicates=1)
    assert run_sweep(file, tmp_path / "r", executor="inline", progress="none").complete
    assert probes == []
    assert checked(load_sweep(file), 4 * 2**20) == []
    assert probes != []


@pytest.mark.parametrize("name", ["full", "cam", "expected-attention", "r-kv", "scissorhands", "thought-aware"])
@pytest.mark.parametrize(("n_prompt", "n_new", "rows"), [(36, 16, 1), (250, 64, 16), (1000, 64, 16)])
def test_what_fits_by_far_fits(name: str, n_prompt: int, n_new: int, rows: int) -> None:
    """The systems that take most beside their cache: where trying is left out, it would have found room."""
    pocket = load_skeleton(ModelSpec.bundled("pocket-llama"))
    system = mechanism(name)
    decoding = Sampling() if system.decoding is None else system.decoding.with_default_chooser(Sampling())
    memory = ArmMemory(
        pocket,
        system.override(name, decoding=decoding),
        Budget(48) if system.budget_applies else None,
        max_new_tokens=n_new,
        max_prompt_tokens=n_prompt,
    )
    needed = memory.at(rows).total
    assert not fits_by_far(memory, rows, needed - 1)
    assert fits_by_far(memory, rows, 64 * needed)


def test_a_study_document_has_the_number_and_where_it_is_from(tmp_path: Path) -> None:
    """The memory is there only where the number follows from it."""
    outcome = run_sweep(auto_sweep(tmp_path), tmp_path / "r", executor="inline", progress="none")
    assert outcome.complete
    (document,) = ResultsStore.open(tmp_path / "r").studies()["tiny"]
    cells = ResultsStore.open(tmp_path / "r").cells().values()
    assert {cell["generation"]["rows"] for cell in cells} == {document["generation"]["rows"]}
    assert document["generation"]["memory"] == 2 * 2**20
    written = tmp_path / "written.yaml"
    written.write_text(
        (tmp_path / "tiny.yaml").read_text().replace("auto, memory: 2MiB", str(document["generation"]["rows"]))
    )
    assert run_sweep(written, tmp_path / "r", executor="inline", progress="none").n_done == 0
    documents = ResultsStore.open(tmp_path / "r").studies()["tiny"]
    assert sorted("memory" in found["generation"] for found in documents) == [False, True]


def test_results_keep_their_number(tmp_path: Path) -> None:
    """An arm that is added later does not make every cell another one."""
    run_sweep(auto_sweep(tmp_path), tmp_path / "r", executor="inline", progress="none")
    store = ResultsStore.open(tmp_path / "r")
    before = store.studies()["tiny"][0]["generation"]["rows"]
    grown = load_sweep(auto_sweep(tmp_path, mechanisms="[streaming-llm, full]"))
    fresh, kept = find_work(grown, store), find_work(with_rows_of(grown, store), store)
    assert fresh.cells[0].generation.rows < before
    assert {cell.generation.rows for cell in kept.cells} == {before}
    assert len(fresh.pending) == len(fresh.shards)
    assert {shard.cell.mechanism.name for shard in kept.pending} == {"full"}


def test_another_memory_is_another_number(tmp_path: Path) -> None:
    """What results have counts for the memory that they are from; without results nothing is kept."""
    run_sweep(auto_sweep(tmp_path), tmp_path / "r", executor="inline", progress="none")
    store = ResultsStore.open(tmp_path / "r")
    sweep = load_sweep(auto_sweep(tmp_path))
    assert isinstance(sweep.generation, AutoGeneration)
    other = replace(sweep, generation=sweep.generation.model_copy(update={"memory": 2**20}))
    assert with_rows_of(other, store).rows_before is None
    assert with_rows_of(sweep, None) is sweep
    assert with_rows_of(sweep, store).rows_before is not None


def test_a_budget_without_room_for_a_protected_prompt_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """By a plan and by a run, with the longest prompt of the task; the arm that lets it go is no reason."""
    kept = "[{name: kept, base: random, protect: prompt}, random]"
    file = tiny.write_replicated(tmp_path, mechanisms=kept, replicates=1)
    roomy, tight = (file.read_text().replace("budgets: [24]", f"budgets: [{n}]") for n in (48, 14))
    file.write_text(roomy)
    check_room(load_sweep(file))
    file.write_text(tight)
    with pytest.raises(PreflightError) as caught:
        check_room(load_sweep(file))
    (line,) = caught.value.problems
    assert "mechanism 'kept' at budget 14: protect: prompt needs an after-event size above the longest prompt" in line
    with pytest.raises(PreflightError, match="tokens too few"):
        run_sweep(file, tmp_path / "r", executor="inline", progress="none")
    assert not list((tmp_path / "r").rglob("*.parquet"))


def test_sentences_that_a_tokenizer_cannot_tell_are_refused_before_anything_runs(tmp_path: Path) -> None:
    """With the mechanism, the model and the text that it lacks; and compiled steps, which show no hidden states."""
    file = tiny.write_replicated(tmp_path, mechanisms="[skip-kv, random]", replicates=1)
    found = list(check_models(expand(load_sweep(file))))
    assert len(found) == 1
    assert found[0].startswith("mechanism 'skip-kv' on model 'tiny-a': where sentences end: ")
    assert found[0].endswith(r"the model's tokenizer has no tokens for '\n'")
    file.write_text(file.read_text().replace("rows: 2}", "rows: 2, step: compiled}"))
    assert "mechanism 'skip-kv' has sentences, which read what generation step 'compiled'" in "\n".join(
        check_models(expand(load_sweep(file)))
    )
