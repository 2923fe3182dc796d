"""The page of questions is true: every block of Python runs in its order, every command ends well, on a small folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from designspace.cli.app import app
from tests.conftest import REPOSITORY
from tests.designspace.query.stored_study import write_study

PAGE = (REPOSITORY / "docs/questions.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
COMMANDS = [line for language, body in BLOCKS if not language for line in body.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page's paths lead to."""
    write_study(tmp_path / "results/quickstart")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_runs_and_prints(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one namespace, as in a notebook; each answer prints something, and has at most three lines."""
    namespace: dict[str, object] = {}
    for number, body in enumerate(body for language, body in BLOCKS if language == "python"):
        exec(compile(body, "docs/questions.md", "exec"), namespace)
        printed = capsys.readouterr().out
        if number:
            assert printed.strip(), body
            assert len([line for line in body.splitlines() if line]) <= 3, body
    assert "trace-dev-00008" in str(namespace["right"])


def test_the_answers_are_those_of_the_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Alpha solves nine problems at 80 and triattention eight of them, so the ninth tells them apart."""
    namespace: dict[str, object] = {}
    for language, body in BLOCKS[:5]:
        if language == "python":
            exec(compile(body, "docs/questions.md", "exec"), namespace)
    printed = capsys.readouterr().out

    assert "[('trace-llama', 'trace-dev-00008')]" in printed
    assert "alpha+none\nright\nt8 t20" in printed and "triattention+none\nwrong\nt8 t20" in printed


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_ends_well(folder: Path, line: str) -> None:
    """But for those that run a model, which have tests of their own: that they know the options is enough."""
    _, *arguments = shlex.split(line)
    runs_a_model = arguments[0] in ("bench", "trace")
    done = CliRunner().invoke(app, [*arguments, "--help"] if runs_a_model else arguments)

    assert done.exit_code == 0, done.output
    assert done.stdout.strip()


def test_there_are_ten() -> None:
    """Numbered, and each with an answer."""
    sections = re.split(r"^## \d+\. ", PAGE, flags=re.MULTILINE)[1:]

    assert len(sections) == 10
    assert all("```" in section for section in sections)
