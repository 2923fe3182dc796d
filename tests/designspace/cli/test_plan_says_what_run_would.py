"""What a run would refuse, a plan refuses; and a command that a message names is one that works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from designspace.cli.app import app
from designspace.errors import CalibrationError
from designspace.models.calibration import load_artefact
from designspace.models.model_spec import ModelSpec
from tests.cluster.tiny import write_model

SWEEP = """\
schema: 1
study: s
models: [pocket-llama]
tasks: [{task}]
mechanisms: [full]
generation: {{temperature: 0.0, max_total_tokens: {most}, rows: 1}}
"""


def plan(folder: Path, *, task: str = "{name: chain-arithmetic, problems: 2}", most: int = 400) -> Result:
    """Plan a small sweep."""
    file = folder / "sweep.yaml"
    file.write_text(SWEEP.format(task=task, most=most))
    return CliRunner().invoke(app, ["plan", str(file), "--results", str(folder / "results")])


def test_a_prompt_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    """By the plan already."""
    refused = plan(tmp_path, most=5)

    assert refused.exit_code == 2
    assert "max_total_tokens must leave room after the longest prompt, got max_total_tokens=5" in refused.stderr
    assert plan(tmp_path).exit_code == 0


@pytest.mark.parametrize("other", ["pth: x", "path: nowhere.jsonl", "problems: many"])
def test_a_split_is_checked_beside_another_fault(tmp_path: Path, other: str) -> None:
    """Both show at once."""
    refused = plan(tmp_path, task=f"{{name: chain-arithmetic, split: confrim, {other}}}")

    assert "unknown split of task 'chain-arithmetic' 'confrim' (did you mean 'confirm'?)" in refused.stderr
    assert refused.stderr.count("sweep.yaml:") == 2


def test_the_command_that_a_missing_artefact_names_makes_it(tmp_path: Path) -> None:
    """For a model of one's own too; all artefacts are those that it can have, and what it cannot is said."""
    write_model(tmp_path / "mine", 0)
    (tmp_path / "text.txt").write_text("add 1 and 2 so 3 then " * 40)
    spec = ModelSpec("other-name", path=str(tmp_path / "mine"))
    with pytest.raises(CalibrationError) as caught:
        load_artefact(spec)
    (command,) = re.findall("make it with: designspace (.*)", str(caught.value))
    done = CliRunner().invoke(app, command.replace("FILE", str(tmp_path / "text.txt")).split())

    assert done.exit_code == 0, done.stderr
    assert load_artefact(spec).n_tokens > 100
    every = CliRunner().invoke(app, ["calibrate", str(tmp_path / "mine"), "--text", str(tmp_path / "text.txt")])
    assert every.exit_code == 0, every.stderr or every.exception
    assert re.search("^skipped: [a-z-]+: ", every.stderr, re.MULTILINE)
    assert len(every.stdout.split()) >= 2
