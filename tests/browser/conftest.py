"""A browser, and pages to open in it.

Run with `make test-browser`: Playwright drives Debian's Chromium, and axe-core judges accessibility. Both are for tests only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from designspace.report import table_report, write_report
from designspace.report.asked import Asked
from tests.conftest import REPOSITORY
from tests.designspace.report.conftest import SCHEMA, result_row

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
AXE = Path(os.environ.get("AXE", REPOSITORY / "build/browser/axe.min.js"))
PICTURES = REPOSITORY / "build/browser/pictures"
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SCREENS = [(1400, "light"), (1400, "dark"), (390, "light"), (390, "dark")]
SCORINGS = (
    "h2o",
    "snapkv",
    "r-kv",
    "random",
    "streaming-llm",
    "triattention",
    "knorm",
    "tova",
    "a-name/that-is-long/and-has-parts",
)


def rows() -> Iterator[dict[str, Any]]:
    """Yield two models, two budgets and ten arms on 24 problems, whose accuracies and sizes all differ."""
    full = {"mechanism": "full", "budget": "none", "budget_tokens": None, "budget_of": None, "n_events": 0}
    full |= {"mean_cache_tokens": 138.1, "steady_mean_cache_tokens": None, "mean_cache_bytes": 280000.0}
    for m, model in enumerate(("llama", "qwen2")):
        arms = [(full, 23 - m)]
        for b, budget in enumerate((80, 112)):
            for a, scoring in enumerate(SCORINGS):
                size = budget - 4 + 0.11 * a + (9 if scoring == "tova" else 0)
                arm = {"mechanism": scoring, "budget": str(budget), "budget_tokens": budget, "mean_cache_tokens": size}
                arm |= {
                    "steady_mean_cache_tokens": float(budget),
                    "mean_cache_bytes": 1900.0 * size,
                    "mean_read_bytes": 2000.0 * size,
                }
                arms.append((arm, 4 + 2 * a + 3 * b - m))
        for arm, n_right in arms:
            for i in range(24):
                right = (i * 7) % 24 < n_right
                yield arm | {
                    "model": model, "problem_id": f"p{i:02d}", "kind": "loop" if i % 2 else "once", "correct": right,
                    "extracted": "1" if right or i % 3 else None, "finish_reason": "stop" if right or i % 5 else "length",
                    "n_new_tokens": 100 + i,
                }  # fmt: skip


@pytest.fixture(scope="session")
def table() -> pa.Table:
    """Rows of a grid of arms."""
    return pa.Table.from_pylist([result_row(**row) for row in rows()], schema=SCHEMA)


@pytest.fixture(scope="session")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a page of rows."""

    def make(source: Any, *, title: str = "grid", **options: Any) -> Path:
        path = tmp_path_factory.mktemp("page") / "report.html"
        return write_report(source, path, title=title, environment={"python": "3"}, **options)

    return make


@pytest.fixture(scope="session")
def page_file(table: pa.Table, write: Callable[..., Path]) -> Path:
    """The page of the grid, as of a study that is not finished."""
    levels = {
        "scoring": {name: name.split("/")[0] for name in SCORINGS},
        "protect": {n: "prompt" if "r" in n else "none" for n in SCORINGS},
    }
    asked = Asked(
        {"models": "llama, qwen2"}, {"results folder": "grid"}, "study: grid\nmodels: [llama]\n", levels=levels
    )
    return write(replace(table_report(table), missing=("Only 24 of 40 problems.",)), asked=asked)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Any]:
    """The driver of the browser."""
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make test-browser")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with api.sync_playwright() as driver:
        yield driver


class Tab:
    """A page in the browser, and all that it said and asked for."""

    def __init__(self, tab: Any) -> None:
        self.tab = tab
        self.said: list[str] = []
        self.asked: list[str] = []
        tab.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        tab.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: Path) -> Any:
        """Open a file, and wait until its figures are drawn."""
        self.tab.goto(path.as_uri())
        self.tab.wait_for_timeout(300)
        return self.tab

    def keep_picture(self, name: str) -> None:
        """Keep a picture of the whole page for whoever wants to look at it."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.tab.screenshot(path=PICTURES / f"{name}.png", full_page=True)


@pytest.fixture
def browse(playwright: Any, tmp_path: Path) -> Iterator[Callable[..., Tab]]:
    """Opens a file in a window of a width, with a colour scheme, with a new profile each time."""
    contexts = []

    def make(width: int = 1400, scheme: str = "light", **options: Any) -> Tab:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / f"profile{len(contexts)}", executable_path=CHROMIUM, headless=True, args=list(ARGUMENTS),
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True, **options,
        )  # fmt: skip
        contexts.append(context)
        return Tab(context.new_page())

    yield make
    for context in contexts:
        context.close()
