"""The command line: output, JSON, exit codes, and one clean message for a user's mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import designspace
from designspace.cli import app as cli
from tests.cluster import tiny

COMMANDS = (
    "run", "plan", "status", "report", "list", "show", "export", "calibrate", "check", "grade-cases", "import", "effects",
    "register", "amend", "tune", "confirm", "verify", "bench", "doctor", "query", "trace", "view",
)  # fmt: skip


def call(*arguments: object, code: int = 0) -> Result:
    """Run the command and check its exit code."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert code == result.exit_code, result.output
    return result


def data(*arguments: object) -> dict[str, object]:
    """Run the command with --json and parse what it prints."""
    parsed: dict[str, object] = json.loads(call(*arguments, "--json").stdout)
    return parsed


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny sweep."""
    return tiny.write_sweep(tmp_path_factory.mktemp("cli"), max_new_tokens=8)


@pytest.fixture(scope="module")
def results(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its first shards, done."""
    root = tmp_path_factory.mktemp("results") / "tiny"
    call("run", sweep, "--results", root, "--executor", "inline", "--progress", "none", "--limit", 8)
    return root


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_is_there(command: str | None) -> None:
    """Every command says what it does."""
    arguments = ["--help"] if command is None else [command, "--help"]
    assert "Usage:" in call(*arguments).stdout


def test_all_commands_are_listed() -> None:
    """The list above is complete."""
    assert {*COMMANDS} == {c.name for c in cli.app.registered_commands}


def test_version() -> None:
    """As the package says."""
    assert designspace.__version__ == call("--version").stdout.strip()


