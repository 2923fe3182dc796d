"""Shards that share an engine: the rows of shards run one by one, committed one by one, and an engine that stays full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from cluster.shard_queue import ShardSummary, Ticket
from cluster.work import Work, find_work
from cluster.worker import Worker
from designspace import open_results
from designspace.axes import Generation, Request
from designspace.axes.randomness import sample_streams, stream_key
from designspace.engine import Engine
from designspace.store import ResultsStore
from designspace.tasks.grading import MathGrader
from families.decoding.sampling import Sampling
from families.decoding.self_consistency import SelfConsistency
from sweeps.spec import load_sweep
from tests.cluster.test_run import inline, stable_table
from tests.cluster.tiny import write_replicated

VOTE = """
  - streaming-llm
  - name: vote
    base: streaming-llm
    decoding: {kind: self-consistency, samples: 3, matched: integral, decoding: {kind: sampling, temperature: 1.0}}
"""


def all_tickets(sweep: Path) -> tuple[Ticket, ...]:
    """Return first attempts at all shards of a sweep."""
    work: Work = find_work(load_sweep(sweep), None)
    return tuple(Ticket(shard, 1) for shard in work.shards)


def new_worker(results: Path) -> Worker:
    """Return a worker on an empty store."""
    return Worker(ResultsStore.open(results).root, 1, study="tiny")


def one_by_one(sweep: Path, results: Path) -> None:
    """Run every shard by itself."""
    worker = new_worker(results)
    for ticket in all_tickets(sweep):
        ((_, result),) = worker.run((ticket,))
        assert isinstance(result, ShardSummary), result
    worker.close()


def row_order(results: Path) -> dict[str, tuple[str, ...]]:
    """Return the problems of every shard as they stand in its file."""
    by_shard = open_results(results).to_pandas().groupby("shard_id", sort=False)["problem_id"]
    return {str(shard_id): tuple(names) for shard_id, names in by_shard}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many generations each engine run was asked for."""
    sizes: list[int] = []
    generate = Engine.generate

    def counting(self: Engine, requests: Iterable[Request]) -> Iterator[Generation]:
        requests = list(requests)
        sizes.append(len(requests))
        yield from generate(self, requests)

    monkeypatch.setattr(Engine, "generate", counting)
    return sizes


def test_the_rows_are_those_of_shards_run_one_by_one(tmp_path: Path, asked: list[int]) -> None:
    """Blocks and replicates mixed in one engine, with several samples of a problem too: only timings differ."""
    sweep = write_replicated(tmp_path / "s", mechanisms=VOTE, n_problems=5)
    one_by_one(sweep, tmp_path / "alone")
    assert [2, 2, 1] * 3 + [6, 6, 3] * 3 == asked
    asked.clear()
    inline(sweep, tmp_path / "together")
    assert [15, 45] == asked
    alone, together = stable_table(tmp_path / "alone"), stable_table(tmp_path / "together")
    assert 30 == len(together)
    assert 15 == together.loc[together["mechanism"] == "streaming-llm", "text"].nunique()  # a mix-up would show
    pd.testing.assert_frame_equal(alone, together)
    assert row_order(tmp_path / "alone") == row_order(tmp_path / "together")


def test_votes_are_counted_over_the_samples_of_one_replicate_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ties go to the first, and the steps of the samples are stored one after the other."""
    combine, streams = SelfConsistency.combine, []

    def noting(self: SelfConsistency, name: str, generations: list[Generation], texts: list[str]) -> Generation:
        streams.append([g.stream for g in generations])
        return combine(self, name, generations, texts)

    monkeypatch.setattr(SelfConsistency, "combine", noting)
    inline(write_replicated(tmp_path / "s", mechanisms=VOTE), tmp_path / "r")
    expected = [sample_streams(stream_key(7, f"p{i}", replicate), 3) for replicate in range(3) for i in range(6)]
    assert sorted(expected) == sorted(streams)


def test_a_shard_is_committed_and_graded_before_its_bundle_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, each with all of its rows; the first one while the engine still has most before it."""
    bundle, worker = all_tickets(write_replicated(tmp_path / "s")), new_worker(tmp_path / "r")
    n_stored, n_generated, generate = [], [], Engine.generate

    def counting(self: Engine, requests: Iterable[Request]) -> Iterator[Generation]:
        for n, generation in enumerate(generate(self, requests), start=1):
            n_generated.append(n)
            yield generation

    monkeypatch.setattr(Engine, "generate", counting)
    for ticket, result in worker.run(bundle):
        assert isinstance(result, ShardSummary), result
        assert worker.store.is_committed(ticket.shard.cell.cell_id, ticket.shard.shard_id)
        assert worker.store.grades_committed(MathGrader().grader_id, ticket.shard.cell.cell_id, ticket.shard.shard_id)
        n_stored.append(len(worker.store.shards()))
        assert n_generated[-1] < 18 / 2 or len(n_stored) > 1
    worker.close()
    assert list(range(1, len(bundle) + 1)) == n_stored


