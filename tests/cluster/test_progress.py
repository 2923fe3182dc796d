"""Progress: pace, plain lines, failures."""

from __future__ import annotations

from cluster.progress import Lines, Pace, Silent, clock_text, make_progress
from cluster.shard_queue import Event, Failure, ShardSummary, Ticket
from tests.cluster.executor_suite import shards

TICKET = Ticket(shards("ok")[0], 1)


class Clock:
    """Time that passes when told to."""

    now_s = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def _done(n_rows: int, n_tokens: int, *, generated: bool = True) -> Event:
    return Event("done", TICKET, summary=ShardSummary(n_rows, n_tokens, 0, 1.0, generated, "w"))


def test_the_clock_starts_with_the_first_shard_and_the_rest_is_estimated_from_tokens() -> None:
    """20 of 80 rows in 10 s leave 30 s; shards that were only graded add no tokens."""
    clock = Clock()
    pace = Pace(4, 80, clock)
    assert (0.0, None) == (pace.tokens_per_s, pace.left_s)
    clock.now_s += 50
    pace.note(Event("started", TICKET))
    clock.now_s += 10
    pace.note(_done(20, 500))
    assert (50.0, 30.0) == (pace.tokens_per_s, pace.left_s)
    pace.note(_done(20, 500, generated=False))
    assert 500 == pace.n_tokens
    assert "2/4 shards, 40/80 generations, 500 tokens, 50 tokens/s, 0:10 left" == pace.line()


def test_plain_lines_are_sparse_and_the_last_one_always_comes() -> None:
    """At most one in ten seconds, whatever the number of events."""
    clock, said = Clock(), list[str]()
    lines = Lines(said.append, clock)
    lines.start(100, 100)
    for _ in range(50):
        clock.now_s += 0.5
        lines.on_event(_done(1, 10))
    assert 2 == len(said)
    lines.stop()
    assert said[-1].startswith("50/100 shards")


def test_failures_are_said_at_once() -> None:
    """With the cell, the attempt and the first line of the reason."""
    said = list[str]()
    lines = Lines(said.append, Clock())
    lines.start(1, 1)
    failure = Failure("raised", "ValueError", "first line\nsecond line")
    lines.on_event(Event("failed", TICKET, failure=failure))
    lines.on_event(Event("failed", TICKET, failure=failure, quarantined=True))
    assert [
        "failed, will be tried again: cell on a, shard 0, attempt 1: ValueError: first line",
        "failed, given up: cell on a, shard 0, attempt 1: ValueError: first line",
    ] == said


def test_a_broken_bundle_is_said_once_and_counts_for_nothing() -> None:
    """With how many shards are concerned; none of them has failed."""
    said = list[str]()
    lines = Lines(said.append, Clock())
    lines.start(5, 5)
    failure = Failure("lost", "ActorDiedError", "gone\nfor good")
    lines.on_event(Event("returned", TICKET, failure=failure, n_shards=4))
    assert ["stopped, 4 shards will be tried one by one, the first cell on a, shard 0: ActorDiedError: gone"] == said
    lines.stop()
    assert said[-1].startswith("0/5 shards, 0/5 generations, 0 tokens")


def test_modes() -> None:
    """`auto` is lines here, since pytest's stderr is no terminal."""
    assert (Silent, Lines, Lines) == tuple(type(make_progress(mode)) for mode in ("none", "plain", "auto"))


def test_clock_text() -> None:
    """Hours only where there are some."""
    assert ("0:05", "2:05", "1:02:05") == (clock_text(5), clock_text(125), clock_text(3725))