def test_help_imports_nothing_heavy() -> None:
    """`--help` answers at once: neither torch nor Ray, pandas, pyarrow or YAML is imported for it."""
    code = (
        "import sys\nfrom designspace.cli import app as c\n"
        "try: c.app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'pandas', 'pyarrow', 'transformers', 'ruamel', 'sympy', 'numpy', 'matplotlib'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


def test_the_facade_names_what_it_promises() -> None:
    """Few names, all of them there."""
    assert len(designspace.__all__) <= 16
    assert [] == [name for name in designspace.__all__ if not hasattr(designspace, name)]
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = designspace.nothing_of_that_name


def test_run_writes_rows_table_and_report(results: Path) -> None:
    """The report lies beside the rows."""
    assert "<!DOCTYPE html>" in (results / "report.html").read_text()
    assert "accuracy" in call("report", results).stdout


def test_run_can_do_without_the_report(sweep: Path, tmp_path: Path) -> None:
    """--no-report leaves the rows alone."""
    options = ["--executor", "inline", "--progress", "plain", "--limit", 1, "--no-report"]
    done = call("run", sweep, "--results", tmp_path / "r", *options)
    assert "1 shards done, 0 done before, 35 left for another run" in done.stdout
    assert "12 cells, 36 shards: 0 done, 36 to do" in done.stderr
    assert "1/1 shards, 2/2 generations" in done.stderr
    assert not (tmp_path / "r" / "report.html").exists()


def test_quarantined_shards_make_exit_code_4(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Incomplete is not an error, and not success."""

    def fail(self: object, shard: object, attempt: int) -> float:
        raise ArithmeticError("no luck")

    monkeypatch.setattr("cluster.worker.Worker._generate", fail)
    options = ["--executor", "inline", "--progress", "none", "--limit", 1]
    done = call("run", sweep, "--results", tmp_path / "r", *options, code=4)
    assert "ArithmeticError: no luck" in done.stderr
    found = data("status", tmp_path / "r")["studies"][0]  # type: ignore[index]
    assert [("no luck", 2, True)] == [(f["message"], f["attempt"], f["quarantined"]) for f in found["open_failures"]]
    assert "given up at attempt 2: tiny-a" in call("status", tmp_path / "r").stdout


def test_status_agrees_between_sweep_and_results(sweep: Path, results: Path) -> None:
    """The store knows the declaration as well as the file does."""
    by_file = data("status", sweep, "--results", results)["studies"]
    by_store = data("status", results)["studies"]
    assert by_file == by_store
    study = by_store[0]  # type: ignore[index]
    assert (8, 36, 12) == (study["n_committed"], study["n_shards"], study["n_cells"])
    assert "tiny: 8/36 shards of 12 cells" in call("status", sweep, "--results", results).stdout


def test_status_of_a_sweep_that_never_ran(sweep: Path, tmp_path: Path) -> None:
    """Nothing is done; nothing is made."""
    found = data("status", sweep, "--results", tmp_path / "r")["studies"][0]  # type: ignore[index]
    assert 0 == found["n_committed"]
    assert not (tmp_path / "r").exists()


def test_plan_counts_what_is_stored(sweep: Path, results: Path) -> None:
    """Against the results folder."""
    planned = data("plan", sweep, "--results", results)
    assert (36, 8, 28) == tuple(planned[name] for name in ("n_shards", "n_committed", "n_pending"))
    assert "36 shards: 8 committed, 28 pending" in call("plan", sweep, "--results", results).stdout


def test_report_as_json_and_html(results: Path, tmp_path: Path) -> None:
    """The page's path goes to stderr, so that stdout stays JSON."""
    done = call("report", results, "--json", "--html", tmp_path / "page.html")
    assert {"full", "random"} >= {arm["mechanism"] for arm in json.loads(done.stdout)["arms"]}
    assert "<!DOCTYPE html>" in (tmp_path / "page.html").read_text()


def test_report_says_what_the_page_holds_arms_against(results: Path, tmp_path: Path) -> None:
    """By --against; an option that is about the page needs one, and the static page has no contrasts."""
    page = tmp_path / "page.html"
    call("report", results, "--html", page, "--against", "random")
    assert '"contrasts":{"columns"' in page.read_text()
    call("report", results, "--html", page, "--static")
    assert "<script" not in page.read_text()
    refused = call("report", results, "--html", page, "--against", "randon", code=2)
    assert (refused.stdout, "did you mean 'random'" in refused.stderr) == ("", True)
    for options in (["--static"], ["--against", "random"], ["--static", "--against", "random", "--html", page]):
        assert call("report", results, *options, code=2).stdout == ""


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_export_takes_the_format_from_the_name(results: Path, tmp_path: Path, suffix: str) -> None:
    """And prints where it wrote."""
    path = tmp_path / f"all.{suffix}"
    assert call("export", results, "--out", path).stdout.strip().endswith(f" columns: {path}")
    assert path.stat().st_size > 0


def test_export_to_a_partitioned_folder(results: Path, tmp_path: Path) -> None:
    """Columns become folders."""
    call("export", results, "--out", tmp_path / "all", "--format", "parquet", "--partition", "model, mechanism")
    assert ["model=tiny-a"] == [path.name for path in (tmp_path / "all").iterdir()]


def test_list_everything_or_one_section() -> None:
    """Axes, mechanisms, models, tasks."""
    listed = data("list")
    assert {"scoring", "selector", "cadence", "mechanisms", "models", "tasks"} < set(listed)
    assert ["cadence"] == list(data("list", "cadence"))
    assert "every-k" in call("list", "cadence").stdout
    assert {"snapkv", "alpha"} < {entry["name"] for entry in data("list", "mechanisms")["mechanisms"]}  # type: ignore[attr-defined]


def test_show_a_mechanism() -> None:
    """Composition, defaults, citation, and the arithmetic of mean and nominal budgets."""
    shown = data("show", "r-kv", "--budget", 48)
    assert "cai2025rkv" == shown["citation"]
    mean, nominal, _ = shown["budgets"]  # type: ignore[misc]
    expected = {"tokens": 48, "of": "mean", "after_event_tokens": [39, 40], "interval_steps": 16}
    assert {**expected, "steady_mean_tokens": 48, "peak_tokens": 56} == mean
    assert [48] == nominal["after_event_tokens"]
    text = call("show", "r-kv").stdout
    assert "every-k(k=auto, longest=128, prefill=True, prompt_block=None)" in text
    assert "[cai2025rkv]" in text


def test_show_a_window_that_is_a_share() -> None:
    """As the declaration has it, and as data."""
    assert data("show", "h2o")["axes"]["scoring"]["parameters"]["recent"] == {"share": 0.5}  # type: ignore[index,call-overload]
    assert "recent={share: 0.5}" in call("show", "h2o").stdout
    assert "recent: {share: 0.5}" in call("show", "scoring.h2o").stdout


def test_show_says_when_the_budget_does_not_apply_or_is_infeasible() -> None:
    """In words, not as an error: the other budgets are still shown."""
    assert "budget: does not apply" in call("show", "full").stdout
    assert "refused" in call("show", "snapkv", "--budget", 4, "--budget", 64).stdout


@pytest.mark.parametrize("name", ["cadence.every-k", "every-k", "selector.diversity", "head_routing.ada-kv"])
def test_show_a_strategy(name: str) -> None:
    """By axis and kind, or by a kind that one axis alone has."""
    shown = data("show", name)
    assert name in (shown["name"], shown["kind"])
    assert shown["parameters"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("show", "snapvk"), 2, "error: unknown mechanism or strategy 'snapvk' (did you mean 'snapkv'?)"),
        (("list", "cadenze"), 2, "error: unknown axis or section 'cadenze' (did you mean 'cadence'?)"),
        (("show", "cadence.every-j"), 2, "did you mean 'every-k'?"),
        (("run", "nowhere.yaml"), 2, "error: nowhere.yaml: cannot be read: No such file or directory"),
        (("plan", "nowhere.yaml"), 2, "error: nowhere.yaml"),
        (("report", "nowhere"), 2, "error: no results store at"),
        (("export", "nowhere", "--out", "x.csv"), 2, "error: no results store at"),
        (("export", "nowhere", "--out", "x.xlsx"), 2, "error: export writes parquet, csv, jsonl, markdown, latex"),
        (("query", "nowhere", "SELECT 1"), 2, "error: no results store at"),
        (("calibrate", "pocket-lama"), 2, "error: unknown bundled model 'pocket-lama'"),
        (("grade-cases", "nowhere.jsonl"), 2, "error: nowhere.jsonl: cannot be read"),
        (("run", "x.yaml", "--executor", "dask"), 2, "dask"),
        (("run", "x.yaml", "--limit", "0"), 2, "--limit"),
        (("frobnicate",), 2, "frobnicate"),
    ],
)
def test_a_mistake_gets_one_message_and_no_traceback(arguments: tuple[str, ...], code: int, message: str) -> None:
    """On stderr; the exit code tells usage from failure."""
    done = call(*arguments, code=code)
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert "" == done.stdout


def test_grade_cases(tmp_path: Path) -> None:
    """As JSON and in words."""
    cases = tmp_path / "cases.jsonl"
    rows = [
        {"id": "a", "kind": "completion", "gold": "3", "prediction": "\\boxed{3}", "expected": True},
        {"id": "b", "kind": "completion", "gold": "3", "prediction": "\\boxed{4}", "expected": True},
    ]
    cases.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert 0.5 == data("grade-cases", cases)["agreement"]
    assert "b (strict): expected correct, got incorrect" in call("grade-cases", cases).stdout


def test_environment_variables_stand_in_for_flags(sweep: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For everything that is no part of a result's identity."""
    monkeypatch.setenv("DESIGNSPACE_RESULTS", str(results))
    assert 8 == data("plan", sweep)["n_committed"]
