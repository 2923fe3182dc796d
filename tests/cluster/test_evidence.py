"""Register, tune, confirm, amend, verify on tiny models: the whole way, interrupted, and ways round it that are refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cluster.evidence import amend, confirm, register, tune, verify
from cluster.evidence.folder import EvidenceFolder
from cluster.run import RunSettings, run_sweep
from cluster.stored_text import named_text, stored_text
from designspace import registry
from designspace.cli import app as cli
from designspace.errors import DeclarationError, ProtocolError, RegistrationMismatch
from designspace.query import ResultsWarning, open_results
from designspace.store import GRADES_SCHEMA, SAMPLES_SCHEMA, ResultsStore
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

    assert kinds == ["register", "tune", "select", "look", "result"]
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
        ("cluster.evidence.live", "environment", lambda: {"torch": "0"}, "code.packages.numpy"),
        ("cluster.evidence.live", "environment", lambda: {"torch": "0"}, "code.packages.scipy"),
        ("cluster.evidence.live", "environment", lambda: {"torch": "0"}, "code.packages.tokenizers"),
        ("cluster.evidence.live", "switched_off", lambda: True, "code.kernels: registered 'o.*', now 'off'"),
    ],
)
def test_other_software_than_registered_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, value: object, place: str
) -> None:
    """Grader, engine, code and packages are part of the promise; the difference is named by its place."""
    monkeypatch.setattr(f"{module}.{name}", value)
    with pytest.raises(RegistrationMismatch, match=place):
        confirm(registration_in(copy), INLINE)


PLUG_IN = """
from dataclasses import dataclass, field
from typing import ClassVar
from designspace.axes import Scoring, Selector
from families.scoring.selectors.top_k import TopK
from plug_in.maths import sign

@dataclass(frozen=True)
class Age(Scoring):
    kind: ClassVar[str] = "age"
    selector: Selector = field(default=TopK())

    def score(self, view):
        return sign * view.positions.float()
