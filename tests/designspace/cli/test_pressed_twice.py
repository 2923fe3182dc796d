"""Ctrl-C pressed again while the program ends: the exit code and the one line of pressing it once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.tiny import write_sweep


@pytest.mark.parametrize("pause_s", [0.02, 0.2])
def test_ctrl_c_twice(tmp_path: Path, pause_s: float) -> None:
    """Once while it works, once more while it winds up."""
    sweep, results = write_sweep(tmp_path, max_new_tokens=400), tmp_path / "results"
    options = ["--executor", "inline", "--no-report", "--progress", "none", "--results", str(results)]
    process = subprocess.Popen(
        [sys.executable, "-m", "designspace", "run", str(sweep), *options],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline_s = time.monotonic() + 120
    while not list(results.rglob("*.parquet")) and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(pause_s)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130, errors
    assert errors.splitlines()[-1:] == ["stopped; what is committed stays, and the same command goes on from there"]
