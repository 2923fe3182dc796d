"""The documents name things that are there: files, tests, names of the contracts, the names that the kit goes by."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from designspace.axes import (
    Cadence,
    Decoding,
    HeadRouting,
    Needs,
    Representation,
    Scoring,
    Selector,
    SlotStore,
    Strategy,
    View,
)
from designspace.testing.conformance import check_strategy, checks
from tests.conftest import REPOSITORY

PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/README.md")
    for path in REPOSITORY.glob(pattern)
)
FOLDERS = ("designspace", "families", "sweeps", "cluster", "tests", "benchmarks", "docs", "notebooks")
# Files that a reader is told to write, and that a command writes.
TO_BE_WRITTEN = {"families/scoring/key_age.py", "benchmarks/plots"}


def text(page: str) -> str:
    """Return a document."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_lead_somewhere(page: str) -> None:
    """Relative links start at the document, paths in backticks at the top of the repository."""
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text(page)) if "://" not in link]
    paths = [path.rstrip("/") for path in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[^`\s<…]*)`", text(page))]

    assert [link for link in links if not (REPOSITORY / page).parent.joinpath(link).exists()] == []
    assert [path for path in {*paths} - TO_BE_WRITTEN if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_tests_that_are_named_exist(page: str) -> None:
    """A decision that is held to by a test says which one."""
    files = list((REPOSITORY / "tests").rglob("test_*.py"))
    known = {name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)}
    known |= {file.name for file in files}

    assert {*re.findall(r"`(test_\w+(?:\.py)?)`", text(page))} - known == set()


def test_the_page_on_views_names_all_that_a_view_gives() -> None:
    """Every public name of a view, and every need."""
    page, shown = text("docs/view.md"), {field.name for field in fields(View)} | {*dir(View)}
    shown |= {"valid", "counts", "protected", "candidates"}

    assert [name for name in sorted(shown) if not name.startswith("_") and not re.search(rf"`{name}\b", page)] == []
    assert [field.name for field in fields(Needs) if f"`{field.name}=" not in page] == []


@pytest.mark.parametrize(
    "contract", [Strategy, Scoring, Selector, HeadRouting, Cadence, Representation, Decoding, SlotStore]
)
def test_the_life_cycle_names_every_method(contract: type) -> None:
    """Whoever implements a contract finds there when each of its methods is called."""
    methods = [name for name, value in vars(contract).items() if inspect.isfunction(value) and not name.startswith("_")]

    assert methods
    assert [name for name in methods if not re.search(rf"`{name}\b", text("docs/view.md"))] == []


def test_the_strategy_of_the_guide_passes_the_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that CONTRIBUTING shows is whole."""
    blocks = re.findall(r"^```python\n(.*?)^```", text("CONTRIBUTING.md"), flags=re.DOTALL | re.MULTILINE)
    (source,) = [block for block in blocks if block.startswith('"""')]
    (tmp_path / "key_age_of_the_guide.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)

    check_strategy(importlib.import_module("key_age_of_the_guide").KeyAge(sinks=1, recent=2))


def test_the_checks_of_the_guide_exist() -> None:
    """Names in `only=` and `exempt=` are checks."""
    named = re.findall(r'(?:only|exempt)=\["([^"]+)"\]', text("CONTRIBUTING.md"))

    assert named
    assert {*named} <= {*checks("scoring")}
