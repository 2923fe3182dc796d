"""Whether a worker that is at work still lives and moves on, judged by what it answers when asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.limits import Limits
from cluster.shard_queue import Bundle, ShardSummary

if TYPE_CHECKING:
    from designspace.models.model_spec import ModelSpec

_MOST_ASLEEP_S = 2.0


class AwakeClock:
    """Seconds of which this process has seen something: while it stands still itself, so does the clock.

    A driver that was stopped for an hour has heard of no worker for that long, which is not the workers' doing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen_s, self._awake_s = clock(), 0.0

    def now_s(self) -> float:
        """Return the time. It must be asked more often than every two seconds, or it falls behind."""
        seen_s = self._clock()
        self._awake_s += min(seen_s - self._seen_s, _MOST_ASLEEP_S)
        self._seen_s = seen_s
        return self._awake_s


class Speeds:
    """How many tokens a worker makes per second, by model, as far as shards of it are done."""

    def __init__(self) -> None:
        self._done: dict[ModelSpec, tuple[int, float]] = {}

    def note(self, model: ModelSpec, summary: ShardSummary) -> None:
        """Count a shard. Shards that share an engine overlap, so the speed is rather too low, and a limit too long."""
        if n_made := min(summary.n_made_tokens, summary.n_new_tokens):
            n_tokens, wall_s = self._done.get(model, (0, 0.0))
            self._done[model] = n_tokens + n_made, wall_s + summary.wall_s

    def still_s(self, bundle: Bundle, limits: Limits, *, has_model: bool) -> float:
        """Return for how many seconds a worker at this bundle may generate nothing before it is given up."""
        n_tokens, wall_s = self._done.get(bundle[0].shard.cell.model, (0, 0.0))
        if not has_model or not n_tokens:
            return max(limits.first_s, limits.still_s)
        cell = bundle[0].shard.cell
        most = max(len(ticket.shard.problem_ids) for ticket in bundle) * cell.generation.most_new_tokens
        return max(limits.still_s, limits.slowness * most * wall_s / n_tokens)


class Pulse:
    """What is heard of a worker while it is at one bundle.

    Args:
        now_s: when it was given the bundle, by the clock of all other times here.
        silent_s: it is given up when it has not answered for so long.
        still_s: … or has answered, but with the same progress as before, for so long.
    """

    def __init__(self, now_s: float, silent_s: float, still_s: float) -> None:
        self._silent_s, self._still_s = silent_s, still_s
        self._answered_s = self._moved_s = now_s
        self._progress: object = None

    def answered(self, now_s: float, progress: object) -> None:
        """Note an answer to the question how far it is."""
        self._answered_s = now_s
        if progress != self._progress:
            self._progress, self._moved_s = progress, now_s

    def moved(self, now_s: float) -> None:
        """Note that something came of a shard."""
        self._answered_s = self._moved_s = now_s

    def reason_to_give_up(self, now_s: float) -> str | None:
        """Return what is wrong with the worker, None as long as it lives and moves on."""
        if now_s - self._answered_s > self._silent_s:
            return f"the worker has not answered for {now_s - self._answered_s:.0f} s, and was killed"
        if now_s - self._moved_s > self._still_s:
            return f"the worker has generated nothing for {now_s - self._moved_s:.0f} s, and was killed"
        return None
