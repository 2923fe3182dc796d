"""Register, tune, confirm, amend, verify on tiny models: the whole way, interrupted, and ways round it that are refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.evidence import amend, confirm, register, tune, verify
from cluster.evidence.folder import EvidenceFolder
from cluster.run import RunSettings, run_sweep
from designspace.errors import DeclarationError, ProtocolError, RegistrationMismatch
from designspace.store import ResultsStore
from tests.cluster.tiny import write_model

STUDY = """\
schema: 1
study: tiny-study
models: [{{name: tiny-a, path: {folder}/tiny-a}}]
tasks: [{{name: gsm8k, split: test, path: {folder}/dev.jsonl}}]
budgets: [12]
mechanisms:
  - {{name: baseline, base: h2o, scoring: {{kind: h2o, recent: 2}}}}
  - name: arm
    base: h2o
    scoring: {{kind: h2o, recent: 2, selector: {{kind: diversity, weight: {{tune: {{choices: [0.5, 2.0]}}}}}}}}
seeds: {{count: 1, root: 7}}
generation: {{temperature: 1.0, max_new_tokens: {tokens}, rows: 4}}
protocol:
  heldout: [{{name: gsm8k, split: test, path: {folder}/heldout.jsonl}}]
  replicates: 2
  contrasts: [{{id: arm-vs-baseline, arm: arm, baseline: baseline}}]
  smallest_effect: 0.5
  tuning: {{sampler: grid, seed: 7, ties_within: 0.0, prefer: smaller}}
  test: {{name: sign_flip, resamples: 200, seed: 1}}
  tolerance: 0.1
"""
INLINE = RunSettings(executor="inline", progress="none")


def write_problems(file: Path, first: int, n: int) -> None:
    """Write additions as problems."""
    rows = [
        {"id": f"q{i}", "problem": f"add {i} and {i + 1}", "answer": str(2 * i + 1)} for i in range(first, first + n)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_study(folder: Path, tokens: int = 24) -> Path:
    """Write a study on a tiny random model: development and held-out problems apart."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tiny-a").exists():
        write_model(folder / "tiny-a", 0)
    write_problems(folder / "dev.jsonl", 0, 4)
    write_problems(folder / "heldout.jsonl", 10, 6)
    file = folder / "study.yaml"
    file.write_text(STUDY.format(folder=folder, tokens=tokens))
    return file


