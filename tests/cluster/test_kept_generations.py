"""A shard that is begun again makes only what no earlier attempt has finished, and its rows are those of a quiet run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import kept_generations
from cluster.shard_queue import ShardSummary, Ticket
from cluster.work import find_work
from cluster.worker import Worker
from designspace.axes import Generation, Request
from designspace.engine import Engine
from designspace.store import ResultsStore
from designspace.store.journal import _sound_lines
from sweeps.shards import Shard
from sweeps.spec import load_sweep
from tests.cluster.tiny import ONE_MODEL, write_model, write_problems

# Of when and by whom, and of the run as a whole; all else must be the same to the last bit.
PASSING = {"wall_s", "shard_wall_s", "attempt", "worker", "started_at", "study", "look_sha256"}
Quiet = tuple[list[dict[str, Any]], ShardSummary]
VOTE = "[{name: vote, base: streaming-llm, decoding: {kind: self-consistency, samples: 3}}]"


class Stopped(Exception):
    """Raised in the place of a kill."""


@pytest.fixture(autouse=True)
def _every_generation_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_generations, "LONG_S", 0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and five problems."""
    made = tmp_path_factory.mktemp("kept")
    write_model(made / "tiny-a", 0)
    write_problems(made, 5)
    return made


@pytest.fixture(scope="module")
def quiet(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Quiet:
    """The rows of a run that nothing disturbed, and its summary."""
    root = tmp_path_factory.mktemp("quiet")
    summary = finish(worker_at(root / "r"), shard_of(folder))
    return rows_of(root / "r"), summary


def shard_of(folder: Path, mechanisms: str = "[streaming-llm]") -> Shard:
    """Return the one shard of five problems, of which two are made at a time."""
    file = folder / "one.yaml"
    text = ONE_MODEL.format(models=folder, mechanisms=mechanisms, replicates=1, max_new_tokens=30, rows=2)
    # Words are compared: the grader of formulas starts a process, which costs more than all that is tested here.
    file.write_text(text.replace("rows: 2", "rows: 2, block: 5").replace("split: test", "split: test, answer: exact"))
    (shard,) = find_work(load_sweep(file), None).shards
    return shard


def worker_at(root: Path, **options: Any) -> Worker:
    """Return a worker on a store."""
    ResultsStore.open(root)
    return Worker(root, 1, study="tiny", **options)


def finish(worker: Worker, shard: Shard, attempt: int = 1) -> ShardSummary:
    """Run the shard to its end."""
    ((_, result),) = worker.run((Ticket(shard, attempt),))
    worker.close()
    assert isinstance(result, ShardSummary), result
    return result


def stop_after(monkeypatch: pytest.MonkeyPatch, n: int, act: Callable[[], None] | None = None) -> None:
    """Let the engine raise, or act, after so many generations."""
    whole = Engine.generate

    def generate(self: Engine, requests: list[Request]) -> Iterator[Generation]:
        for index, generation in enumerate(whole(self, requests)):
            if index == n:
                monkeypatch.undo()
                monkeypatch.setattr(kept_generations, "LONG_S", 0.0)
                if act is None:
                    raise Stopped
                act()
            yield generation

    monkeypatch.setattr(Engine, "generate", generate)


def begin(root: Path, shard: Shard, n: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Make so many generations of the shard, and no more."""
    stop_after(monkeypatch, n)
    worker = worker_at(root, **options)
    with pytest.raises(Stopped):
        list(worker.run((Ticket(shard, 1),)))
    worker.close()


def rows_of(root: Path) -> list[dict[str, Any]]:
    """Return the rows of a store without what may differ."""
    rows = ResultsStore.open(root, create=False).samples().to_table().to_pylist()
    return [{name: value for name, value in row.items() if name not in PASSING} for row in rows]


def test_what_is_finished_is_not_made_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: Quiet
) -> None:
    """Of three finished texts no token is made again, and the rows are those of a quiet run."""
    shard = shard_of(folder)
    begin(tmp_path / "r", shard, 3, monkeypatch)
    assert not (tmp_path / "r/samples").exists()
    noted = [e for p in (tmp_path / "r").glob("journals/*/*/*") for e in _sound_lines(p)][1:]
    again = finish(worker_at(tmp_path / "r"), shard, attempt=2)

    assert 3 == len(noted)
    assert quiet[0] == rows_of(tmp_path / "r")
    n_noted = sum(len(entry["generation"]["token_ids"]) for entry in noted)
    assert quiet[1].n_made_tokens - n_noted == again.n_made_tokens
    assert quiet[1].n_new_tokens == again.n_new_tokens
    assert not (tmp_path / "r/journals").exists()


def test_samples_of_one_problem_may_be_of_two_attempts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are missing are made; the vote and the cost of all samples are those of a quiet run."""
    shard = shard_of(folder, VOTE)
    whole = finish(worker_at(tmp_path / "quiet"), shard)
    begin(tmp_path / "r", shard, 7, monkeypatch)
    again = finish(worker_at(tmp_path / "r"), shard, attempt=2)

    assert rows_of(tmp_path / "quiet") == rows_of(tmp_path / "r")
    assert 0 < again.n_made_tokens < whole.n_made_tokens


def test_a_row_says_who_made_it_and_under_which_look(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that was seen before a look is not passed off as one of that look."""
    shard = shard_of(folder)
    begin(tmp_path / "r", shard, 3, monkeypatch, look_sha256="a" * 64)
    later = worker_at(tmp_path / "r", look_sha256="b" * 64)
    later._origin = kept_generations.Origin("another host", "b" * 64)
    finish(later, shard, attempt=2)

    rows = ResultsStore.open(tmp_path / "r", create=False).samples().to_table().to_pylist()
    assert 3 == sum("a" * 64 == row["look_sha256"] and "1 thread" in row["worker"] for row in rows)
    assert 2 == sum("b" * 64 == row["look_sha256"] and "another host" == row["worker"] for row in rows)
    assert {2} == {row["attempt"] for row in rows}


@pytest.mark.parametrize("what", ["code_id", "threads", "device"])
def test_what_was_made_otherwise_is_made_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: Quiet, what: str
) -> None:
    """Another state of the code, another number of threads, another device."""
    shard, made = shard_of(folder), kept_generations.conditions("cpu", 1)
    begin(tmp_path / "r", shard, 3, monkeypatch)
    monkeypatch.setattr("cluster.worker.conditions", lambda *_: made | {what: "another"})
    again = finish(worker_at(tmp_path / "r"), shard)

    assert quiet[1].n_made_tokens == again.n_made_tokens
    assert quiet[0] == rows_of(tmp_path / "r")


def test_another_prompt_or_cap_is_made_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked is compared, not only the names of problems: a template may write today's date."""
    shard = shard_of(folder)
    begin(tmp_path / "r", shard, 3, monkeypatch)
    encoded = Worker._encoded

    def with_another_first(self: Worker, *args: Any) -> dict[str, tuple[int, ...]]:
        prompts = dict(encoded(self, *args))
        first = shard.problem_ids[0]
        return prompts | {first: (*prompts[first][:-1], 5)}

    monkeypatch.setattr(Worker, "_encoded", with_another_first)
    found = worker_at(tmp_path / "r")
    pending = found._begin(found._engine_for(shard.cell), Ticket(shard, 2), {})
    found.close()

    assert shard.problem_ids[0] in {request.problem_id for request in pending.missing}
    assert len(pending.missing) in (2, 3)


def test_two_workers_at_one_shard_store_it_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: Quiet
) -> None:
    """The second reads what the first has finished, commits, and the first one's journal does not come back."""
    shard, summaries = shard_of(folder), list[ShardSummary]()
    stop_after(monkeypatch, 3, lambda: summaries.append(finish(worker_at(tmp_path / "r"), shard)))
    slow = finish(worker_at(tmp_path / "r"), shard)

    assert summaries[0].n_made_tokens < quiet[1].n_made_tokens == slow.n_made_tokens
    assert quiet[0] == rows_of(tmp_path / "r")
    assert not (tmp_path / "r/journals").exists()


def test_a_killed_worker_leaves_what_it_finished(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: Quiet
) -> None:
    """SIGKILL in the middle of the shard, with a line that it was about to write torn."""
    shard, root = shard_of(folder), tmp_path / "r"
    worker = worker_at(root)
    child = os.fork()
    if child == 0:  # it never returns: whatever happens, the tests go on in the parent alone
        try:
            stop_after(monkeypatch, 3, lambda: time.sleep(60))
            list(worker.run((Ticket(shard, 1),)))
        finally:
            os._exit(1)
    deadline_s = time.monotonic() + 60
    while sum(path.read_bytes().count(b"\n") for path in root.glob("journals/*/*/*")) < 4:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    assert -signal.SIGKILL == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    worker.close()
    (left,) = root.glob("journals/*/*/*")
    left.write_bytes(left.read_bytes()[:-5])
    again = finish(worker_at(root), shard, attempt=2)

    assert quiet[0] == rows_of(root)
    assert 0 < again.n_made_tokens < quiet[1].n_made_tokens
    assert not (root / "journals").exists()


def test_short_generations_are_not_written_one_by_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A toy model makes hundreds in a second, and their shards are done before a journal would pay."""
    monkeypatch.setattr(kept_generations, "LONG_S", 3600.0)
    wrote = []
    monkeypatch.setattr("designspace.store.journal.Journal.write", lambda self, entries: wrote.append(entries))
    finish(worker_at(tmp_path / "r"), shard_of(folder))

    assert [] == wrote
