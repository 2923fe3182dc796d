"""`query` and `export`: the same numbers in every format, what was written is said, nothing is overwritten unasked."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from designspace import open_results
from designspace.cli import app as cli
from tests.designspace.query.stored_study import write_study


def call(*arguments: object, code: int = 0) -> Result:
    """Run the command, as wide as it likes, and check its exit code."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert code == result.exit_code, result.output
    return result


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study."""
    root = tmp_path_factory.mktemp("cli") / "r"
    write_study(root)
    return root


def test_one_number_everywhere(results: Path, tmp_path: Path) -> None:
    """Accuracy, interval, mean cache of every arm: notebook, terminal, page, CSV, Parquet, SQL, Markdown and LaTeX."""
    arms = open_results(results).summary()
    for suffix in ("csv", "parquet", "jsonl", "md", "tex"):
        call("export", results, "--table", "arms", "--out", tmp_path / f"arms.{suffix}")
    call("report", results, "--html", tmp_path / "page.html")
    terminal, page = call("report", results).stdout, (tmp_path / "page.html").read_text()
    markdown, latex = (tmp_path / "arms.md").read_text(), (tmp_path / "arms.tex").read_text()
    names = [
        "mechanism",
        "budget",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "mean_cache_tokens",
        "mean_cache_bytes",
    ]
    asked = call("query", results, f"SELECT {', '.join(names)} FROM arms", "--format", "json").stdout
    exact: list[list[dict[str, Any]]] = [
        [{name: row[name] if name in names[:2] else float(row[name]) for name in names} for row in rows]
        for rows in (
            csv.DictReader((tmp_path / "arms.csv").open()),
            pq.read_table(tmp_path / "arms.parquet").to_pylist(),
            map(json.loads, (tmp_path / "arms.jsonl").read_text().splitlines()),
            json.loads(asked),
        )
    ]
    for rows in exact:
        assert rows == arms[names].to_dict("records")
    for arm in arms.itertuples():
        shown = [f"{100 * arm.accuracy:.1f}", f"{100 * arm.accuracy_low:.1f}–{100 * arm.accuracy_high:.1f}"]
        mean = f"{arm.mean_cache_tokens:.1f}"
        (row,) = [line for line in markdown.splitlines() if f"| {arm.budget} | {arm.mechanism} |" in line]
        assert f"| {' | '.join([*shown, mean])} |" in row
        (row,) = [line for line in latex.splitlines() if line.startswith(f"{arm.budget} & {arm.mechanism} &")]
        assert f"& {shown[0]} & {shown[1].replace('–', '--')} & {mean} &" in row
        row = re.escape(shown[0]) + r"\s+" + re.escape(shown[1])
        assert re.search(rf"{re.escape(arm.mechanism)}\s+{row}.*{re.escape(mean)}", terminal)
        assert all(number in page for number in (*shown, mean))


def test_contrasts_in_every_format(results: Path, tmp_path: Path) -> None:
    """Points, interval and p are those of the notebook; a void contrast has a reason and no number."""
    contrasts = open_results(results).contrasts("h2o+none")
    for suffix in ("csv", "md", "tex"):
        options = ("--table", "contrasts", "--against", "h2o+none", "--out", tmp_path / f"c.{suffix}")
        assert (
            f"wrote 6 contrasts x {21 if suffix == 'csv' else 6} columns: " in call("export", results, *options).stdout
        )
    rows = list(csv.DictReader((tmp_path / "c.csv").open()))
    markdown, latex = (tmp_path / "c.md").read_text(), (tmp_path / "c.tex").read_text()

    for row, one in zip(rows, contrasts.itertuples(), strict=True):
        assert (row["arm"], row["budget"]) == (one.arm, one.budget)
        if row["void"]:
            assert (row["points"], row["p_value"]) == ("", "")
            assert f"| {one.budget} | {one.arm} | void | – | – | – / – / 12 |" in markdown
        else:
            assert float(row["points"]) == one.points and float(row["p_value"]) == one.p_value
            interval = f"{one.low_points:+.1f} to {one.high_points:+.1f}"
            shown = f"{one.points:+.1f} | {interval} | {one.p_value:.4f}"
            assert f"| {one.budget} | {one.arm} | {shown} |" in markdown
            assert shown.replace(" | ", " & ").replace("-", "$-$") in latex
    assert "snapkv+none at budget 80: the realised means must agree within 2.0%" in markdown


def test_export_says_what_it_wrote_and_overwrites_nothing(results: Path, tmp_path: Path) -> None:
    """Rows, columns and path; a second time it asks for --overwrite, with exit code 2 and the file as it was."""
    out = tmp_path / "rows.csv"
    assert call("export", results, "--out", out).stdout.strip() == f"wrote 108 rows x 66 columns: {out}"
    before = out.read_bytes()
    assert "exists already: give --overwrite" in call("export", results, "--out", out, code=2).stderr
    assert out.read_bytes() == before
    call("export", results, "--out", out, "--table", "arms", "--overwrite")
    assert out.read_bytes() != before
    call("export", results, "--out", tmp_path / "parts", "--partition", "mechanism")
    assert (
        "name a new folder"
        in call("export", results, "--out", tmp_path / "parts", "--partition", "task", code=2).stderr
    )
    texts = tmp_path / "texts.jsonl"
    assert call("export", results, "--out", texts, "--completions").stdout.strip() == f"wrote 108 completions: {texts}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "x.xlsx"), "export writes parquet, csv, jsonl, markdown, latex, got 'xlsx'"),
        (("--out", "x"), "got ''"),
        (("--out", "x.md", "--table", "rows"), "--table rows is written as parquet, csv, jsonl, got markdown"),
        (("--out", "x.csv", "--partition", "model"), None),
        (("--out", "x", "--partition", "modle"), "unknown column 'modle' (did you mean 'model'?)"),
        (("--out", "x", "--partition", "model", "--format", "csv"), "--partition divides rows into Parquet files"),
        (("--out", "x", "--partition", "model", "--table", "arms"), "--partition divides rows into Parquet files"),
        (("--out", "x.csv", "--against", "h2o+none"), "--against needs --table contrasts"),
        (("--out", "x.jsonl", "--completions", "--table", "arms"), "--completions writes one JSON Lines file"),
        (("--out", "x.csv", "--table", "contrasts", "--against", "h2o"), "unknown arm 'h2o'"),
    ],
)
def test_options_that_do_not_go_together(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str | None
) -> None:
    """One line and exit code 2, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    done = call("export", results, *options, code=0 if message is None else 2)
    if message is not None:
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert list(tmp_path.iterdir()) == []


