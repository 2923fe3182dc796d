"""One --format for every command that prints a table: what is for programs stands alone on stdout, and is the same rows."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from designspace.cli import app as cli
from tests.designspace.query.stored_study import SOLVED, write_study

N_CELLS = 1 + 2 * len(SOLVED)
LEFT_OUT = 1
# What is asked, how many rows it has, one of their columns, and where the same rows are in the JSON.
COMMANDS = {
    "report": (N_CELLS - LEFT_OUT, "accuracy", lambda found: found["arms"]),
    "status": (N_CELLS, "n_committed", lambda found: found["studies"][0]["cells"]),
    "doctor": (1, "meaning", lambda found: found["findings"]),
    "query": (N_CELLS - LEFT_OUT, "accuracy", lambda found: found),
    "list": (3, "summary", lambda found: found["cadence"]),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of nine cells, one of which is not run, with a file that is damaged and one sample less for it."""
    root = tmp_path_factory.mktemp("formats") / "quickstart"
    write_study(root, leave_out=LEFT_OUT)
    (root / "cells" / "notes.json").write_text("{}")
    return root


def call(command: str, results: Path, *options: str) -> Result:
    """Run a command; what doctor finds makes its exit code 1."""
    arguments = {"query": [str(results), "SELECT * FROM arms"], "list": ["cadence"]}.get(command, [str(results)])
    found = CliRunner().invoke(cli.app, [command, *arguments, *options])
    assert found.exit_code in ((0, 1) if command == "doctor" else (0,)), found.output
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_every_format_holds_the_same_rows(command: str, results: Path) -> None:
    """Read back by the parsers of others; the notes of a report are on stderr."""
    n, column, rows_of = COMMANDS[command]
    listed = rows_of(json.loads(call(command, results, "--format", "json").stdout))
    read = list(csv.DictReader(io.StringIO(call(command, results, "--format", "csv").stdout)))
    lines = call(command, results, "--format", "markdown").stdout.strip().splitlines()
    headings = [cell.strip().replace("\\_", "_") for cell in lines[0].strip("|").split("|")]

    n = len(listed) if command in ("list", "doctor") else n
    assert (len(listed), len(read), len(lines) - 2) == (n, n, n) and n > 0
    assert column in listed[0] and column in read[0] and column in headings
    assert set(lines[1]) == set("|- ")
    for one, other in zip(listed, read, strict=True):
        if isinstance(one[column], float):
            assert float(other[column]) == pytest.approx(one[column])
        else:
            assert other[column].removeprefix("'") == str(one[column])


def test_notes_stand_on_stderr(results: Path) -> None:
    """What is missing is said, and is in no row."""
    found = call("report", results, "--format", "csv")
    assert "This study is not finished" in found.stderr and "not finished" not in found.stdout
    assert "This study is not finished" in call("report", results).stdout


def test_the_short_form_of_json_is_the_same(results: Path) -> None:
    """--json beside --format json says nothing new, and beside another format contradicts it."""
    both = call("status", results, "--json", "--format", "json")
    assert json.loads(both.stdout) == json.loads(call("status", results, "--json").stdout)
    refused = CliRunner().invoke(cli.app, ["status", str(results), "--json", "--format", "csv"])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--json is short for --format json, got --format csv too" in refused.stderr


@pytest.mark.parametrize("command", ["list", "plan", "status", "report", "effects", "query", "doctor", "bench"])
def test_whatever_prints_a_table_takes_the_option(command: str) -> None:
    """With the same four values."""
    text = " ".join(CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "300"}).stdout.split())
    assert "--format <table|csv|json|markdown>" in text