"""


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a package of somebody else's that registers a scoring."""
    folder, info = tmp_path / "site" / "plug_in", tmp_path / "site" / "plug_in-1.dist-info"
    for made in (folder, info):
        made.mkdir(parents=True)
    (folder / "__init__.py").write_text(PLUG_IN)
    (folder / "maths.py").write_text("sign = 1\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug-in\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[designspace.mechanisms]\nscoring.age = plug_in:Age\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    cached = (registry._strategy_points, registry.strategy)
    for function in cached:
        function.cache_clear()
    yield folder
    for function in cached:
        function.cache_clear()
    for name in ("plug_in", "plug_in.maths"):
        sys.modules.pop(name, None)


def test_code_of_another_package_is_registered_file_by_file(tmp_path: Path, plug_in: Path) -> None:
    """What a registered strategy computes may be in the file beside it, and be chosen by tuning alone."""
    file = write_study(tmp_path)
    text = file.read_text().replace(
        "{kind: h2o, recent: 2, selector", "{tune: {choices: [{kind: h2o, recent: 2, selector"
    )
    text = text.replace("[0.5, 2.0]}}}}", "[0.5, 2.0]}}}}, {kind: age}]}}").replace("prefer: smaller", "prefer: first")
    file.write_text(text)
    registration, path = register(file, tmp_path / "results", underpowered="a test")
    assert sorted(registration.document["code"]["third_party"]["plug_in"]) == ["__init__.py", "maths.py"]
    (plug_in / "maths.py").write_text("sign = -1\n")
    with pytest.raises(RegistrationMismatch, match=r"code\.third_party\.plug_in\.maths\.py: registered"):
        tune(path, INLINE)


def test_a_study_of_this_package_registers_no_other_code(done: Path) -> None:
    """`code.id` has all of it."""
    document = json.loads(registration_in(done / "results").read_text())["registration"]

    assert document["code"]["third_party"] == {}
    assert document["code"]["kernels"] in ("on", "off", "not here")


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
    assert len(list((copy / "protocol").glob("*.registration.json"))) == 1


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


# What is shown of held-out problems

SWEEP = """\
schema: 1
study: peek
models: [{{name: tiny-a, path: {folder}/tiny-a}}]
tasks: [{{name: gsm8k, split: test, path: {folder}/{problems}}}]
budgets: [12]
mechanisms: [{{name: baseline, base: h2o, scoring: {{kind: h2o, recent: 2}}}}]
seeds: {{count: 2, root: 7}}
generation: {{temperature: 1.0, max_new_tokens: 24, rows: 4}}
"""


def write_peek(folder: Path, problems: str = "heldout.jsonl") -> Path:
    """Write a plain sweep over the held-out problems of a study, or over others."""
    file = folder / "peek.yaml"
    file.write_text(SWEEP.format(folder=folder, problems=problems))
    return file


def peek(folder: Path, results: Path, problems: str = "heldout.jsonl") -> None:
    """Run that sweep into a results folder."""
    run_sweep(write_peek(folder, problems), results, executor="inline", progress="none")


def looks_in(results: Path) -> list[str]:
    """Return what showed held-out problems, in order; a confirmation is `confirm`."""
    entries = EvidenceFolder(results).ledger.entries()
    return [entry.details.get("command", "confirm") for entry in entries if entry.kind == "look"]


def call(*arguments: object) -> Result:
    """Run the command line."""
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


CONFIRMED = ("--study", "tiny-study-confirm")


def accuracies(results: Path, *study: str) -> set[str]:
    """Return the arms whose accuracy `report` shows."""
    shown = json.loads(call("report", results, *study, "--json").stdout)
    return {f"{arm['mechanism']} on {arm['n_problems']}" for arm in shown["arms"]}


def without_tuning(folder: Path) -> Path:
    """Write a study like the other, with nothing to tune, and return its file."""
    file = write_study(folder)
    lines = file.read_text().replace("weight: {tune: {choices: [0.5, 2.0]}}", "weight: 0.5").splitlines(keepends=True)
    file.write_text("".join(line for line in lines if "tuning:" not in line))
    return file


def test_running_held_out_problems_is_a_look_noted_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever sweep: on disk before anything runs, carried by the rows, and counted by the confirmation."""
    _, path = register(without_tuning(tmp_path), tmp_path / "results", underpowered="a test")
    with monkeypatch.context() as patch:
        patch.setattr("cluster.run._execute", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            peek(tmp_path, tmp_path / "results")
    assert looks_in(tmp_path / "results") == ["run"]

    peek(tmp_path, tmp_path / "results")
    (look,) = [entry for entry in EvidenceFolder(tmp_path / "results").ledger.entries() if entry.kind == "look"]
    assert set(EvidenceFolder(tmp_path / "results").rows()["look_sha256"].to_pylist()) == {look.sha256}
    assert len(look.problem_ids) == 6 and list(look.arms) == ["baseline"]

    report = confirm(path, INLINE).report
    assert report is not None and report["look"] == 2
    assert "held-out look #2" in report["notes"][0]
    assert "12 of 24 generations were there before this look" in report["notes"][1]
    assert verify(report_in(tmp_path / "results")) == []


def test_running_them_under_other_ids_and_another_template_is_a_look(tmp_path: Path) -> None:
    """They are known by what they ask."""
    register(without_tuning(tmp_path), tmp_path / "results", underpowered="a test")
    rows = [json.loads(line) for line in (tmp_path / "heldout.jsonl").read_text().splitlines()]
    dressed = [{**row, "id": f"new-{i}", "problem": f"Add  {row['problem'][4:]}"} for i, row in enumerate(rows[::-1])]
    (tmp_path / "dressed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in dressed))
    peek(tmp_path, tmp_path / "results", "dressed.jsonl")
    assert looks_in(tmp_path / "results") == ["run"]
    sweep = write_peek(tmp_path)
    sweep.write_text(sweep.read_text().replace("jsonl}]", "jsonl, prompt: 'So: {problem} then'}]"))
    run_sweep(sweep, tmp_path / "results", executor="inline", progress="none")
    assert looks_in(tmp_path / "results") == ["run", "run"]


def test_running_other_problems_is_no_look(tmp_path: Path) -> None:
    """Development problems, and new ones."""
    register(without_tuning(tmp_path), tmp_path / "results", underpowered="a test")
    write_problems(tmp_path / "fresh.jsonl", 100, 4)
    peek(tmp_path, tmp_path / "results", "dev.jsonl")
    peek(tmp_path, tmp_path / "results", "fresh.jsonl")
    assert looks_in(tmp_path / "results") == []
    assert accuracies(tmp_path / "results") == {"baseline on 4"}
    assert looks_in(tmp_path / "results") == []


def test_registering_problems_that_were_run_before_says_that_they_were_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A split that becomes held-out later; registering the same again returns what is there."""
    file = without_tuning(tmp_path)
    peek(tmp_path, tmp_path / "results")
    registration, path = register(file, tmp_path / "results", underpowered="a test")
    assert registration.document["seen"] is True
    assert "12 generations of held-out problems are in" in capsys.readouterr().err
    report = confirm(path, INLINE).report
    assert report is not None and report["seen"] is True
    assert "the held-out problems were seen before this registration" in report["notes"]
    assert register(file, tmp_path / "results", underpowered="a test") == (registration, path)


def test_a_report_of_a_study_that_was_tuned_asks_which_part(copy: Path) -> None:
    """The trials and the confirmation are studies of their own: none is an arm beside the other."""
    asked = call("report", copy)
    assert asked.exit_code == 2
    assert "--study: tiny-study-confirm, tiny-study-trial-0, tiny-study-trial-1" in asked.output
    for trial in ("tiny-study-trial-0", "tiny-study-trial-1"):
        assert accuracies(copy, "--study", trial) == {"arm on 4", "baseline on 4"}


def test_report_and_export_of_held_out_problems_are_a_look(copy: Path, tmp_path: Path) -> None:
    """Noted before anything is shown, and once for the same rows."""
    assert looks_in(copy) == ["confirm"]
    said = call("report", copy, *CONFIRMED)
    assert "6 problems are held out by registration" in said.output and "held-out look #2" in said.output
    assert looks_in(copy) == ["confirm", "report"]
    call("export", copy, "--out", tmp_path / "rows.csv")
    call("report", copy, *CONFIRMED)
    assert looks_in(copy) == ["confirm", "report"]


def test_exported_texts_are_a_look(copy: Path, tmp_path: Path) -> None:
    """As rows are; where the look cannot be noted, nothing is written."""
    out = tmp_path / "texts.jsonl"
    (copy / "protocol/looks.jsonl.head").rename(copy / "protocol/away")
    assert call("export", copy, "--out", out, "--completions").exit_code != 0 and not out.exists()
    (copy / "protocol/away").rename(copy / "protocol/looks.jsonl.head")
    assert call("export", copy, "--out", out, "--completions").exit_code == 0
    assert looks_in(copy) == ["confirm", "export"]


def test_a_query_of_held_out_problems_is_a_look(copy: Path) -> None:
    """Noted once for the same rows, whatever is asked of them."""
    asked = call("query", copy, "SELECT count(*) FROM samples", *CONFIRMED)
    assert asked.exit_code == 0 and "held-out look #2" in asked.output
    assert looks_in(copy) == ["confirm", "query"]
    call("query", copy, "SELECT 1 FROM arms", *CONFIRMED)
    assert looks_in(copy) == ["confirm", "query"]


def test_asking_held_out_problems_from_python_is_a_look(copy: Path) -> None:
    """With a warning that says so."""
    results = open_results(copy, study=CONFIRMED[1])
    with pytest.warns(ResultsWarning, match="held-out look #2"):
        results.summary()
    results.texts("q10")
    assert looks_in(copy) == ["confirm", "open_results"]


def test_effects_of_held_out_problems_are_a_look(tmp_path: Path) -> None:
    """They show which arm is better; noted first, also where these two arms are too few for any effect."""
    _, path = register(without_tuning(tmp_path), tmp_path / "results", underpowered="a test")
    confirm(path, INLINE)
    sweep = write_peek(tmp_path)
    arm = "{name: arm, base: h2o, scoring: {kind: h2o, recent: 2, selector: {kind: diversity, weight: 0.5}}}"
    sweep.write_text(sweep.read_text().replace("recent: 2}}]", f"recent: 2}}}}, {arm}]"))
    said = call("effects", sweep, "--results", tmp_path / "results")
    assert "held-out look #2" in said.output.splitlines()[0]
    assert looks_in(tmp_path / "results") == ["confirm", "effects"]


def test_a_confirmation_is_not_watched_while_it_runs(tmp_path: Path) -> None:
    """Its cells are left out of the report and of exports, in one line, until the result is sealed."""
    path = registered(tmp_path)
    results = tmp_path / "results"
    tune(path, INLINE)
    before = accuracies(results, "--study", "tiny-study-trial-0")
    assert before
    assert confirm(path, RunSettings(executor="inline", progress="none", limit=1)).report is None
    said = call("report", results, *CONFIRMED)
    assert "left out: 1 cells of held-out problems, for their confirmation is not finished" in said.output
    assert "Not shown: " in said.output
    assert accuracies(results, *CONFIRMED) == set()
    assert accuracies(results, "--study", "tiny-study-trial-0") == before
    call("export", results, "--out", tmp_path / "rows.jsonl")
    shown = [json.loads(line)["problem_id"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert set(shown) == {f"q{i}" for i in range(4)}
    assert looks_in(results) == ["confirm"]
    confirm(path, INLINE)
    assert "left out" not in call("report", results, *CONFIRMED).output
    assert accuracies(results, *CONFIRMED) == {"arm on 6", "baseline on 6"}


# Results are sealed


def rewrite(results: Path, study: str, change: dict[str, object], *, grades: bool) -> None:
    """Change the first row of a study's first shard, in its grades or in its samples, and commit the shard anew."""
    store = ResultsStore.open(results, create=False)
    table = store.samples().to_table().to_pylist()
    first = next(row for row in table if row["study"].endswith(study))
    cell, shard, grader = first["cell_id"], first["shard_id"], first["grader_id"]
    rows = [row for row in table if (row["cell_id"], row["shard_id"]) == (cell, shard)]
    rows[0].update(change)
    names = GRADES_SCHEMA.names if grades else SAMPLES_SCHEMA.names
    plain = [{name: row[name] for name in names} for row in rows]
    top = "grades" if grades else "samples"
    for file in (results / top).rglob(f"{shard}*"):
        if cell in file.parts:
            file.unlink()
    if grades:
        store.commit_grades(grader, cell, shard, plain)
    else:
        store.commit(cell, shard, store.cells()[cell], plain)


def delete_shards(results: Path, study: str, n: int | None = None) -> None:
    """Delete samples and grades of a study's shards, or of the first few."""
    table = ResultsStore.open(results, create=False).samples(["study", "cell_id", "shard_id"]).to_table().to_pylist()
    shards = list(dict.fromkeys((r["cell_id"], r["shard_id"]) for r in table if r["study"].endswith(study)))
    for cell, shard in shards[:n]:
        for top in ("grades", "samples"):
            for file in (results / top).rglob(f"{shard}*"):
                if cell in file.parts:
                    file.unlink()


EDITS = [
    ({"correct": True, "grade_status": "correct", "extracted": "23"}, True, "grades"),
    ({"text": "\\boxed{23}"}, False, "texts"),
    ({"mean_cache_tokens": 11.9}, False, "figures"),
]


@pytest.mark.parametrize(("change", "grades", "what"), EDITS, ids=["grades", "texts", "memory"])
def test_what_is_edited_after_the_result_is_refused_by_name(
    copy: Path, change: dict[str, object], grades: bool, what: str
) -> None:
    """`confirm` again only verifies: neither the report nor the ledger changes."""
    rewrite(copy, "-confirm", change, grades=grades)
    before = report_in(copy).read_bytes(), (copy / "protocol/looks.jsonl").read_bytes()
    for command in (lambda: confirm(registration_in(copy), INLINE), lambda: verify(report_in(copy))):
        with pytest.raises(ProtocolError, match=f"line 5 of the ledger sealed.*\n.*tiny-a.*: the {what} are not those"):
            command()

    assert (report_in(copy).read_bytes(), (copy / "protocol/looks.jsonl").read_bytes()) == before


def test_an_edited_report_is_not_overwritten(copy: Path) -> None:
    """Confirming again says that it was edited; a lost one is written again as it was."""
    file = report_in(copy)
    before = file.read_bytes()
    file.write_bytes(before.replace(b'"look":1', b'"look":0'))
    with pytest.raises(ProtocolError, match="was edited: it is not the report that the ledger sealed"):
        confirm(registration_in(copy), INLINE)
    assert file.read_bytes() == before.replace(b'"look":1', b'"look":0')
    file.unlink()
    confirm(registration_in(copy), INLINE)
    assert file.read_bytes() == before


@pytest.mark.parametrize("n", [1, None], ids=["one-shard", "all"])
def test_deleted_rows_made_anew_are_a_second_look(copy: Path, n: int | None) -> None:
    """Recorded as such, with a report of its own; the first one stays, and both verify."""
    first = report_in(copy)
    before = first.read_bytes()
    delete_shards(copy, "-confirm", n)
    with pytest.raises(ProtocolError, match="rows were sealed, 0 are there"):
        verify(first)
    again = confirm(registration_in(copy), INLINE)
    assert again.report is not None and again.report["look"] == 2
    assert looks_in(copy) == ["confirm", "confirm"]
    assert again.path != first and first.read_bytes() == before
    assert verify(first) == verify(again.path) == []
    assert confirm(registration_in(copy), INLINE).report == again.report
    assert looks_in(copy) == ["confirm", "confirm"]


def test_deleting_one_shard_does_not_unseal_the_others(copy: Path) -> None:
    """What is left is held against the seal before another look is opened."""
    delete_shards(copy, "-confirm", 1)
    rewrite(copy, "-confirm", {"correct": True, "grade_status": "correct"}, grades=True)
    with pytest.raises(ProtocolError, match="the grades are not those that were sealed"):
        confirm(registration_in(copy), INLINE)
    assert looks_in(copy) == ["confirm"]


def test_an_amendment_does_not_unseal_its_parents_rows(copy: Path) -> None:
    """They are the child's rows too."""
    rewrite(copy, "-confirm", {"correct": True, "grade_status": "correct"}, grades=True)
    _, path = amend(registration_in(copy), "another try", underpowered="a test")
    tune(path, INLINE)
    with pytest.raises(ProtocolError, match="the grades are not those that were sealed"):
        confirm(path, INLINE)


def test_development_grades_are_sealed_by_the_selection(copy: Path) -> None:
    """Whoever edits them later can neither confirm nor tune again."""
    rewrite(copy, "-tuning", {"correct": True, "grade_status": "correct", "extracted": "3"}, grades=True)
    for command in (confirm, tune):
        with pytest.raises(ProtocolError, match=r"selection [0-9a-f]+ sealed.*\n.*the grades are not those"):
            command(registration_in(copy), INLINE)
    with pytest.raises(ProtocolError, match="the grades are not those"):
        verify(report_in(copy))


def test_deleted_development_rows_are_made_anew_by_tuning(copy: Path) -> None:
    """And come out as they were sealed."""
    delete_shards(copy, "-tuning", 1)
    with pytest.raises(ProtocolError, match="rows were sealed, 0 are there"):
        confirm(registration_in(copy), INLINE)
    tune(registration_in(copy), INLINE)
    assert confirm(registration_in(copy), INLINE).report is not None
    assert looks_in(copy) == ["confirm"]


def _cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize(("damage", "n"), [(_cut_short, 1), (_cut_short, None), (Path.unlink, 1), (Path.unlink, None)])
def test_damaged_development_grades_are_made_anew_by_tuning(
    copy: Path, damage: Callable[[Path], None], n: int | None
) -> None:
    """A file of grades, or all of them: the texts are there, and their grades come out as they were sealed.

    A confirmation, which makes no development grades, still refuses.
    """
    selected = json.loads(next(copy.rglob("*.selection.json")).read_text())["sha256"]
    rows = ResultsStore.open(copy, create=False).samples(["study", "cell_id"]).to_table().to_pylist()
    tuned = {row["cell_id"] for row in rows if row["study"].endswith("-tuning")}
    files = [file for file in sorted((copy / "grades").rglob("*.parquet")) if tuned & set(file.parts)]
    assert len(files) > 1
    for file in files[:n]:
        damage(file)
    assert tune(registration_in(copy), INLINE).sha256 == selected
    assert confirm(registration_in(copy), INLINE).report is not None


# Another ledger in the place of the one that the rows belong to


def keep_ledger(results: Path) -> dict[Path, bytes]:
    """Return the ledger and its side file as they are."""
    return {file: file.read_bytes() for file in (results / "protocol").glob("looks.jsonl*")}


def put_back(files: dict[Path, bytes]) -> None:
    """Put a ledger back as it was."""
    for file, content in files.items():
        file.write_bytes(content)


def test_an_older_ledger_beside_later_rows_is_refused(tmp_path: Path) -> None:
    """The rows name their look, the report its result, the selection itself: by every command."""
    file = write_study(tmp_path)
    results = tmp_path / "results"
    _, path = register(file, results, underpowered="a test")
    stages = [keep_ledger(results)]
    tune(path, INLINE)
    stages.append(keep_ledger(results))
    confirm(path, RunSettings(executor="inline", progress="none", limit=1))
    looked = keep_ledger(results)
    confirm(path, INLINE)
    report = report_in(results)
    for older in stages:
        put_back(older)
        for command in (
            lambda: confirm(path, INLINE),
            lambda: tune(path, INLINE),
            lambda: register(file, results, underpowered="again"),
            lambda: amend(path, "again", underpowered="a test"),
            lambda: verify(report),
        ):
            with pytest.raises(ProtocolError, match="must hold every look that rows here were made under"):
                command()
        assert "must hold every look" in call("report", results, *CONFIRMED).output
        assert "must hold every look" in call("export", results, "--out", tmp_path / "rows.csv").output
    put_back(looked)
    with pytest.raises(ProtocolError, match=r"report\.json must be of a look whose result the ledger seals"):
        confirm(path, INLINE)


def test_a_ledger_deleted_and_registered_anew_is_refused(copy: Path, done: Path) -> None:
    """Ledger, side file, selection and report: the rows are still those of a look."""
    for file in (copy / "protocol").iterdir():
        file.unlink()
    with pytest.raises(ProtocolError, match="must hold every look that rows here were made under"):
        register(done / "study.yaml", copy, underpowered="a test")
    shutil.rmtree(copy / "protocol")
    with pytest.raises(ProtocolError, match="must hold every look that rows here were made under"):
        register(done / "study.yaml", copy, underpowered="a test")
    assert "must hold every look" in call("report", copy, *CONFIRMED).output


def test_a_ledger_cut_back_to_before_the_selection_is_refused(tmp_path: Path) -> None:
    """Tuning again until it suits leaves the first selection behind."""
    path = registered(tmp_path)
    before = keep_ledger(tmp_path / "results")
    tune(path, INLINE)
    put_back(before)
    with pytest.raises(ProtocolError, match=r"selection\.json must be a selection that the ledger froze"):
        tune(path, INLINE)


def test_the_same_held_out_problems_under_new_ids_are_not_new(copy: Path, tmp_path: Path) -> None:
    """In another order too: another study on them is an amendment."""
    folder = tmp_path / "second"
    file = write_study(folder)
    rows = [json.loads(line) for line in (folder / "heldout.jsonl").read_text().splitlines()]
    renamed = [{**row, "id": f"new-{i}"} for i, row in enumerate(rows[::-1])]
    (folder / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in renamed))
    with pytest.raises(ProtocolError, match="seen must be true"):
        register(file, copy, underpowered="a test")
    child, path = amend(registration_in(copy), "other ids", file, underpowered="a test")
    assert child.document["seen"] is True
    tune(path, INLINE)
    report = confirm(path, INLINE).report
    assert report is not None and report["look"] == 2


def test_a_confirmation_has_a_page_with_its_own_numbers(done: Path) -> None:
    """What was registered, every hypothesis as it was sealed, and the hypotheses alone as contrasts."""
    report = json.loads(report_in(done / "results").read_text())
    page = report_in(done / "results").with_suffix(".html").read_text()
    (found,) = report["hypotheses"]
    assert report["registration"] in page and report["ledger_head"] in page
    assert f"{100 * found['effect']:+.2f}" in page and f"{found['bonferroni_p']:.4f}" in page
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    (row,) = data["contrasts"]["rows"]
    contrast = dict(zip(data["contrasts"]["columns"], row, strict=True))
    assert (contrast["arm"], contrast["against"], contrast["n_comparisons"]) == ("arm", "baseline", report["m"])
    assert contrast["points"] == pytest.approx(100 * found["effect"], abs=1e-6)


def test_tracing_a_text_is_a_look_at_that_text_alone(tmp_path: Path) -> None:
    """The others of the folder are not shown, so a development text is no look, and a held-out one a look at one problem."""
    results = tmp_path / "results"
    study = without_tuning(tmp_path)
    for problems in ("heldout.jsonl", "dev.jsonl"):
        peek(tmp_path, results, problems)
    register(study, results, underpowered="a test")
    store = ResultsStore.open(results, create=False)
    row, notes = stored_text(store, named_text(store, "q0", "baseline", {"replicate": 0}))
    assert (row["problem_id"], notes, looks_in(results)) == ("q0", (), [])
    row, notes = stored_text(store, named_text(store, "q10", "baseline", {"replicate": 0}))
    assert (row["problem_id"], len(notes), looks_in(results)) == ("q10", 1, ["trace"])
    (look,) = [entry for entry in EvidenceFolder(results).ledger.entries() if entry.kind == "look"]
    assert list(look.problem_ids) == ["q10"]
