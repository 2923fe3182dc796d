"""A killed process leaves a store in which every visible row is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from designspace.store import ResultsStore

N_ROWS = 40

LOOP = """
import importlib.util, itertools, sys
spec = importlib.util.spec_from_file_location("rows", sys.argv[2])
rows = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rows)
from designspace.store import ResultsStore
store, N = ResultsStore.open(sys.argv[1]), int(sys.argv[3])
print("ready", flush=True)
for n in itertools.count():
    cell, shard = rows.CELL, f"{n:032d}"
    store.commit(cell, shard, {"cell": 1}, [rows.sample_row(i, text="x" * 2000 + str(n)) for i in range(N)])
    store.commit_grades("g1", cell, shard, [rows.grade_row(i) for i in range(N)])
    print(shard, flush=True)
"""


@pytest.mark.parametrize("step", ["link", "fsync"])
def test_a_crash_before_the_file_has_its_name_leaves_no_shard(store, make_row, ids, monkeypatch, step):
    """The shard is pending afterwards and the same commit succeeds."""
    cell, _, shard = ids
    store.commit("ff" + "0" * 62, shard, {}, [make_row()])

    def crash(*_args):
        raise KeyboardInterrupt

    store.write_cell(cell, {})  # the document comes first, and would be what crashes
    monkeypatch.setattr(os, step, crash)
    with pytest.raises(KeyboardInterrupt):
        store.commit(cell, shard, {}, [make_row()])
    monkeypatch.undo()
    again = ResultsStore.open(store.root)
    assert not again.is_committed(cell, shard)
    assert again.samples().count_rows() == 1
    assert list((store.root / "tmp").iterdir()) == []
    again.commit(cell, shard, {}, [make_row()])
    assert again.samples().count_rows() == 2


def test_grades_can_follow_after_a_crash_between_the_two_commits(store, make_row, make_grade, ids):
    """Samples without grades are visible as ungraded, and the grades fit later."""
    cell, _, shard = ids
    store.commit(cell, shard, {}, [make_row()])
    again = ResultsStore.open(store.root)
    assert again.is_committed(cell, shard)
    assert not again.grades_committed("g1", cell, shard)
    problem_ids = again.sample_rows(cell, shard)["problem_id"].to_pylist()
    again.commit_grades("g1", cell, shard, [make_grade(int(name[1:])) for name in problem_ids])
    assert again.to_pandas(["correct"])["correct"].tolist() == [True]


@pytest.mark.parametrize("delay_s", [0.013, 0.05, 0.12])
def test_sigkill_at_a_random_moment_tears_nothing(tmp_path, delay_s):
    """Every shard announced is there, every visible file is whole, and the store goes on."""
    root = tmp_path / "results"
    rows = Path(__file__).with_name("conftest.py")
    command = [sys.executable, "-c", LOOP, str(root), str(rows), str(N_ROWS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    process.stdout.readline()
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    announced = [line.strip() for line in process.stdout.read().splitlines()]
    assert process.wait() == -signal.SIGKILL

    store = ResultsStore.open(root)
    assert store.damaged() == []
    frame = store.to_pandas(["shard_id", "problem_id", "text"])
    sizes = frame.groupby("shard_id").size()
    assert set(sizes) == {N_ROWS}
    assert set(announced) <= set(sizes.index)
    assert not frame.duplicated(["shard_id", "problem_id"]).any()
    assert [key.shard_id for key in store.shards()] == sorted(sizes.index)
