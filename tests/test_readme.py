"""Every block of the README is true: Python runs, YAML is a valid sweep, commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from designspace.cli.app import app
from designspace.tasks import lookup
from sweeps.plan import plan
from sweeps.spec import load_sweep, parse_sweep
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return [body for found, body in BLOCKS if found == language]


@pytest.mark.parametrize("source", blocks("python"))
def test_python_blocks_run(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each block is a whole program."""
    exec(compile(source, "README.md", "exec"), {})

    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("source", [block for block in blocks("yaml") if block.startswith("schema:")])
def test_yaml_blocks_are_sweeps(source: str) -> None:
    """Each block validates and expands."""
    planned = plan(parse_sweep(source))

    assert planned.n_cells > 0
    assert not planned.refused


def test_a_task_of_your_own_is_declared_like_that(tmp_path: Path) -> None:
    """The block with tasks alone is valid in a sweep beside such a file: every field is known, every row is read."""
    whole, tasks = blocks("yaml")
    (tmp_path / "sweep.yaml").write_text(re.sub(r"^tasks:\n(  .*\n)+", lambda _: tasks, whole, flags=re.MULTILINE))
    rows = [f'{{"id": "{i}", "text": "Of {i}?", "choices": ["a", "b"], "key": "B"}}\n' for i in range(20)]
    (tmp_path / "capitals.jsonl").write_text("".join(rows))
    (task,) = load_sweep(tmp_path / "sweep.yaml").tasks
    problems = task.load()

    assert 0 < len(problems) < 20
    assert problems[0].prompt.endswith("?\n\n(A) a\n(B) b\n\nAnswer:")
    assert {problem.answer for problem in problems} == {"(B) b"}


def test_every_grader_is_named() -> None:
    """Whoever declares a task finds all graders there are."""
    assert [kind for kind in lookup.grader_kinds() if f"`{kind}`" not in README] == []


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
