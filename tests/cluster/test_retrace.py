"""One stored text, made again: the same tokens, and a record that is what its ledger says."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cluster.retrace import first_queries, retrace, token_texts
from cluster.run import run_sweep
from designspace.cli import app as cli
from designspace.engine.retention import NEVER_HELD, STILL_HELD, Change, RetentionRecord
from designspace.errors import DeclarationError, ModelError, StoreError, UnknownName
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.query import open_results
from designspace.tasks.task_spec import forget_problems
from tests.cluster.tiny import write_problems, write_replicated

ARMS = "[full, {name: h2o-few, base: h2o, scoring: {kind: h2o, recent: 4}}, {name: sampled, base: random, cadence: every-k}]"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep of three arms and two replicates, and its results."""
    folder = tmp_path_factory.mktemp("retrace")
    sweep = write_replicated(folder, mechanisms=ARMS, replicates=2, rows=3)
    run_sweep(sweep, folder / "results", executor="inline", progress="none")
    return folder


@pytest.mark.parametrize("arm", ["full", "h2o-few", "sampled"])
@pytest.mark.parametrize("replicate", [0, 1])
def test_the_record_holds_as_many_tokens_as_the_ledger_of_the_stored_text(done: Path, arm: str, replicate: int) -> None:
    """Step by step, the mean over layers and heads; and what is left of the prompt at the end."""
    traced = retrace(done / "results", "p4", arm, choice={"replicate": replicate, "budget": "24"})
    rows = open_results(done / "results").to_pandas()
    (row,) = rows[(rows.problem_id == "p4") & (rows.mechanism == arm) & (rows.replicate == replicate)].to_dict(
        "records"
    )
    record = traced.record
    held = [record.held(step) for step in range(1, len(record.newest) + 1)]
    assert [float(one.sum(axis=-1).mean()) for one in held] == pytest.approx(list(row["cache_tokens_per_step"]))
    assert len(traced.tokens) == row["n_prompt_tokens"] + row["n_new_tokens"]
    assert (arm == "full") == (not (record.evicted_at() >= 0).any())
    assert arm != "full" or not traced.lookups


def test_a_look_up_comes_after_the_eviction(done: Path) -> None:
    """By a query that stands after it, with a weight that was asked for."""
    traced = retrace(done / "results", "p4", "sampled", choice={"replicate": 0}, least_weight=0.02)
    evicted = traced.record.evicted_at()
    assert traced.lookups
    for found in traced.lookups:
        assert evicted[found.layer, found.head, found.position] == found.step >= 0
        assert found.by >= max(found.position, traced.record.n_prompt_tokens + found.step - 1)
        assert 0.02 <= found.weight <= 1
    weights = [found.weight for found in traced.lookups]
    assert weights == sorted(weights, reverse=True)


def test_the_first_query_that_lacks_a_token() -> None:
    """A prompt of five tokens: its own queries have all of it, whenever it is cut."""
    evicted = np.array([STILL_HELD, NEVER_HELD, 0, 1, 7], dtype=np.int32)
    assert first_queries(evicted, 5, 20).tolist() == [20, 20, 5, 5, 11]


def test_a_text_that_comes_out_otherwise_has_no_record(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose sums round otherwise."""
    import cluster.retrace as module

    find = module.stored_text

    def other(*arguments: object) -> object:
        row, notes = find(*arguments)  # type: ignore[arg-type]
        return {**row, "token_ids": [*row["token_ids"][:3], 7, *row["token_ids"][4:]]}, notes

    monkeypatch.setattr(module, "stored_text", other)
    with pytest.raises(ModelError, match="the text came out otherwise from token 3 on"):
        retrace(done / "results", "p4", "h2o-few", choice={"replicate": 0})


def test_names_must_mean_one_text(done: Path) -> None:
    """The message says what else to say."""
    results = done / "results"
    with pytest.raises(
        DeclarationError, match="2 texts are of 'full' on problem 'p4', so say which: --replicate 0 or 1"
    ):
        retrace(results, "p4", "full")
    for problem, arm, choice in (
        ("p44", "full", {}),
        ("p4", "ful", {}),
        ("p4", "full", {"budget": "25", "replicate": 3}),
    ):
        with pytest.raises(UnknownName):
            retrace(results, problem, arm, choice=choice)


def test_another_sweep_has_no_such_cell(done: Path, tmp_path: Path) -> None:
    """Other settings make other texts."""
    other = write_replicated(tmp_path, mechanisms=ARMS, replicates=2, rows=3, max_new_tokens=39)
    with pytest.raises(StoreError, match="the sweep has no cell"):
        retrace(done / "results", "p4", "full", choice={"replicate": 0}, sweep=other)


def test_tokens_add_up_to_the_text() -> None:
    """Also where a token is written otherwise by itself."""
    loaded = load_model(ModelSpec.bundled("pocket-llama"))
    ids = loaded.token_ids("keep r1 so s14 thus")
    assert "".join(token_texts(loaded, ids)) == loaded.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)


def test_the_command_writes_a_page_with_everything_in_it(done: Path, tmp_path: Path) -> None:
    """And the changes as a table."""
    page, changes = tmp_path / "map.html", tmp_path / "map.parquet"
    arguments = ["trace", str(done / "results"), "p4", "h2o-few", "full", "--replicate", "1", "--html", str(page)]
    result = CliRunner().invoke(cli.app, [*arguments, "--table", str(changes)])
    assert result.exit_code == 0, result.output
    assert "h2o-few: " in result.output and f"page: {page}" in result.output
    text = page.read_text()
    data = text.split('id="data">')[1].split("</script>")[0]
    assert "http" not in data and "<" not in data
    first, second = json.loads(data)
    record = retrace(done / "results", "p4", "h2o-few", choice={"replicate": 1}).record
    evicted = np.frombuffer(b64decode(first["evicted_at"]), dtype="<i4").reshape(first["shape"])
    assert np.array_equal(evicted, record.evicted_at())
    assert (first["name"], second["name"], second["lookups"]) == ("h2o-few", "full", [])
    table = pq.read_table(changes)
    assert set(table["mechanism"].to_pylist()) == {"h2o-few"} and table.num_rows == len(record.changes)
    again = RetentionRecord(record.stream, record.n_prompt_tokens, record.at_start, record.newest)
    for line in table.to_pylist():
        gone, back = (np.array(line[name], dtype=np.int32) for name in ("gone", "back"))
        again.changes.append(Change(line["step"], line["layer"], line["head"], gone, back))
    assert np.array_equal(again.held(len(record.newest)), record.held(len(record.newest)))


def test_a_study_that_was_extended_has_one_text_of_a_problem(tmp_path: Path) -> None:
    """That of the cell that it has now; the earlier one is there too."""
    sweep = write_replicated(tmp_path, mechanisms=ARMS, replicates=1, rows=3)
    run_sweep(sweep, tmp_path / "results", executor="inline", progress="none")
    write_problems(tmp_path, 8)
    forget_problems()
    run_sweep(sweep, tmp_path / "results", executor="inline", progress="none")
    rows = open_results(tmp_path / "results").to_pandas(["problem_id", "mechanism", "cell_id"])
    assert len(rows[(rows.problem_id == "p4") & (rows.mechanism == "full")]) == 2
    traced = retrace(tmp_path / "results", "p4", "full")
    assert len(traced.record.newest) > 0
