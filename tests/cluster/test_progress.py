"""Progress: pace, plain lines, failures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from cluster.live_progress import LiveProgress
from cluster.pace import Pace, clock_text
from cluster.progress import Lines, Silent, make_progress
from cluster.shard_queue import Event, Failure, ShardSummary, Ticket
from tests.cluster.executor_suite import shards

TICKET = Ticket(shards("ok")[0], 1)
LIVE = cast(Ticket, SimpleNamespace(shard=SimpleNamespace(cell=SimpleNamespace(
    mechanism=SimpleNamespace(decoding=None), generation=SimpleNamespace(most_new_tokens=100)
))))  # fmt: skip


class Clock:
    """Time that passes when told to."""

    now_s = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def _done(n_rows: int, n_tokens: int, *, generated: bool = True) -> Event:
    return Event(
        "done", TICKET, summary=ShardSummary(n_rows, n_tokens, n_tokens if generated else 0, 0, 1.0, generated, "w")
    )


def _live(number: str, **counts: int) -> Event:
    return Event("working", LIVE, live=LiveProgress("w", number, **counts))


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


def test_what_workers_say_of_shards_that_are_not_done_counts() -> None:
    """Two workers of one name, 30 texts of at most 100 tokens each; the time before the first token is no part of the speed."""
    clock = Clock()
    pace = Pace(2, 60, clock)
    pace.note(Event("started", LIVE))
    clock.now_s += 300  # the model is loaded
    pace.note(_live("1", n_rows=30, n_made_tokens=300, n_begun_tokens=300))
    clock.now_s += 10
    for number in "12":
        pace.note(_live(number, n_rows=30, n_made_tokens=600, n_begun_tokens=600))
    assert (90.0, True) == (pace.tokens_per_s, pace.left_is_bound)
    assert (
        "0/2 shards, 0/60 generations, 1,200 tokens, 90 tokens/s, at most 0:53 left" == pace.line()
    )  # 60 x 100 - 1,200

    clock.now_s += 5
    pace.note(_live("1", n_rows=30, n_rows_done=10, n_made_tokens=1050, n_done_tokens=450, n_begun_tokens=600))
    pace.note(_live("2", n_rows=30, n_rows_done=20, n_made_tokens=1350, n_done_tokens=1350, n_begun_tokens=0))
    assert (140.0, 30, False) == (pace.tokens_per_s, pace.n_rows_done, pace.left_is_bound)
    # 2,400 tokens were seen, and 30 ends: 80 tokens for each of the 30 texts left, which may have 2,400 more at most.
    assert round(30 * 80 / 140) == round(pace.left_s or 0)


def test_a_shard_that_is_done_is_not_counted_twice() -> None:
    """Nor does a number go down while its worker has not said yet what it is at now."""
    clock = Clock()
    pace = Pace(2, 60, clock)
    pace.note(_live("1", n_rows=60, n_rows_done=30, n_made_tokens=900, n_done_tokens=600, n_begun_tokens=300))
    pace.note(Event("done", LIVE, summary=ShardSummary(30, 600, 600, 0, 1.0, True, "w")))
    assert (30, 900) == (pace.n_rows_done, pace.n_tokens)
    clock.now_s += 2
    pace.note(_live("1", n_settled=1, n_rows=30, n_made_tokens=320, n_begun_tokens=320))
    assert (30, 920) == (pace.n_rows_done, pace.n_tokens)
    clock.now_s += 60  # the worker was killed: what it had begun is lost
    pace.end()
    assert (30, 600) == (pace.n_rows_done, pace.n_tokens)


def test_texts_of_an_earlier_attempt_add_no_speed() -> None:
    """They were not made now."""
    clock = Clock()
    pace = Pace(1, 10, clock)
    pace.note(Event("started", TICKET))
    clock.now_s += 10
    pace.note(Event("done", TICKET, summary=ShardSummary(10, 1000, 100, 0, 1.0, True, "w")))
    assert (100, 10.0) == (pace.n_tokens, pace.tokens_per_s)


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
