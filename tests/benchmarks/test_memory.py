"""The table of measured and stated memory: one arm for real, at a size where only the shape of the answer counts."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from benchmarks.memory import Found, Setting, _cells, measure


@pytest.mark.skipif(sys.platform != "linux", reason="resets the peak that Linux remembers")
def test_a_small_measurement() -> None:
    """Rows make the cache as large as asked; what is measured holds at least the cache.

    In a process of its own: in one that has freed memory before, a new cache takes none from the system.
    """
    setting = Setting("pocket-llama", "snapkv", 48, 56, 6, cache_mib=8, device="cpu", threads=1)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        found = alone.submit(measure, setting).result()
    assert 7 * 2**20 < found.cache < 9 * 2**20
    assert found.rows > 10
    assert 0.3 * found.cache < found.measured < 10 * (found.cache + found.workspace)


def test_a_line_of_the_table() -> None:
    """Mebibytes, and measured over stated."""
    found = Found(rows=64, measured=9 * 2**20, cache=8 * 2**20, workspace=2 * 2**20)
    assert _cells(found) == ("64", "9.0", "8.0", "2.0", "0.90")
    assert _cells(None)[0] == "no calibration"