def registered(folder: Path) -> Path:
    """Return the registration file of a fresh study."""
    return register(write_study(folder), folder / "results", underpowered="a test")[1]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that went all the way."""
    folder = tmp_path_factory.mktemp("study")
    path = registered(folder)
    tune(path, INLINE)
    confirm(path, INLINE)
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """A copy of it to tamper with; model and problems stay where they are."""
    shutil.copytree(done / "results", tmp_path / "results")
    return tmp_path / "results"


def registration_in(results: Path) -> Path:
    """Return the first registration of a results folder."""
    return next((results / "protocol").glob("*.registration.json"))


def report_in(results: Path) -> Path:
    """Return its report."""
    return next((results / "protocol").glob("*.report.json"))


def test_the_whole_way(done: Path) -> None:
    """One look, every hypothesis judged, every number recomputed."""
    results = done / "results"
    report = json.loads(report_in(results).read_text())
    kinds = [entry.kind for entry in EvidenceFolder(results).ledger.entries()]

    assert kinds == ["register", "tune", "select", "look"]
    assert report["look"] == 1 and len(report["hypotheses"]) == 1
    assert report["rows"]["n"] == 2 * 6 * 2
    assert verify(report_in(results)) == []


def test_confirming_again_gives_the_same_report_and_is_no_second_look(done: Path) -> None:
    """The rows are there; nothing new is seen."""
    results = done / "results"
    before, n = report_in(results).read_bytes(), len(EvidenceFolder(results).ledger.entries())
    again = confirm(registration_in(results), INLINE)

    assert again.outcome.n_done == 0
    assert report_in(results).read_bytes() == before
    assert len(EvidenceFolder(results).ledger.entries()) == n


def test_tuning_again_gives_the_same_selection(done: Path) -> None:
    """No trial runs twice, the frozen file stays."""
    results = done / "results"
    file = next((results / "protocol").glob("*.selection.json"))
    before = file.read_bytes()
    tune(registration_in(results), INLINE)

    assert file.read_bytes() == before


def test_a_tuning_that_was_interrupted_ends_as_one_that_was_not(done: Path, tmp_path: Path) -> None:
    """Half of the shards first, the rest later: the same trials, the same choice."""
    path = registered(tmp_path)
    with pytest.raises(ProtocolError, match="the same command goes on"):
        tune(path, RunSettings(executor="inline", progress="none", limit=1))
    selection = tune(path, INLINE)
    whole = json.loads(next((done / "results/protocol").glob("*.selection.json")).read_text())["selection"]

    assert [t["effect_by_cell"] for t in selection.evidence["trials"]] == [
        t["effect_by_cell"] for t in whole["evidence"]["trials"]
    ]
    assert selection.values == whole["values"]


def kill_after(command: str, path: Path, n_commits: int) -> None:
    """Start a command in a process of its own and kill it when so many shards are stored."""
    samples = path.parent.parent / "samples"
    process = subprocess.Popen(
        [sys.executable, "-m", "designspace", command, str(path), "--executor", "inline", "--progress", "none"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline_s = time.monotonic() + 120
    while len(list(samples.glob("*/*/*.parquet"))) < n_commits:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_killed_in_tuning_and_in_confirmation_it_draws_and_decides_the_same(done: Path, tmp_path: Path) -> None:
    """SIGKILL in both, then to the end: the selection and every figure of an undisturbed study, and one look."""
    path = registered(tmp_path)
    kill_after("tune", path, 1)
    selection = tune(path, INLINE)
    n_stored = len(list((tmp_path / "results/samples").glob("*/*/*.parquet")))
    kill_after("confirm", path, n_stored + 1)
    report = confirm(path, INLINE).report
    quiet = json.loads(report_in(done / "results").read_text())
    whole = json.loads(next((done / "results/protocol").glob("*.selection.json")).read_text())["selection"]

    assert report is not None
    assert selection.values == whole["values"] and selection.evidence == whole["evidence"]
    assert report["hypotheses"] == quiet["hypotheses"] and report["look"] == 1
    assert verify(report_in(tmp_path / "results")) == []


def test_confirming_before_tuning_is_refused_and_looks_at_nothing(tmp_path: Path) -> None:
    """The values are not chosen yet."""
    path = registered(tmp_path)
    with pytest.raises(ProtocolError, match="run `designspace tune` first"):
        confirm(path, INLINE)

    assert [entry.kind for entry in EvidenceFolder(tmp_path / "results").ledger.entries()] == ["register"]


def test_the_tuning_sweep_holds_no_held_out_problem(done: Path) -> None:
    """Rows of the trials are of development problems alone."""
    rows = ResultsStore.open(done / "results", create=False).samples(["study", "problem_id"]).to_table().to_pylist()

    assert {row["problem_id"] for row in rows if row["study"].endswith("-tuning")} == {f"q{i}" for i in range(4)}
    assert {row["problem_id"] for row in rows if row["study"].endswith("-confirm")} == {f"q{i}" for i in range(10, 16)}


def edited_registration(old: str, new: str) -> Callable[[Path, Path], None]:
    """Return a forger who edits the registration file."""

    def forge(results: Path, _: Path) -> None:
        file = registration_in(results)
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return forge


def changed_problems(_: Path, folder: Path) -> None:
    """Give a held-out problem another answer."""
    file = folder / "heldout.jsonl"
    file.write_text(file.read_text().replace('"answer": "21"', '"answer": "22"'))


def fewer_problems(_: Path, folder: Path) -> None:
    """Drop a held-out problem."""
    file = folder / "heldout.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))


def other_weights(_: Path, folder: Path) -> None:
    """Put another model in the place of the registered one."""
    shutil.rmtree(folder / "tiny-a")
    write_model(folder / "tiny-a", 5)


def cut_ledger(results: Path, _: Path) -> None:
    """Delete the ledger's last line."""
    file = results / "protocol" / "looks.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))


def no_ledger(results: Path, _: Path) -> None:
    """Delete the ledger."""
    (results / "protocol" / "looks.jsonl").unlink()


def other_selection(results: Path, _: Path) -> None:
    """Edit the frozen selection."""
    file = next((results / "protocol").glob("*.selection.json"))
    text = file.read_text()
    file.write_text(text.replace('"arm.scoring.selector.weight": 0.5', '"arm.scoring.selector.weight": 2.0'))


