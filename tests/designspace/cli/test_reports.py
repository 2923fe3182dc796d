"""A report is of one study as it stands now: no cells of another one or of an earlier declaration, and no silence on gaps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from designspace import open_results
from designspace.cli import app as cli
from designspace.store import ResultsStore
from designspace.tasks.task_spec import forget_problems
from tests.cluster import tiny

INLINE = ("--executor", "inline", "--progress", "none")
TWO_ARMS = "[full, {name: lm, base: streaming-llm}]"


def call(*arguments: object, code: int = 0) -> Result:
    """Run the command and check its exit code."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert code == result.exit_code, result.output
    return result


def data(*arguments: object) -> Any:
    """Run the command with --json and parse what it prints."""
    return json.loads(call(*arguments, "--json").stdout)


def run(sweep: Path, results: Path, *options: object, code: int = 0) -> Result:
    """Run a sweep inline, as in a new process that reads the task files; a report takes an option."""
    forget_problems()
    report = () if "--report" in options else ("--no-report",)
    return call("run", sweep, "--results", results, *INLINE, *options, *report, code=code)


def write(
    folder: Path, n_problems: int = 4, *, study: str = "tiny", mechanisms: str = TWO_ARMS, **numbers: int
) -> Path:
    """Write a small sweep under a study's name; the model stays as it is."""
    text = {"replicates": 1, "max_new_tokens": 24, **numbers}
    path = tiny.write_replicated(folder, mechanisms=mechanisms, n_problems=n_problems, **text)
    path.write_text(path.read_text().replace("study: tiny", f"study: {study}"))
    return path


def arms(document: Any) -> dict[str, Any]:
    """Return the arms of a report by name, without speed."""
    return {arm["mechanism"]: {**arm, "tokens_per_s": None} for arm in document["arms"]}


