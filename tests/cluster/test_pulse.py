"""A worker is given up when it is silent or stands still, and never for being slow."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.limits import VARIABLE, Limits
from cluster.pulse import AwakeClock, Pulse, Speeds
from cluster.shard_queue import ShardSummary
from designspace.errors import DeclarationError
from designspace.models.model_spec import ModelSpec
from tests.cluster.executor_suite import shards, tickets

LIMITS = Limits(still_s=60.0, first_s=1000.0, slowness=10.0)


def summary(n_tokens: int, wall_s: float, *, generated: bool = True) -> ShardSummary:
    """Return what is reported of a shard."""
    return ShardSummary(1, n_tokens, n_tokens if generated else 0, 0, wall_s, generated=generated, worker="w")


def test_a_silent_worker_is_given_up() -> None:
    """After the limit, with what happened in the reason."""
    pulse = Pulse(100.0, silent_s=60.0, still_s=1000.0)
    assert pulse.reason_to_give_up(160.0) is None
    assert "the worker has not answered for 61 s, and was killed" == pulse.reason_to_give_up(161.0)


def test_a_slow_worker_that_moves_on_is_never_given_up() -> None:
    """One token within each limit is enough, for as long as it takes."""
    pulse = Pulse(0.0, silent_s=60.0, still_s=100.0)
    for number in range(1, 1000):
        assert pulse.reason_to_give_up(number * 50.0) is None
        pulse.answered(number * 50.0, (0, number // 2))


def test_a_worker_that_answers_and_generates_nothing_is_given_up() -> None:
    """A shard that comes through counts as moving on."""
    pulse = Pulse(0.0, silent_s=60.0, still_s=100.0)
    pulse.moved(50.0)
    for now_s in range(50, 151, 10):
        pulse.answered(now_s, (7, 7))
    assert pulse.reason_to_give_up(150.0) is None
    for now_s in range(150, 161, 10):
        pulse.answered(now_s, (7, 7))
    assert "the worker has generated nothing for 111 s, and was killed" == pulse.reason_to_give_up(161.0)


def bundle_of(n_problems: int, model: str = "a") -> Any:
    """Return a bundle of one shard of so many problems, of 8 new tokens each at most."""
    (shard,) = shards("ok", model=model)
    return tickets([type(shard)("ok#0", shard.cell, problem_ids=("p",) * n_problems)])


def test_the_limit_follows_from_the_speed_that_was_measured() -> None:
    """100 problems of 8 tokens at 4 tokens per second take 200 s; ten times that is the limit, never less than the floor."""
    speeds, model = Speeds(), ModelSpec("a")
    assert 1000.0 == speeds.still_s(bundle_of(100), LIMITS, has_model=True)
    speeds.note(model, summary(1000, 1.0, generated=False))  # it was only graded, which says nothing of the speed
    assert 1000.0 == speeds.still_s(bundle_of(100), LIMITS, has_model=True)
    speeds.note(model, summary(100, 20.0))
    speeds.note(model, summary(300, 80.0))
    assert 2000.0 == speeds.still_s(bundle_of(100), LIMITS, has_model=True)
    assert 60.0 == speeds.still_s(bundle_of(1), LIMITS, has_model=True)
    assert 1000.0 == speeds.still_s(bundle_of(100), LIMITS, has_model=False)
    assert 1000.0 == speeds.still_s(bundle_of(100, "b"), LIMITS, has_model=True)


def test_the_clock_stands_still_while_the_driver_does() -> None:
    """A driver that was stopped for an hour does not kill its workers when it wakes up."""
    times_s = iter([0.0, 0.5, 1.0, 3601.0, 3601.5])
    clock = AwakeClock(lambda: next(times_s))
    assert [0.5, 1.0, 3.0, 3.5] == [clock.now_s() for _ in range(4)]


def test_the_environment_changes_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that it names; another name or no number is refused, with the names there are."""
    monkeypatch.setenv(VARIABLE, "silent_s=5, start_s = 7.5")
    assert Limits(silent_s=5.0, start_s=7.5) == Limits.from_environment()
    for wrong in ("silent=5", "silent_s=0", "silent_s=soon", "silent_s"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(DeclarationError, match=f"{VARIABLE} must be like .*silent_s.*, got '{wrong}'"):
            Limits.from_environment()
    monkeypatch.delenv(VARIABLE)
    assert Limits() == Limits.from_environment()
