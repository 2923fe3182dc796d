"""Teacher-forced cells through the worker: what is stored, what it equals, that nothing grades it, resuming."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.answer_tokens import answer_tokens
from cluster.preflight import check_room
from cluster.run import run_sweep
from cluster.shard_queue import ShardSummary, Ticket
from cluster.work import PreflightError, Work, find_work
from cluster.worker import Worker
from designspace.store import ResultsStore
from designspace.store.schema import FORCED_COLUMNS
from sweeps.spec import load_sweep
from tests.cluster.tiny import write_problems, write_replicated

FORCED = (
    "[{name: greedy, base: full, decoding: greedy}, {name: full-forced, base: full, decoding: teacher-forced}, "
    "{name: sinks, base: streaming-llm, decoding: greedy}, "
    "{name: sinks-forced, base: streaming-llm, decoding: {kind: teacher-forced, of: full}}]"
)
SOLUTION = "[{name: sinks-solution, base: streaming-llm, decoding: {kind: teacher-forced, of: solution}}]"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms, each free and teacher-forced, on six problems in three shards."""
    return write_replicated(tmp_path_factory.mktemp("s"), mechanisms=FORCED, replicates=1)


@pytest.fixture(scope="module")
def results(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its results."""
    folder = tmp_path_factory.mktemp("r")
    assert run_sweep(sweep, folder, executor="inline", workers=1).complete
    return folder


def rows_of(results: Path, **labels: Any) -> dict[str, dict[str, Any]]:
    """Return the rows of an arm by problem."""
    rows = ResultsStore.open(results, create=False).samples().to_table().to_pylist()
    return {row["problem_id"]: row for row in rows if all(row[k] == v for k, v in labels.items())}


def with_solutions(sweep: Path, **changed: str | None) -> Path:
    """Give the problems of a sweep solutions, but for those that are changed, and name their column."""
    problems = sweep.parent / "problems.jsonl"
    rows = [json.loads(line) for line in problems.read_text().splitlines()]
    for row in rows:
        row["worked"] = changed.get(row["id"], "so 1 and 2 then 3")
    problems.write_text("".join(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in rows))
    text = sweep.read_text()
    sweep.write_text(text.replace("problems.jsonl}", "problems.jsonl, fields: {solution: worked}}"))
    return sweep


def test_fed_texts_are_those_of_the_greedy_full_arm(results: Path) -> None:
    """The texts equal the stored arm's, the full cache loses nothing on them, and a compressed one does."""
    greedy, full = rows_of(results, mechanism="greedy"), rows_of(results, mechanism="full-forced")
    sinks, free = rows_of(results, mechanism="sinks-forced"), rows_of(results, mechanism="sinks")
    assert 6 == len(greedy)
    for name, row in greedy.items():
        assert row["token_ids"] == full[name]["token_ids"] == sinks[name]["token_ids"]
        assert (0.0, 1.0, None) == tuple(full[name][f"forced_{c}"] for c in _FIGURES)
        assert full[name]["forced_logps"] == full[name]["forced_full_logps"] == sinks[name]["forced_full_logps"]
        assert {None} == {row[column] for column in FORCED_COLUMNS}
    assert any(row["forced_agreement"] < 1 for row in sinks.values())
    # Up to its first disagreement the arm writes what it is fed, so a free-running text leaves it there.
    for name, row in sinks.items():
        first = row["forced_first_disagreement"]
        agreed = len(row["token_ids"]) if first is None else first
        assert row["token_ids"][:agreed] == free[name]["token_ids"][:agreed]
        assert first is None or row["token_ids"][first] != free[name]["token_ids"][first]


_FIGURES = ("loss_over_full", "agreement", "first_disagreement")


def test_the_figures_follow_from_the_lists(results: Path) -> None:
    """Means, agreement and the first disagreement are those of the stored tokens; the account is of the fed text."""
    for row in rows_of(results, mechanism="sinks-forced").values():
        assert len(row["forced_logps"]) == len(row["forced_agrees"]) == row["n_new_tokens"]
        mean, full = np.mean(row["forced_logps"]), np.mean(row["forced_full_logps"])
        assert (mean, full) == pytest.approx((row["forced_logp_mean"], row["forced_logp_full_mean"]), abs=1e-6)
        assert full - mean == pytest.approx(row["forced_loss_over_full"], abs=1e-6)
        assert np.mean(row["forced_agrees"]) == pytest.approx(row["forced_agreement"])
        disagrees = [i for i, agrees in enumerate(row["forced_agrees"]) if not agrees]
        assert next(iter(disagrees), None) == row["forced_first_disagreement"]
        assert "full" == row["forced_of"]
        assert row["n_new_tokens"] - 1 == len(row["cache_tokens_per_step"])
        assert row["prompt_survival_mean"] is not None


def test_nothing_grades_a_text_that_was_fed(sweep: Path, results: Path) -> None:
    """Its shards are done without grades, and a run over them finds nothing to do."""
    for row in rows_of(results, mechanism="full-forced").values():
        assert (None, None, None) == (row["correct"], row["lenient_correct"], row["grader_id"])
    assert all(row["correct"] is not None for row in rows_of(results, mechanism="greedy").values())
    again = run_sweep(sweep, results, executor="inline", workers=1)
    assert (0, 12) == (again.n_done, again.n_cached)


@pytest.fixture
def work(sweep: Path) -> Work:
    """All shards of the sweep."""
    return find_work(load_sweep(sweep), None)


def run_shards(root: Path, work: Work, indices: Iterator[int] | list[int]) -> None:
    """Run shards, each as a bundle of its own, in a worker that is then thrown away."""
    worker = Worker(ResultsStore.open(root).root, 1)
    for index in indices:
        ((_, result),) = worker.run((Ticket(work.shards[index], 1),))
        assert isinstance(result, ShardSummary), result
    worker.close()


def test_a_worker_that_goes_on_makes_the_same_rows(work: Work, tmp_path: Path) -> None:
    """Shard by shard in three workers, in another order, the figures are those of one worker: to the bit."""
    forced = [i for i, shard in enumerate(work.shards) if shard.cell.mechanism.name == "sinks-forced"]
    run_shards(tmp_path / "one", work, forced)
    for index in forced[::-1]:
        run_shards(tmp_path / "three", work, [index])
    columns = ("token_ids", *FORCED_COLUMNS)
    one, three = (
        {name: [row[c] for c in columns] for name, row in rows_of(tmp_path / root).items()} for root in ("one", "three")
    )
    assert one == three
    assert 6 == len(one)


def test_solutions_are_fed_as_they_are(tmp_path: Path) -> None:
    """The tokens are those of the file's column, and the full cache may itself disagree with them."""
    sweep = with_solutions(write_replicated(tmp_path / "s", mechanisms=SOLUTION, replicates=1))
    run_sweep(sweep, tmp_path / "r", executor="inline", workers=1)
    rows = rows_of(tmp_path / "r")
    assert {"so 1 and 2 then 3"} == {row["text"] for row in rows.values()}
    assert {"solution"} == {row["forced_of"] for row in rows.values()}
    assert {6} == {len(row["forced_logps"]) for row in rows.values()}


@pytest.mark.parametrize(
    ("solution", "rule"),
    [
        (" ".join(["so"] * 50), "has 50 tokens, max_new_tokens leaves room for 40"),
        ("so <eos> so", "no end-of-text token before its end"),
        ("wherefore", "no tokens for a part of the solution of 'p3'"),
    ],
)
def test_solutions_that_cannot_be_fed_are_refused_at_once(tmp_path: Path, solution: str, rule: str) -> None:
    """Before anything runs, in one line."""
    made = write_replicated(tmp_path / "s", mechanisms=SOLUTION, replicates=1)
    with pytest.raises(PreflightError, match=rule):
        find_work(load_sweep(with_solutions(made, p3=solution)), None)


def test_a_task_without_solutions_is_refused_at_once(tmp_path: Path) -> None:
    """The message says what to write."""
    sweep = write_replicated(tmp_path / "s", mechanisms=SOLUTION, replicates=1)
    with pytest.raises(PreflightError, match=r"needs a solution of every problem, 'p0' has none.*fields: \{solution"):
        find_work(load_sweep(sweep), None)


def test_the_tokens_of_the_answer_are_scored_apart(tmp_path: Path) -> None:
    """At its last place in the solution; null where the solution does not say it, or where the full cache's text is fed."""
    made = write_replicated(tmp_path / "s", mechanisms=SOLUTION, replicates=1)
    run_sweep(with_solutions(made, p0="so 1 and 1 then", p1="3 so 4"), tmp_path / "r", executor="inline", workers=1)
    rows = rows_of(tmp_path / "r")
    for name, places in {"p0": [3], "p1": [0], "p2": []}.items():  # the answers are 1, 3 and 5
        row = rows[name]
        if not places:
            assert (None, None) == (row["forced_answer_agreement"], row["forced_answer_logp_mean"])
            continue
        assert row["forced_answer_agreement"] == np.mean([row["forced_agrees"][i] for i in places])
        assert row["forced_answer_logp_mean"] == pytest.approx(np.mean([row["forced_logps"][i] for i in places]))


def test_an_answer_of_several_tokens() -> None:
    """Characters are followed to their tokens, whatever the tokens are; an answer in two places counts at the last."""
    pieces = ("the ", "code", " is 4", "8", "29", "1", ". So 48", "29", "1 it", " is")

    def decode(ids: tuple[int, ...]) -> str:
        return "".join(pieces[i] for i in ids)

    ids = tuple(range(len(pieces)))
    assert answer_tokens(["48291"], ids, decode) == (6, 7, 8)
    assert answer_tokens(["48291"], ids[:6], decode) == (2, 3, 4, 5)
    assert answer_tokens(["code", "it"], ids, decode) == (1, 8)
    assert answer_tokens(["the"], ids, decode) == (0,)
    assert answer_tokens(["is"], ids, decode) == (9,)
    assert answer_tokens(["code", "none"], ids, decode) == answer_tokens([""], ids, decode) == ()


def test_what_is_fed_is_not_written(tmp_path: Path) -> None:
    """A task whose solutions are measured refuses arms that write, before anything runs."""
    made = write_replicated(tmp_path / "s", mechanisms="[full, {name: fed, base: full, decoding: teacher-forced}]")
    text = made.read_text().replace("name: gsm8k, split: test, path:", "name: planted-passcode, problems: 2}] #")
    made.write_text(text)
    sweep = load_sweep(made)
    for check in (check_room, lambda sweep: find_work(sweep, None)):
        with pytest.raises(PreflightError) as caught:
            check(sweep)
        said = [
            line for line in caught.value.problems if "needs decoding: {kind: teacher-forced, of: solution}" in line
        ]
        assert ["'full'" in said[0], "'fed'" in said[1], len(said)] == [True, True, 2]


def test_other_solutions_are_another_cell(tmp_path: Path) -> None:
    """What is fed is part of the identity of the cells that it is fed to, and of no other."""
    mechanisms = f"[streaming-llm, {SOLUTION[1:]}"
    made = with_solutions(write_replicated(tmp_path / "s", mechanisms=mechanisms, replicates=1))
    before = find_work(load_sweep(made), None).cells
    write_problems(made.parent, 6)
    from designspace.tasks.task_spec import forget_problems

    forget_problems()
    after = find_work(load_sweep(with_solutions(made, p3="so 3")), None).cells
    assert before[0].cell_id == after[0].cell_id
    assert before[1].cell_id != after[1].cell_id
