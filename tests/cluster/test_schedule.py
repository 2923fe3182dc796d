"""The queue: affinity, retries, quarantine."""

from __future__ import annotations

from cluster.schedule import MAX_LOST, MAX_RAISED, Failure, ShardQueue
from designspace.models.spec import ModelSpec
from tests.cluster.executor_suite import shards

A, B = ModelSpec("a"), ModelSpec("b")
RAISED, LOST = Failure("raised", "ValueError", "x"), Failure("lost", "ActorDiedError", "x")


def _taken(queue: ShardQueue, *args: object) -> str:
    ticket = queue.take(*args)  # type: ignore[arg-type]
    assert ticket is not None
    return ticket.shard.cell.model.name


def test_a_worker_keeps_its_model_while_it_has_shards() -> None:
    """File order is a preference only between models of equal standing."""
    queue = ShardQueue([*shards("ok", "ok"), *shards("ok", "ok", model="b")])
    assert ["b", "b", "a", "a"] == [_taken(queue, B), _taken(queue, B), _taken(queue, B), _taken(queue, B)]


def test_a_fresh_worker_takes_the_model_that_fewest_hold() -> None:
    """So two workers start with two models."""
    queue = ShardQueue([*shards("ok", "ok"), *shards("ok", "ok", model="b")])
    assert "a" == _taken(queue, None, [None])
    assert "b" == _taken(queue, None, [A])
    assert "a" == _taken(queue, None, [A, B])


def test_nothing_waits_in_an_empty_queue() -> None:
    """None, not an error."""
    assert ShardQueue([]).take(None) is None


def test_failures_of_our_code_and_of_the_machine_count_apart() -> None:
    """A lost worker does not bring a shard nearer to the limit of its own errors."""
    queue = ShardQueue(shards("ok"))
    verdicts = []
    for failure in [*[LOST] * (MAX_LOST - 1), *[RAISED] * MAX_RAISED]:
        ticket = queue.take(None)
        assert ticket is not None
        verdicts.append(queue.fail(ticket, failure))
    assert [False] * (MAX_LOST + MAX_RAISED - 2) + [True] == verdicts
    assert 0 == len(queue)