def test_a_shards_span_holds_those_of_its_rows(tmp_path: Path) -> None:
    """From the start of its first generation; so the spans of shards overlap, and begin at moments of their own."""
    inline(write_replicated(tmp_path / "s"), tmp_path / "r")
    rows = open_results(tmp_path / "r").to_pandas()
    assert (rows["wall_s"] <= rows["shard_wall_s"]).all()
    by_shard = rows.groupby("shard_id")[["started_at", "shard_wall_s"]]
    assert (by_shard.nunique() == 1).all(axis=None)
    assert 9 == by_shard.first()["started_at"].nunique()


def test_what_is_stored_already_is_only_graded(tmp_path: Path, asked: list[int]) -> None:
    """A bundle may hold shards of which grades alone are missing."""
    bundle, worker = all_tickets(write_replicated(tmp_path / "s")), new_worker(tmp_path / "r")
    list(worker.run(bundle[2:4]))
    found = dict(worker.run(bundle))
    worker.close()
    assert [4, 14] == asked
    assert list(bundle[2:4]) == list(found)[:2]
    assert {True: 7, False: 2} == pd.Series([r.generated for r in found.values()]).value_counts().to_dict()  # type: ignore[union-attr]


def test_a_poisonous_shard_is_given_up_alone_and_its_mates_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One replicate of one problem breaks the engine: of nine shards one is lost, and only its attempts are on record."""
    sweep = write_replicated(tmp_path / "s")
    inline(sweep, tmp_path / "quiet")
    generate, poison = Engine.generate, stream_key(7, "p3", 1)

    def poisoned(self: Engine, requests: Iterable[Request]) -> Iterator[Generation]:
        for generation in generate(self, requests):
            if generation.stream == poison:
                raise ArithmeticError("poison")
            yield generation

    monkeypatch.setattr(Engine, "generate", poisoned)
    outcome = inline(sweep, tmp_path / "r")
    (culprit,) = [t.shard for t in all_tickets(sweep) if t.shard.cell.replicate == 1 and "p3" in t.shard.problem_ids]
    assert (8, [culprit.shard_id]) == (outcome.n_done, [given_up.shard_id for given_up in outcome.quarantined])
    failures = open_results(tmp_path / "r").failures()
    assert [(culprit.shard_id, 1), (culprit.shard_id, 2)] == sorted((f.shard_id, f.attempt) for f in failures)
    expected = stable_table(tmp_path / "quiet")
    expected = expected[expected["shard_id"] != culprit.shard_id].reset_index(drop=True)
    pd.testing.assert_frame_equal(expected, stable_table(tmp_path / "r"))
    assert {1} == set(open_results(tmp_path / "r").to_pandas()["attempt"])


def test_an_error_in_grading_is_the_shards_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[int]
) -> None:
    """Its samples stay, the engine goes on, and nothing is generated again."""
    sweep = write_replicated(tmp_path / "s")
    (victim,) = [t.shard for t in all_tickets(sweep) if t.shard.cell.replicate == 1 and "p3" in t.shard.problem_ids]
    commit_grades, tries = ResultsStore.commit_grades, Counter[str]()

    def fail_once(
        self: ResultsStore, grader_id: str, cell_id: str, shard_id: str, rows: list[dict[str, object]]
    ) -> Path:
        tries[shard_id] += 1
        if shard_id == victim.shard_id and tries[shard_id] == 1:
            raise ArithmeticError("no grade")
        return commit_grades(self, grader_id, cell_id, shard_id, rows)

    monkeypatch.setattr(ResultsStore, "commit_grades", fail_once)
    outcome = inline(sweep, tmp_path / "r")
    assert outcome.complete
    assert [18] == asked
    (failure,) = open_results(tmp_path / "r").failures()
    assert (victim.shard_id, 1, "no grade") == (failure.shard_id, failure.attempt, failure.reason["message"])


def test_an_engine_is_left_idle_only_at_the_end_of_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all row-steps of an engine, counted at each choice of tokens, those in which a row has nothing to do."""
    sweep = write_replicated(tmp_path / "s", replicates=4, n_problems=24, rows=4, max_new_tokens=60)
    choose, n_steps = Sampling.choose, [0]

    def counting(self: Sampling, logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
        n_steps[0] += len(logits) == 4  # a prompt's first token is chosen for its row alone
        return choose(self, logits, uniforms)

    monkeypatch.setattr(Sampling, "choose", counting)
    idle = {}
    for name, run in (("alone", one_by_one), ("together", inline)):
        n_steps[0] = 0
        run(sweep, tmp_path / name)
        busy = open_results(tmp_path / name).to_pandas()["cache_tokens_per_step"].map(len).sum()
        idle[name] = 1 - busy / (4 * n_steps[0])
    assert idle["together"] < 0.1 < 0.3 < idle["alone"]
