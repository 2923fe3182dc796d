"""More problems of a task generate only what is new, and what is taken over is what would have been generated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.code_id import code_id as state_of_code
from cluster.run import RunOutcome, run_sweep
from designspace.store import ResultsStore
from designspace.tasks.task_spec import forget_problems
from sweeps.earlier_rows import EarlierRows
from sweeps.plan import Plan, plan
from sweeps.spec import load_sweep
from tests.cluster.tiny import write_model

PASSING = {"wall_s", "shard_wall_s", "started_at", "worker", "study", "attempt", "cell_id", "shard_id", "taken_from"}
SWEEP = """\
schema: 1
study: more
models: [{{name: tiny, path: {folder}/tiny}}]
tasks: [{{name: sums, path: {folder}/sums.jsonl, answer: integer, problems: {problems}{room}}}]
budgets: [24]
mechanisms: [full, random, streaming-llm]
seeds: {{count: 2, root: 3}}
generation: {{temperature: 1.0, max_new_tokens: 40, rows: 5}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and 9 problems: of the last three, the first is the shortest of all and the last the longest."""
    made = tmp_path_factory.mktemp("more")
    write_model(made / "tiny", 0)
    asked = ["add 1 and 2", *(f"add 1 and then {i}" for i in range(5)), "add 7", "add 1 and 3", "add 2 and so then 2"]
    rows = [{"id": f"p{i}", "problem": text, "answer": "3"} for i, text in enumerate(asked)]
    (made / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def declared(folder: Path, problems: int, room: int | None = None) -> Path:
    """Return a sweep file over the first problems."""
    said = "" if room is None else f", prompt_room: {room}"
    (folder / "more.yaml").write_text(SWEEP.format(folder=folder, problems=problems, room=said))
    return folder / "more.yaml"


def run(folder: Path, results: Path, problems: int, room: int | None = None) -> RunOutcome:
    """Run the first problems."""
    return run_sweep(declared(folder, problems, room), results, executor="inline", progress="none")


def planned(folder: Path, results: Path, problems: int, room: int | None = None) -> Plan:
    """Plan the first problems against what is there."""
    store = ResultsStore.open(results, create=False)
    return plan(load_sweep(declared(folder, problems, room)), store, EarlierRows(store, state_of_code()))


def rows_of(results: Path, cells: set[str]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the rows of some cells, less what differs between two runs of one cell."""
    table = ResultsStore.open(results, create=False).samples(cell_ids=cells).to_table()
    return {
        (row["mechanism"], row["replicate"], row["problem_id"]): {k: v for k, v in row.items() if k not in PASSING}
        for row in table.to_pylist()
    }


def test_what_is_there_is_taken_and_equals_what_would_be_generated(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """6 problems become 9 under a declared room: 3 are generated, in shards that the others are taken into."""
    run(folder, tmp_path / "r", 6, room=24)
    before = planned(folder, tmp_path / "r", 9, room=24)
    assert (before.n_rows_taken, before.n_rows_to_generate) == (6 * 6, 6 * 3)
    assert before.max_new_tokens_pending == 6 * 3 * 40

    found = run_sweep(declared(folder, 9, 24), tmp_path / "r", executor="inline", progress="plain")
    said = capsys.readouterr().err
    assert "(36 rows of them are there of the same cells with fewer problems), at most 720 tokens to generate" in said
    fresh = run(folder, tmp_path / "fresh", 9, room=24)
    cells = {cell.cell_id for cell in before.cells}
    assert found.complete and found.n_rows == fresh.n_rows == 54
    assert rows_of(tmp_path / "r", cells) == rows_of(tmp_path / "fresh", cells)
    taken = ResultsStore.open(tmp_path / "r").samples(["problem_id", "taken_from", "n_new_tokens"], cell_ids=cells)
    sources = {(row["problem_id"], row["taken_from"] is None) for row in taken.to_table().to_pylist()}
    assert sources == {(f"p{i}", i >= 6) for i in range(9)}
    assert found.n_new_tokens == sum(r["n_new_tokens"] for r in taken.to_table().to_pylist() if not r["taken_from"])
    assert planned(folder, tmp_path / "r", 9, room=24).n_pending == 0


def test_without_a_declared_room_lengths_decide(folder: Path, tmp_path: Path) -> None:
    """A shorter or a longer prompt makes another engine, whose numbers nobody has proven equal; another like it does not."""
    run(folder, tmp_path / "r", 6)
    assert planned(folder, tmp_path / "r", 9).n_rows_taken == 0
    lines = (folder / "sums.jsonl").read_text().splitlines()
    (folder / "sums.jsonl").write_text("\n".join([*lines[:6], lines[7]]) + "\n")
    forget_problems()
    try:
        assert planned(folder, tmp_path / "r", 7).n_rows_taken == 6 * 6
    finally:
        (folder / "sums.jsonl").write_text("\n".join(lines) + "\n")
        forget_problems()


def test_what_may_differ_is_generated_again(folder: Path, tmp_path: Path) -> None:
    """Another state of the code, another gold answer of an earlier problem, another room, or a registration."""
    run(folder, tmp_path / "r", 6, room=24)
    store = ResultsStore.open(tmp_path / "r", create=False)

    def n_taken(code: str = state_of_code(), room: int = 24) -> int:
        return plan(load_sweep(declared(folder, 9, room)), store, EarlierRows(store, code)).n_rows_taken

    assert n_taken() == 36
    assert n_taken(code="another") == 0
    assert n_taken(room=25) == 0
    whole = (folder / "sums.jsonl").read_text()
    (folder / "sums.jsonl").write_text(whole.replace('"3"', '"4"', 1))
    forget_problems()
    assert n_taken() == 0
    (folder / "sums.jsonl").write_text(whole)
    forget_problems()
    (tmp_path / "r" / "protocol").mkdir()
    assert n_taken() == 0


def test_a_prompt_that_is_longer_than_its_room_is_refused(folder: Path, tmp_path: Path) -> None:
    """Before anything runs, with both numbers."""
    with pytest.raises(
        Exception, match=r"prompt_room must hold the longest prompt of task 'sums', which has .* tokens"
    ):
        run(folder, tmp_path / "r", 9, room=5)