def table_of(output: str) -> list[str]:
    """Return the lines of the tables, without the speed column."""
    lines = [line.rstrip() for line in output.splitlines()]
    return [" ".join(line.split()[:-1]) for line in lines if line.strip().startswith(("full ", "lm ", "twin "))]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder that is not there yet."""
    return tmp_path / "results"


def test_an_extended_study_is_reported_on_its_new_problems_alone(tmp_path: Path, results: Path) -> None:
    """Four problems, then six, in one folder: the report is that of six in a fresh folder, and `run` prints the same."""
    run(write(tmp_path / "s", 4), results)
    printed = run(write(tmp_path / "s", 6), results, "--report").stdout
    run(tmp_path / "s/tiny.yaml", tmp_path / "fresh")
    found, alone = data("report", results), data("report", tmp_path / "fresh")

    assert arms(found) == arms(alone)
    assert {arm["n_generations"] for arm in found["arms"]} == {6}
    assert table_of(printed) == table_of(call("report", results).stdout) != []
    assert [(cells["mechanism"], cells["n_cells"], cells["n_texts"]) for cells in found["others"]] == [
        ("full", 1, 4),
        ("lm", 1, 4),
    ]
    assert "also holds 2 cells with 8 texts" in found["notes"][-1]
    assert "full on tiny-a, gsm8k/test (study tiny): 1 cell, 4 texts" in found["notes"][-1]


def test_a_study_that_went_back_is_reported_as_it_stands(tmp_path: Path, results: Path) -> None:
    """Six problems, then four again: nothing is run anew, and four it is."""
    for n_problems in (4, 6, 4):
        done = run(write(tmp_path / "s", n_problems), results)
    assert "0 shards done, 4 done before" in done.stdout
    assert {arm["n_generations"] for arm in data("report", results)["arms"]} == {4}
    assert 2 == len(data("status", results)["studies"][0]["cells"])

    run(tmp_path / "s/tiny.yaml", results)
    assert 3 == len(open_results(results).studies()["tiny"])  # resuming declares nothing anew


def test_two_studies_in_a_folder_have_to_be_told_apart(tmp_path: Path, results: Path) -> None:
    """One line with the names and exit code 2; each by itself is as in a folder of its own."""
    first, second = write(tmp_path / "a", 4, study="first"), write(tmp_path / "b", 6, study="second")
    for sweep in (first, second):
        run(sweep, results)
        run(sweep, tmp_path / sweep.parent.name / "alone")
    asked = call("report", results, code=2)

    assert asked.stdout == ""
    assert len(asked.stderr.splitlines()) == 1
    assert "holds 2 studies, so say which one with --study: first, second" in asked.stderr
    for study, sweep in (("first", first), ("second", second)):
        found = data("report", results, "--study", study)
        assert arms(found) == arms(data("report", sweep.parent / "alone"))
        assert arms(found) == arms(data("report", results, "--sweep", sweep))
        assert found["studies"] == [study]
        assert {cells["study"] for cells in found["others"]} == {"first", "second"} - {study}
    assert "did you mean 'second'?" in call("report", results, "--study", "secnod", code=2).stderr
    assert "give one of them" in call("report", results, "--study", "first", "--sweep", first, code=2).stderr
    assert ["second"] == [entry["study"] for entry in data("status", results, "--study", "second")["studies"]]


def test_one_label_of_two_configurations_is_never_one_arm(tmp_path: Path, results: Path) -> None:
    """As the trials of a tuning are: the same name with another parameter, each study on its own."""
    for number, recent in enumerate((4, 12)):
        one = f"[{{name: arm, base: streaming-llm, scoring: {{kind: streaming-llm, recent: {recent}}}}}]"
        run(write(tmp_path / str(number), 4, study=f"x-trial-{number}", mechanisms=one), results)
    found = [data("report", results, "--study", f"x-trial-{number}") for number in (0, 1)]

    assert [[arm["n_generations"] for arm in one["arms"]] for one in found] == [[4], [4]]
    assert [one["arms"][0]["mechanism"] for one in found] == ["arm", "arm"]


def test_an_unfinished_study_says_so_first(tmp_path: Path, results: Path) -> None:
    """Shards, arms and problems; arms are compared on the problems that both have, and how many these are."""
    sweep = write(tmp_path / "s", 6)
    printed = " ".join(run(sweep, results, "--limit", 4, "--report").stdout.split())
    found = data("report", results)

    assert printed.startswith("! This study is not finished: 4 of 6 shards are done, and 2 of 2 arms have texts.")
    assert "Only 2 of 6 problems: lm at budget 24." in printed
    assert found["progress"] == {
        "complete": False, "n_shards_done": 4, "n_shards": 6, "n_arms_with_texts": 2, "n_arms": 2, "n_texts_done": 8,
        "n_texts": 12,
    }  # fmt: skip
    assert found["notes"][0].startswith("This study is not finished")
    assert [arm["n_problems"] for arm in found["arms"]] == [2, 2]
    assert "compared on the 2 problems that all of them have. 4 more" in "".join(found["notes"])
    assert "gsm8k/test · 2 problems" in printed
    page = (results / "report.html").read_text()
    assert page.index("Not finished") < page.index("Before you compare") < page.index("id=figures")

    run(sweep, results)
    whole = data("report", results)
    assert whole["progress"]["complete"]
    assert not any("not finished" in note or "compared on the" in note for note in whole["notes"])
    assert [arm["n_problems"] for arm in whole["arms"]] == [6, 6]


def test_an_arm_without_a_text_is_named(tmp_path: Path, results: Path) -> None:
    """It would be missing from the table without a word."""
    run(write(tmp_path / "s", 4), results, "--limit", 1)
    assert "No text yet: lm at budget 24." in data("report", results)["notes"]


def test_replicates_that_are_missing_are_counted_in_texts(tmp_path: Path, results: Path) -> None:
    """All problems are there, once of twice."""
    run(write(tmp_path / "s", 4, mechanisms="[full]", replicates=2), results, "--limit", 2)
    notes = data("report", results)["notes"]
    assert any("of 4 problems (4 of 8 texts): full." in note for note in notes), notes


def test_a_report_of_a_sweep_file_is_of_the_file_as_it_stands(tmp_path: Path, results: Path) -> None:
    """An arm that was renamed, one that was dropped, and one that was never run."""
    run(write(tmp_path / "s", 4), results)
    again = write(tmp_path / "s", 4, mechanisms="[{name: window, base: streaming-llm}, random]")
    found = data("report", results, "--sweep", again)

    assert list(arms(found)) == ["window"]
    assert "No text yet: random at budget 24." in found["notes"]
    assert [cells["mechanism"] for cells in found["others"]] == ["full"]
    assert {"full", "lm"} == set(arms(data("report", results)))  # declared last when it was run


def test_export_takes_one_study_under_its_labels(tmp_path: Path, results: Path) -> None:
    """All rows by default; of a study those of its cells as they are called now."""
    run(write(tmp_path / "s", 4), results)
    run(write(tmp_path / "s", 6, mechanisms="[{name: window, base: streaming-llm}]"), results)
    out = tmp_path / "rows.parquet"
    call("export", results, "--out", out)
    assert 4 + 4 + 6 == len(pd.read_parquet(out))
    call("export", results, "--out", out, "--study", "tiny", "--overwrite")
    rows = pd.read_parquet(out)
    assert (6, {"window"}) == (len(rows), set(rows["mechanism"]))
    call("export", results, "--out", tmp_path / "c.jsonl", "--completions", "--study", "tiny")
    assert 6 == len((tmp_path / "c.jsonl").read_text().splitlines())
    assert (
        "unknown study 'nope'" in call("export", results, "--out", tmp_path / "n.csv", "--study", "nope", code=2).stderr
    )


def test_identical_texts_are_said_to_be(tmp_path: Path, results: Path) -> None:
    """A window of the newest tokens is one ranking, so Ada-KV changes nothing: in the plan, in the run, in the report."""
    routed = "{name: twin, base: streaming-llm, head_routing: ada-kv}"
    sweep = write(tmp_path / "s", 4, mechanisms=f"[full, {{name: lm, base: streaming-llm}}, {routed}, random]")
    done = run(sweep, results, "--report")
    found = arms(data("report", results))
    page = (results / "report.html").read_text()

    assert "note: mechanism twin: head routing 'ada-kv' has no effect" in call("plan", sweep).stdout
    assert "mechanism twin: head routing 'ada-kv' has no effect" not in done.stderr  # --progress none says nothing
    assert (found["lm"]["identical_to"], found["twin"]["identical_to"]) == ("twin", "lm")
    assert (found["full"]["identical_to"], found["random"]["identical_to"]) == (None, None)
    assert "Identical texts to twin: all 4 are equal" in "".join(data("report", results)["notes"])
    assert "yes, identical texts to lm" in page


def other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the code be another one."""
    for module in ("worker", "study_record"):
        monkeypatch.setattr(f"cluster.{module}.code_id", lambda: "0.1.0+edited")


