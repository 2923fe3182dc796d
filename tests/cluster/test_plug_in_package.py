"""A package outside this repository: a task with its own grader, a scoring, a representation with its own store.

Each is one file and one entry point; the package lies in `tests/plug_in_package` and nothing else of this project knows it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from designspace.query import open_results

PACKAGE = Path(__file__).parents[1] / "plug_in_package"
DEADLINE_S = 300


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `designspace` where the package is installed."""
    path = os.pathsep.join([str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "designspace", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
        cwd=PACKAGE.parents[1],
    )


@pytest.mark.ray
def test_a_sweep_on_ray_runs_it_and_a_report_shows_it(tmp_path: Path) -> None:
    """Two tasks with two graders in one study: every text is graded by its own task's, and nothing warns."""
    ran = command("run", PACKAGE / "sweep.yaml", "--results", tmp_path / "out", "--workers", "2", "--progress", "none")
    assert ran.returncode == 0, ran.stderr
    shown = command("report", tmp_path / "out", "--json")
    assert shown.returncode == 0, shown.stderr

    report = json.loads(shown.stdout)
    arms = {(arm["task"], arm["mechanism"]): arm for arm in report["arms"]}
    assert set(arms) == {(t, m) for t in ("last-binding", "chain-arithmetic") for m in ("full", "oldest", "rounded")}
    assert arms["last-binding", "full"]["accuracy"] == 1.0
    assert arms["last-binding", "rounded"]["mean_cache_bytes"] < arms["last-binding", "full"]["mean_cache_bytes"] / 2
    assert not [note for note in report["notes"] if "grader" in note]
    graders = open_results(tmp_path / "out").to_pandas(["task", "grader", "grader_version"]).drop_duplicates()
    assert set(graders.itertuples(index=False, name=None)) == {
        ("last-binding", "last-binding", 1),
        ("chain-arithmetic", "math", 2),
    }


CONFORM = """
from designspace.testing.conformance import check_grader, check_strategy, check_task
from outside.half import Half
from outside.key_age import KeyAge
from outside.last_binding import TASK, BindingGrader

check_strategy(KeyAge())
check_strategy(Half())
check_task(TASK, n_problems=4)
check_grader(BindingGrader(), right=[("answer a7", "7")], wrong=[("answer a7", "8")], silent=["7"], bad_golds=["x", ""])
"""


def test_the_conformance_kit_checks_it() -> None:
    """What the kit says of shipped strategies, tasks and graders it says of these."""
    path = os.pathsep.join([str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", CONFORM],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr


def test_it_is_listed() -> None:
    """`list` names what other packages register."""
    listed = (
        command("list", "tasks").stdout + command("list", "scoring").stdout + command("list", "representation").stdout
    )

    assert all(name in listed for name in ("last-binding", "key-age", "half"))
