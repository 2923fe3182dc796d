"""Examples of the pages that are not run as a whole: sweeps are valid, commands exist, names are there."""

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
from tests.docs.run_page import blocks

PAGES = sorted(page for page in (REPOSITORY / "docs").rglob("*.md") if "reference" not in page.parts)


def yaml_of(page: str) -> str:
    """Return the first block of YAML of a page."""
    return yaml_blocks(page)[0]


def yaml_blocks(page: str) -> list[str]:
    """Return all of them."""
    return [block.body for block in blocks((REPOSITORY / "docs" / page).read_text()) if block.language == "yaml"]


def test_the_sweep_that_shows_most_forms_is_one() -> None:
    """It validates and expands, as it stands and with its factor of protection."""
    text = yaml_of("how-to/declare-a-sweep.md")

    assert not (shown := plan(parse_sweep(text))).refused
    assert plan(parse_sweep(text.replace("# protect: [none", "protect: [none"))).n_cells > shown.n_cells > 0


def test_a_task_of_your_own_is_declared_like_that(tmp_path: Path) -> None:
    """The block is valid in a sweep beside such a file: every field is known, every row is read."""
    whole, tasks = yaml_of("how-to/declare-a-sweep.md"), yaml_of("tasks.md")
    (tmp_path / "sweep.yaml").write_text(re.sub(r"^tasks:\n(  .*\n)+", lambda _: tasks, whole, flags=re.MULTILINE))
    rows = [f'{{"id": "{i}", "text": "Of {i}?", "choices": ["a", "b"], "key": "B"}}\n' for i in range(20)]
    (tmp_path / "capitals.jsonl").write_text("".join(rows))
    (task,) = load_sweep(tmp_path / "sweep.yaml").tasks
    problems = task.load()

    assert 0 < len(problems) < 20
    assert problems[0].prompt.endswith("?\n\n(A) a\n(B) b\n\nAnswer:")
    assert {problem.answer for problem in problems} == {"(B) b"}


@pytest.mark.parametrize("body", yaml_blocks("tasks.md")[1:])
def test_tasks_that_ship_are_declared_like_that(body: str, tmp_path: Path) -> None:
    """Each further block of the page stands in a sweep, and its problems are there."""
    rest = "schema: 1\nstudy: shipped\nmodels: [pocket-llama]\nbudgets: [64]\n"
    rest += "generation: {temperature: 0, max_new_tokens: 8, rows: 4}\n"
    arms = "" if "mechanisms:" in body else "mechanisms: [full]\n"
    (tmp_path / "sweep.yaml").write_text(rest + arms + body)
    for task in load_sweep(tmp_path / "sweep.yaml").tasks:
        assert len(task.load()) == task.problems


def test_every_grader_is_named() -> None:
    """Whoever declares a task finds all graders there are."""
    page = (REPOSITORY / "docs/tasks.md").read_text()

    assert [kind for kind in lookup.grader_kinds() if f"`{kind}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_exist(page: Path) -> None:
    """Every line of a block that begins with `designspace` names a command and options that it has."""
    bodies = re.findall(r"^```(?:sh|text)?\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [
        line.split("#")[0].split() for body in bodies for line in body.splitlines() if line.startswith("designspace ")
    ]

    for _, name, *arguments in lines:
        help_text = CliRunner().invoke(app, [name, "--help"])
        assert help_text.exit_code == 0, name
        assert [word for word in arguments if word.startswith("--") and word not in help_text.output] == []
