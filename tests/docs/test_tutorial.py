"""The tutorial, and how-to pages that go on with it, run from top to bottom and print what they show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs.run_page import blocks, run

# In the order in which they run, in one process and folder: what registers a strategy comes before the registry is read, and
# what goes on with a page's results after that page.
PAGES = (
    "tutorial/own-mechanism.md",
    "tutorial/first-sweep.md",
    "how-to/look-into-a-text.md",
    "how-to/extend-a-sweep.md",
    "tutorial/own-model-and-task.md",
    "tutorial/study.md",
    "how-to/use-a-mechanism.md",
)
# In `tests/harness`, where the packages are that it needs.
RUN_ELSEWHERE = "how-to/use-with-harnesses.md"


def test_the_pages_run(tmp_path: Path) -> None:
    """Every file is written, every command has its exit code, and every line that is shown was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.run_page", *(str(REPOSITORY / "docs" / page) for page in PAGES)],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]), "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_page_of_the_tutorial_is_left_out() -> None:
    """And no page has commands that are not run."""
    folders = [REPOSITORY / "docs" / folder for folder in ("tutorial", "how-to", "explanation")]
    pages = {
        page.relative_to(REPOSITORY / "docs").as_posix(): page for folder in folders for page in folder.glob("*.md")
    }
    run_by_hand = {
        name for name, page in pages.items() if {"sh", "python"} & {b.language for b in blocks(page.read_text())}
    }

    assert run_by_hand == {*PAGES, RUN_ELSEWHERE}


def test_what_a_page_shows_must_be_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another number is no difference, another word is; `…` stands for anything."""
    monkeypatch.chdir(tmp_path)
    page = (
        '```python title="a.py"\nx = 1\n```\n'
        '```python\nprint("mean  12.5, file", open("a.py").read())\n```\n```text\n{}\n```\n'
    )
    run(page.format("mean 7.1, file x = 2"))
    run(page.format("mean … x"))

    for wrong in ("median 12.5", "mean 12.5, … y", "an 12.5"):
        with pytest.raises(AssertionError, match="not printed"):
            run(page.format(wrong))


def test_a_command_must_end_as_the_page_says() -> None:
    """With 0, or with what its comment says."""
    run("```sh\ndesignspace show h3o  # exit code 2\n```\n")

    with pytest.raises(AssertionError, match="exit code 2"):
        run("```sh\ndesignspace show h3o\n```\n")
