"""The queue: bundles, affinity, retries, quarantine."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.shard_queue import MAX_FILLS, MAX_LOST, MAX_RAISED, Bundle, Failure, ShardQueue
from designspace.models.model_spec import ModelSpec
from tests.cluster.executor_suite import FakeCell, FakeShard, shards

A, B = ModelSpec("a"), ModelSpec("b")
RAISED, LOST = Failure("raised", "ValueError", "x"), Failure("lost", "ActorDiedError", "x")


def _taken(queue: ShardQueue, *args: object) -> str:
    return str(queue.take(*args)[0].shard.cell.model.name)  # type: ignore[arg-type]


def _ids(bundle: Bundle) -> list[str]:
    return [ticket.shard.shard_id for ticket in bundle]


def _all_bundles(queue: ShardQueue, *args: Any) -> list[list[str]]:
    return [_ids(bundle) for bundle in iter(lambda: queue.take(*args), ())]


def test_shards_that_share_an_engine_come_together() -> None:
    """Blocks and replicates of one arm, in the order of the queue; another arm or model begins another bundle."""
    work = [
        *shards("x", "y", cell_id="1"),
        *shards("z", cell_id="2", replicate=1),
        *shards("u", "v", cell_id="3", arm="other"),
        *shards("w", cell_id="4"),
        *shards("t", cell_id="5", model="b"),
    ]
    assert [["x#0", "y#1", "z#0"], ["u#0", "v#1"], ["w#0"], ["t#0"]] == _all_bundles(ShardQueue(work), A)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([A], [3, 2, 1]),  # half of what is left, rounded up
        ([None, A], [2, 2, 1, 1]),  # one that loads nothing yet may come to this model
        ([B], [6]),  # one that has its own model's work does not
        ([ModelSpec("c")], [3, 2, 1]),  # one whose model is done does
    ],
)
def test_no_worker_takes_more_than_its_share(others: list[ModelSpec | None], expected: list[int]) -> None:
    """The others get work too."""
    queue = ShardQueue([*shards(*["ok"] * 6), *shards("ok", model="b")])
    sizes = [len(bundle) for bundle in iter(lambda: queue.take(A, others) if A in queue.models() else (), ())]
    assert expected == sizes


def test_an_arm_is_not_split_while_there_is_other_work_for_the_others() -> None:
    """The share is one of all that waits for the model, so that fewer engines run half empty."""
    queue = ShardQueue([*shards("x", "y", cell_id="1"), *shards("u", "v", cell_id="2", arm="other")])
    assert ["x#0", "y#1"] == _ids(queue.take(A, [A]))
    assert ["u#0"] == _ids(queue.take(A, [A]))


def test_a_bundle_fills_the_rows_a_bounded_number_of_times() -> None:
    """Counted in problems, since shards may be of any size; one shard goes however large it is."""
    cell = FakeCell(A, rows=2)
    single: list[Any] = [FakeShard(f"s#{i}", cell) for i in range(2 * MAX_FILLS + 3)]
    assert [2 * MAX_FILLS, 3] == [len(bundle) for bundle in _all_bundles(ShardQueue(single), A)]
    large: list[Any] = [FakeShard(f"l#{i}", cell, i, tuple(map(str, range(99 * MAX_FILLS)))) for i in range(2)]
    assert [["l#0"], ["l#1"]] == _all_bundles(ShardQueue(large), A)


def test_a_shard_that_failed_or_was_in_a_broken_bundle_comes_alone() -> None:
    """Neither takes mates down again, nor is taken down by them; failures of earlier runs do not count."""
    queue = ShardQueue(shards(*["ok"] * 6), {("cell", "ok#5"): 2})
    bundle = queue.take(A)
    assert 6 == len(bundle)
    assert not queue.fail(bundle[0], RAISED)
    queue.give_back(bundle[1])
    queue.give_back(bundle[2])
    assert [["ok#0"], ["ok#1"], ["ok#2"]] == _all_bundles(queue, A)
    assert [1, 1, 1, 1, 1, 3] == [ticket.attempt for ticket in bundle]


def test_what_comes_back_without_a_strike_keeps_its_attempt() -> None:
    """It counts nowhere."""
    queue = ShardQueue(shards("ok"))
    for _ in range(2 * (MAX_LOST + MAX_RAISED)):
        (ticket,) = queue.take(A)
        assert 1 == ticket.attempt
        queue.give_back(ticket)


def test_a_worker_keeps_its_model_while_it_has_shards() -> None:
    """File order is a preference only between models of equal standing."""
    queue = ShardQueue([*shards("ok", "ok"), *shards("ok", "ok", model="b")])
    assert ["b", "b", "a", "a"] == [_taken(queue, B, [A, B]) for _ in range(4)]


def test_a_fresh_worker_takes_the_model_that_fewest_hold() -> None:
    """So two workers start with two models."""
    queue = ShardQueue([*shards(*["ok"] * 4), *shards("ok", "ok", model="b")])
    assert "a" == _taken(queue, None, [None])
    assert "b" == _taken(queue, None, [A])
    assert "a" == _taken(queue, None, [A, B])


def test_nothing_waits_in_an_empty_queue() -> None:
    """Nothing, not an error."""
    assert () == ShardQueue([]).take(None)


def test_failures_of_our_code_and_of_the_machine_count_apart() -> None:
    """A lost worker does not bring a shard nearer to the limit of its own errors."""
    queue = ShardQueue(shards("ok"))
    verdicts = []
    for failure in [*[LOST] * (MAX_LOST - 1), *[RAISED] * MAX_RAISED]:
        (ticket,) = queue.take(None)
        verdicts.append(queue.fail(ticket, failure))
    assert [False] * (MAX_LOST + MAX_RAISED - 2) + [True] == verdicts
    assert 0 == len(queue)