def test_query_prints_rows_in_four_formats(results: Path) -> None:
    """Aligned for people with the number of rows, the others whole."""
    sql = "SELECT mechanism, accuracy, budget_tokens FROM arms WHERE budget IN ('80', 'none') ORDER BY 2 DESC LIMIT 2"
    printed = {
        form: call("query", results, sql, "--format", form).stdout for form in ("table", "csv", "json", "markdown")
    }

    assert printed["table"].splitlines() == [
        "mechanism   accuracy  budget_tokens",
        "----------  --------  -------------",
        "full               1",
        "alpha+none      0.75             80",
        "(2 rows)",
    ]
    assert printed["csv"].splitlines() == [
        '"mechanism","accuracy","budget_tokens"',
        '"full",1,',
        '"alpha+none",0.75,80',
    ]
    assert json.loads(printed["json"])[1] == {"mechanism": "alpha+none", "accuracy": 0.75, "budget_tokens": 80}
    assert printed["markdown"].splitlines()[0] == r"| mechanism | accuracy | budget\_tokens |"
    assert printed["markdown"].splitlines()[3] == "| alpha+none | 0.75 | 80 |"


def test_query_cuts_long_texts_for_people_only(results: Path) -> None:
    """An ellipsis shows where."""
    sql = "SELECT text FROM samples LIMIT 1"
    assert call("query", results, sql).stdout.splitlines()[2].endswith("…")
    (row,) = json.loads(call("query", results, sql, "--format", "json").stdout)
    assert len(row["text"]) > 60


def test_a_query_of_an_unfinished_study_says_so(tmp_path: Path) -> None:
    """On stderr, in one line; with two studies it asks which."""
    write_study(tmp_path, leave_out=1)
    done = call("query", tmp_path, "SELECT count(*) n FROM arms", "--format", "csv")
    assert done.stderr.startswith("! This study is not finished: 8 of 9 shards are done")
    assert done.stdout == '"n"\n8\n'
    write_study(tmp_path, "other")
    asked = call("query", tmp_path, "SELECT 1 FROM arms", code=2)
    assert "holds 2 studies, so say which one with --study: other, quickstart" in asked.stderr
    assert (
        call("query", tmp_path, "SELECT count(*) n FROM arms", "--study", "other", "--format", "csv").stdout
        == '"n"\n9\n'
    )


def test_effects_of_a_folder(results: Path, tmp_path: Path) -> None:
    """The study of the folder, without its sweep file; of an empty folder and of a path that is not there, exit code 2."""
    found = json.loads(call("effects", results, "--json").stdout)

    assert [(group["model"], group["task"], group["budget"]) for group in found] == [
        ("trace-llama", "trace-recall/dev", "80"),
        ("trace-llama", "trace-recall/dev", "112"),
    ]
    selector = next(effect for effect in found[0]["main"]["effects"] if effect["axes"] == ["selector"])
    assert selector["effect"] == pytest.approx(1 / 12)
    for path in (tmp_path, tmp_path / "nowhere"):
        call("effects", path, code=2)
    assert "unknown study 'quick'" in call("effects", results, "--study", "quick", code=2).stderr
