"""What a run would refuse, a plan refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from designspace.cli.app import app

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