@pytest.mark.parametrize(
    ("forge", "error", "message"),
    [
        (edited_registration('"max_new_tokens": 24', '"max_new_tokens": 48'), ProtocolError, "was edited"),
        (edited_registration('"alpha": 0.05', '"alpha": 0.5'), ProtocolError, "was edited"),
        (edited_registration('"replicates": 2', '"replicates": 1'), ProtocolError, "was edited"),
        (edited_registration('"m": 1', '"m": 2'), ProtocolError, "was edited"),
        (changed_problems, RegistrationMismatch, r"data.heldout\[0\].content"),
        (fewer_problems, RegistrationMismatch, r"data.heldout\[0\]"),
        (other_weights, RegistrationMismatch, "models.tiny-a.content"),
        (cut_ledger, ProtocolError, "cut short"),
        (no_ledger, ProtocolError, "is gone"),
        (other_selection, ProtocolError, "was edited"),
    ],
    ids=lambda x: x.__name__ if callable(x) and hasattr(x, "__name__") else "",
)
def test_what_was_registered_is_what_runs(
    tmp_path: Path, forge: Callable[[Path, Path], None], error: type[Exception], message: str
) -> None:
    """Every change after registration stops a confirmation before it looks at anything."""
    path = registered(tmp_path)
    tune(path, INLINE)
    forge(tmp_path / "results", tmp_path)
    with pytest.raises(error, match=message):
        confirm(path, INLINE)

    assert not list((tmp_path / "results/protocol").glob("*.report.json"))


@pytest.mark.parametrize(
    ("module", "name", "value", "place"),
    [
        ("designspace.tasks.grading.MathGrader", "version", 99, "grader.version"),
        ("cluster.evidence.live", "ENGINE_VERSION", 99, "code.engine_version"),
        ("cluster.evidence.live", "code_id", lambda: "0.0+edited", "code.id"),
        ("cluster.evidence.live", "environment", lambda: {"torch": "0"}, "code.packages"),
    ],
)
def test_other_software_than_registered_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, value: object, place: str
) -> None:
    """Grader, engine, code and packages are part of the promise; the difference is named by its place."""
    monkeypatch.setattr(f"{module}.{name}", value)
    with pytest.raises(RegistrationMismatch, match=place):
        confirm(registration_in(copy), INLINE)


def test_a_report_edited_by_hand_is_found_out(copy: Path) -> None:
    """The store says otherwise, and where."""
    file = report_in(copy)
    report = json.loads(file.read_text())
    report["hypotheses"][0]["arms"]["arm"]["accuracy"] = 0.9
    file.write_text(json.dumps(report, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n")

    assert any("accuracy" in difference.path for difference in verify(file))


def test_an_amendment_grows_the_family_and_says_that_the_problems_were_seen(copy: Path) -> None:
    """A child registration, linked, with both families in m."""
    child, path = amend(registration_in(copy), "another tolerance", underpowered="a test")

    assert (path.exists() and path != registration_in(copy)) or child.document["parent"]
    assert child.document["m"] == 2 and child.document["seen"] is True
    with pytest.raises(ProtocolError, match="needs a reason"):
        amend(registration_in(copy), "  ")


def test_registering_seen_problems_as_new_is_refused(copy: Path, done: Path) -> None:
    """Another study on the same held-out problems has to be an amendment."""
    other = done / "other.yaml"
    other.write_text((done / "study.yaml").read_text().replace("study: tiny-study", "study: second"))
    with pytest.raises(ProtocolError, match="seen must be true"):
        register(other, copy, underpowered="a test")


def test_overlapping_splits_and_small_samples_are_refused(tmp_path: Path) -> None:
    """Held-out problems among the development ones; and a study that could find nothing."""
    file = write_study(tmp_path)
    with pytest.raises(ProtocolError, match="smallest effect of interest"):
        register(file, tmp_path / "results")
    write_problems(tmp_path / "heldout.jsonl", 2, 6)
    with pytest.raises(ProtocolError, match=r"overlap|share no problem"):
        register(file, tmp_path / "results", underpowered="a test")


def test_a_study_is_no_plain_sweep(tmp_path: Path) -> None:
    """`run` would look at things that nobody registered."""
    with pytest.raises(DeclarationError, match="protocol"):
        run_sweep(write_study(tmp_path), tmp_path / "results", executor="inline", progress="none")
