"""How far a run is and how fast: from the shards that are done, and from what its workers say of those they are at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from cluster.live_progress import LiveProgress
from cluster.shard_queue import Event

_FORGOTTEN_S = 30.0  # a worker that has said nothing for so long is gone, or stands still
_FEWEST_S = 2.0  # of which a speed is told


class Pace:
    """Counts what is done and how fast; the clock starts with the first shard, not with the start of Ray.

    As soon as a worker has said how far it is within its shards, the speed is that of generating, without the time before
    the first token, in which models are loaded.
    """

    def __init__(self, n_shards: int, n_rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.n_shards, self.n_rows = n_shards, n_rows
        self.n_shards_done = self.n_quarantined = 0
        self._rows = self._made = self._tokens_of_rows = self._rows_counted = 0  # of the shards that are done
        self._most_new_tokens = 0
        self._clock = clock
        self._started_s: float | None = None
        self._live: dict[str, tuple[float, LiveProgress]] = {}
        self._shown = (0, 0)  # rows and tokens never go down, whatever is heard late
        self._first_tokens: tuple[float, int] | None = None  # when any were first seen, and how many

    def note(self, event: Event) -> None:
        """Count an event."""
        if self._started_s is None:
            self._started_s = self._clock()
        if event.live is not None:
            self._listen(event, event.live)
        if event.summary is not None:
            summary = event.summary
            self.n_shards_done += 1
            self._rows += summary.n_rows
            self._made += summary.n_made_tokens
            if summary.generated:
                self._rows_counted += summary.n_rows
                self._tokens_of_rows += max(summary.n_made_tokens, summary.n_new_tokens)
            # What it has said of this shard is counted now; of its others it tells again in a moment.
            self._live = {n: said for n, said in self._live.items() if said[1].worker != summary.worker}
        if event.kind == "elsewhere":
            self.n_shards_done += 1
            self._rows += len(event.ticket.shard.problem_ids)
        self.n_quarantined += event.quarantined
        self._shown = self.n_rows_done, self.n_tokens

    def _listen(self, event: Event, live: LiveProgress) -> None:
        self._live[live.number] = self._clock(), live
        cell = event.ticket.shard.cell
        n_samples = 1 if cell.mechanism.decoding is None else cell.mechanism.decoding.samples
        self._most_new_tokens = max(self._most_new_tokens, n_samples * cell.generation.most_new_tokens)
        if self._first_tokens is None and self.n_tokens:
            self._first_tokens = self._clock(), self.n_tokens

    @property
    def live(self) -> list[LiveProgress]:
        """What the workers have said of the shards that they are at."""
        now_s = self._clock()
        return [live for heard_s, live in self._live.values() if now_s - heard_s < _FORGOTTEN_S]

    def end(self) -> None:
        """Forget what workers have said: they are at nothing any more."""
        self._live, self._shown = {}, (0, 0)

    @property
    def n_rows_done(self) -> int:
        """Rows whose texts are finished, also of shards that are not."""
        return min(max(self._rows + _sum(live.n_rows_done for live in self.live), self._shown[0]), self.n_rows)

    @property
    def n_tokens(self) -> int:
        """Tokens generated in this run, also of texts that are not finished."""
        return max(self._made + _sum(live.n_made_tokens for live in self.live), self._shown[1])

    @property
    def has_begun(self) -> bool:
        """Whether any shard was started."""
        return self._started_s is not None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first shard was started."""
        return 0.0 if self._started_s is None else self._clock() - self._started_s

    @property
    def tokens_per_s(self) -> float:
        """Generated tokens per second, over all workers."""
        if self._first_tokens is not None:
            since_s, tokens = self._first_tokens
            if self._clock() - since_s >= _FEWEST_S and self.n_tokens > tokens:
                return (self.n_tokens - tokens) / (self._clock() - since_s)
        return self.n_tokens / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Estimated seconds left, None if there is nothing to tell it from.

        With workers that have said how far they are: as many tokens for each row left as for those seen so far, at the measured
        speed; see `left_is_bound`. Else: as long for each row left as for those done.
        """
        if self._first_tokens is not None and self.tokens_per_s > 0:
            return self._tokens_left / self.tokens_per_s
        if not self._rows:
            return None
        return (self.n_rows - self._rows) * self.elapsed_s / self._rows

    @property
    def left_is_bound(self) -> bool:
        """Whether `left_s` is the most that may be left, because no text has ended yet."""
        return self._first_tokens is not None and not self._rows_seen

    @property
    def _rows_seen(self) -> int:
        return self._rows_counted + _sum(live.n_rows_done for live in self.live)

    @property
    def _tokens_left(self) -> float:
        begun, rows_left = _sum(live.n_begun_tokens for live in self.live), self.n_rows - self.n_rows_done
        at_most = max(rows_left * self._most_new_tokens - begun, 0)
        if not self._rows_seen:
            return at_most
        # Short texts end first, so the mean of those that have ended is too low. As many tokens as were seen for each end that
        # was seen: the mean of texts that are as likely to end at every token, and that of all texts as soon as all have ended.
        done = self._tokens_of_rows + _sum(live.n_done_tokens for live in self.live)
        return min(rows_left * (done + begun) / self._rows_seen, at_most)

    def line(self) -> str:
        """Return the state in one line."""
        left = "?" if self.left_s is None else ("at most " if self.left_is_bound else "") + clock_text(self.left_s)
        failed = f", {self.n_quarantined} failed" if self.n_quarantined else ""
        return (
            f"{self.n_shards_done}/{self.n_shards} shards, {self.n_rows_done:,}/{self.n_rows:,} generations{failed}, "
            f"{self.n_tokens:,} tokens, {self.tokens_per_s:,.0f} tokens/s, {left} left"
        )


def clock_text(seconds: float) -> str:
    """Return `m:ss` or `h:mm:ss`."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _sum(numbers: Iterable[int]) -> int:
    return sum(numbers)