def test_code_that_changed_in_the_middle_is_said(
    tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the sweep goes on, in status, in the notes of the table and on the page; --strict refuses."""
    sweep = write(tmp_path / "s", 6)
    run(sweep, results, "--limit", 4)
    assert "states of the code" not in call("status", results).stdout
    other_code(monkeypatch)
    refused = run(sweep, results, "--strict", code=2)
    assert "was made by another state of the code" in refused.stderr
    assert "this is 0.1.0+edited. Nothing was run" in refused.stderr
    assert 4 == data("status", results)["studies"][0]["n_committed"]

    forget_problems()
    done = call("run", sweep, "--results", results, "--executor", "inline", "--progress", "plain", "--no-report")
    assert "note: what is there of this sweep was made by another state of the code" in done.stderr
    assert "made by 2 states of the code: 0.1.0+" in call("status", results).stdout
    (note,) = [note for note in data("report", results)["notes"] if "states of the code" in note]
    assert "0.1.0+edited (tiny-a, gsm8k/test, budget 24, lm)" in note
    assert "Within one arm: tiny-a, gsm8k/test, budget 24, lm." in note
    call("report", results, "--html", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("0.1.0+edited") >= 2

    assert "another state" not in run(sweep, results, "--strict").stderr  # nothing left to go on with


def test_arms_made_by_different_code_are_said_to_be(
    tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each arm is of one state, and the two are not the same."""
    run(write(tmp_path / "s", 4, mechanisms="[full]"), results)
    other_code(monkeypatch)
    run(write(tmp_path / "s", 4), results)
    (note,) = [note for note in data("report", results)["notes"] if "states of the code" in note]

    assert "Within one arm" not in note
    assert set(data("status", results)["studies"][0]["code_states"].values()) == {4}


def test_a_store_without_a_declaration_shows_every_cell(tmp_path: Path, results: Path) -> None:
    """As one that a program of one's own has written: nothing is pooled there either."""
    run(write(tmp_path / "s", 4), results)
    run(write(tmp_path / "s", 6), results)
    for file in (results / "studies").rglob("*.json"):
        file.unlink()
    found = data("report", results)

    assert sorted(arm["n_generations"] for arm in found["arms"]) == [4, 4, 4, 4]  # six problems cut to the common four
    assert len({arm["mechanism"] for arm in found["arms"]}) == 4
    assert any("stands for 2 different configurations" in note for note in found["notes"])
    assert found["progress"] is None


def test_documents_of_an_earlier_version_are_told_apart_by_their_rows(tmp_path: Path, results: Path) -> None:
    """They have no revision: the one whose rows are newest stands."""
    run(write(tmp_path / "s", 6), results)
    run(write(tmp_path / "s", 4), results)
    store = ResultsStore.open(results)
    documents = store.studies()["tiny"]
    for file in (results / "studies").rglob("*.json"):
        file.unlink()
    for document in documents:
        store.write_study("tiny", {name: value for name, value in document.items() if name != "revision"})

    assert {arm["n_generations"] for arm in data("report", results)["arms"]} == {4}


def test_effects_of_the_folder_are_those_of_the_sweep(tmp_path: Path, results: Path) -> None:
    """The folder knows what its arms are composed of, and which cells are of the study as it stands."""
    grid = "[full, {grid: {scoring: [random, streaming-llm], cadence: [every-step, {kind: every-k, k: 4}]}}]"
    sweep = write(tmp_path / "s", 4, mechanisms=grid, replicates=2)
    run(sweep, results)
    by_file, by_folder = data("effects", sweep, "--results", results), data("effects", results)

    assert by_folder == by_file
    assert [effect["axes"] for effect in by_file[0]["main"]["effects"]] == [["scoring"], ["cadence"]]
    run(write(tmp_path / "s", 6, mechanisms=grid, replicates=2), results)
    assert data("effects", results)[0]["main"]["n_problems"] == 6
