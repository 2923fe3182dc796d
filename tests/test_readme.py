"""Every block of the README is true: YAML is a valid sweep, commands exist."""

from __future__ import annotations

import re
import warnings

import pytest
from typer.testing import CliRunner

from designspace.axes.mechanism import AXES
from designspace.cli.app import app
from designspace.registry import kinds
from sweeps.plan import plan
from sweeps.spec import parse_sweep
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return [body for found, body in BLOCKS if found == language]


@pytest.mark.parametrize("source", blocks("yaml"))
def test_yaml_blocks_are_sweeps(source: str) -> None:
    """Each block validates and expands."""
    planned = plan(parse_sweep(source))

    assert planned.n_cells > 0
    assert not planned.refused


@pytest.mark.parametrize("source", blocks("python"))
def test_python_blocks_run(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each prints something, and warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(source, "a block of the README", "exec"), {})

    assert re.search(r" \d\d\.\d+$", capsys.readouterr().out)


def test_the_strategies_that_are_named_exist() -> None:
    """In the table of axes; the page that it leads to has all of them."""
    rows = re.findall(r"^\| ([a-z ]+) \| [^|?]+\? \| (.*) \|$", README, re.MULTILINE)
    named = {axis.replace(" ", "_"): re.findall(r"`([^`]+)`", examples) for axis, examples in rows}

    assert {*named} == {*AXES}
    for axis, found in named.items():
        assert {*found} <= {*kinds(axis), *(kinds("selector") if axis == "scoring" else ())}


def test_commands_exist() -> None:
    """Every `designspace …` line names a command."""
    named = {line.split()[1] for body in blocks("") for line in body.splitlines() if line.startswith("designspace ")}

    assert {"plan", "run", "status", "report", "list", "show", "export"} <= named
    for name in sorted(named):
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0, name


def test_make_targets_exist() -> None:
    """Every `make …` line names a target of the Makefile."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = {line.split()[1] for body in blocks("") for line in body.splitlines() if line.startswith("make ")}

    assert named
    assert all(re.search(rf"^{name}:", makefile, flags=re.MULTILINE) for name in named)


def test_links_lead_somewhere() -> None:
    """Relative links are files of the repository."""
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if not t.startswith("http")]

    assert targets
    assert [t for t in targets if not (REPOSITORY / t).exists()] == []


def test_the_table_is_that_of_the_quickstart() -> None:
    """Its rows are columns 80 of the page that has them all."""

    def rows(text: str) -> dict[str, list[str]]:
        found = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| `.*", text, re.MULTILINE)
        ]
        return {name: cells for name, *cells in found if re.match(r"\d", cells[0])}

    whole = rows((REPOSITORY / "docs/quickstart.md").read_text(encoding="utf-8"))

    assert len(whole) > 5
    assert rows(README) == {name: [cells[0], cells[1], cells[4], cells[5]] for name, cells in whole.items()}
