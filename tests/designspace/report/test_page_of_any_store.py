"""Whatever a results folder holds, its page is made, says first what is missing, and is made in seconds."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.made_store import STUDY, Shape, cells_of, declare, fill, made_store
from designspace.cli.sweep_commands import print_results
from designspace.report import declared_study
from designspace.store import ResultsStore

SMALL = Shape(n_mechanisms=3)
MOST_S = 30.0  # of one core, on a page of 200 cells


@pytest.fixture
def page(tmp_path: Path) -> Callable[[ResultsStore], str]:
    """Writes the page of a store as `designspace report` does, and returns its text."""

    def make(store: ResultsStore) -> str:
        print_results(store, declared_study(store), tmp_path / "report.html")
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return make


def lede(text: str) -> str:
    """Return the line below the heading."""
    found = re.search("<p class=lede>(.*?)</p>", text)
    assert found is not None
    return found[1]


def test_an_empty_store(page, tmp_path):
    """It declares a study, and has no row of it."""
    text = page(declare(tmp_path / "made", SMALL))

    assert lede(text) == f"Study {STUDY} · 0 arms · 0 texts · not finished"
    assert "0 of 14 shards are done, and 0 of 14 arms have texts." in text
    assert "No rows yet." in text


def test_a_folder_without_a_study(page, tmp_path):
    """A store that was made and never written to."""
    text = page(ResultsStore.open(tmp_path / "made"))

    assert " · 0 arms · 0 texts" in lede(text)
    assert "No rows yet." in text


def test_a_partial_store(page, tmp_path):
    """Three cells of fourteen, of which one is of the full cache."""
    store = declare(tmp_path / "made", SMALL)
    fill(store, SMALL, list(cells_of(SMALL))[:3])
    text = page(store)

    assert lede(text) == f"Study {STUDY} · 3 arms · 36 texts · not finished"
    assert "3 of 14 shards are done, and 3 of 14 arms have texts." in text
    assert text.index("Not finished") < text.index("What was asked") < text.index("made-llama · made-task/dev")


def test_a_failed_store(page, tmp_path):
    """No shard succeeded: the page says which failed and why."""
    store = declare(tmp_path / "made", SMALL)
    for cell in cells_of(SMALL):
        reason = {"cell": f"{cell.name} on {cell.model}", "error": "OutOfMemory", "message": "no room for <b>this</b>"}
        store.record_failure(cell.cell_id, cell.cell_id[:32], 1, {**reason, "quarantined": True})
    text = page(store)

    assert lede(text).endswith("0 texts · not finished")
    assert "attempt 1: given up: OutOfMemory: no room for &lt;b&gt;this&lt;/b&gt;" in text
    assert "8 more shards failed" in text


def test_two_hundred_cells(page, tmp_path):
    """In under half a minute of one core; every arm is in the page, and every figure that there is room for."""
    shape = Shape(n_mechanisms=50, n_problems=3)
    store = made_store(tmp_path / "made", shape)
    began_s = time.process_time()
    text = page(store)

    assert time.process_time() - began_s < MOST_S
    assert lede(text) == f"Study {STUDY} · 202 arms · 606 texts"
    assert all(f"arm-{number:03d}" in text for number in range(50))
    assert len(text) < 5_000_000
