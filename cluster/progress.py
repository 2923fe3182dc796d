"""What a user sees while a sweep runs: a bar on a terminal, sparse plain lines elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cluster.shard_queue import Event

if TYPE_CHECKING:
    from rich.console import Console

ProgressMode = Literal["auto", "plain", "none"]
LINE_INTERVAL_S = 10.0


class Pace:
    """Counts what is done and how fast; the clock starts with the first shard, not with the start of Ray."""

    def __init__(self, n_shards: int, n_rows: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.n_shards, self.n_rows = n_shards, n_rows
        self.n_shards_done = self.n_rows_done = self.n_tokens = self.n_quarantined = 0
        self._clock = clock
        self._started_s: float | None = None

    def note(self, event: Event) -> None:
        """Count an event."""
        if self._started_s is None:
            self._started_s = self._clock()
        if event.summary is not None:
            self.n_shards_done += 1
            self.n_rows_done += event.summary.n_rows
            self.n_tokens += event.summary.n_new_tokens if event.summary.generated else 0
        if event.kind == "elsewhere":
            self.n_shards_done += 1
            self.n_rows_done += len(event.ticket.shard.problem_ids)
        self.n_quarantined += event.quarantined

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
        return self.n_tokens / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Estimated seconds left: the rows left need as many tokens each as those done; None before the first."""
        if not self.n_rows_done:
            return None
        return (self.n_rows - self.n_rows_done) * self.elapsed_s / self.n_rows_done

    def line(self) -> str:
        """Return the state in one line."""
        left = "?" if self.left_s is None else clock_text(self.left_s)
        failed = f", {self.n_quarantined} failed" if self.n_quarantined else ""
        return (
            f"{self.n_shards_done}/{self.n_shards} shards, {self.n_rows_done:,}/{self.n_rows:,} generations{failed}, "
            f"{self.n_tokens:,} tokens, {self.tokens_per_s:,.0f} tokens/s, {left} left"
        )


class Progress(Protocol):
    """Shows a run."""

    def start(self, n_shards: int, n_rows: int) -> None:
        """Begin; called once, before the first event."""

    def on_event(self, event: Event) -> None:
        """Show an event."""

    def note(self, text: str) -> None:
        """Show a message."""

    def stop(self) -> None:
        """End, also after an error."""


class Silent:
    """Shows nothing."""

    def start(self, n_shards: int, n_rows: int) -> None:
        """Show nothing."""

    def on_event(self, event: Event) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def stop(self) -> None:
        """Show nothing."""


class Lines:
    """Plain lines on stderr: one every ten seconds at most, one at the end, and one per failure."""

    def __init__(self, say: Callable[[str], Any] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say or _say_to_stderr
        self._clock = clock
        self._pace = Pace(0, 0)
        self._said_s = clock()

    def start(self, n_shards: int, n_rows: int) -> None:
        """Begin."""
        self._pace, self._said_s = Pace(n_shards, n_rows, self._clock), self._clock()

    def on_event(self, event: Event) -> None:
        """Count the event, and say where the run stands if it is time to."""
        self._pace.note(event)
        if event.failure is not None:
            self._say(failure_line(event))
        if self._clock() - self._said_s >= LINE_INTERVAL_S:
            self._said_s = self._clock()
            self._say(self._pace.line())

    def note(self, text: str) -> None:
        """Say it."""
        self._say(text)

    def stop(self) -> None:
        """Say where the run stands, if it ever began."""
        if self._pace.has_begun:
            self._say(self._pace.line())


class Bar:
    """A rich progress bar on stderr; failures scroll above it."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._pace = Pace(0, 0)
        self._task: Any = None
        self._bar = RichProgress(
            SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console
        )

    def start(self, n_shards: int, n_rows: int) -> None:
        """Begin."""
        self._pace = Pace(n_shards, n_rows)
        self._task = self._bar.add_task(f"0/{n_shards} shards", total=n_rows)
        self._bar.start()

    def on_event(self, event: Event) -> None:
        """Move the bar."""
        self._pace.note(event)
        if event.failure is not None:
            self._bar.console.print(failure_line(event), markup=False, highlight=False)
        self._bar.update(self._task, completed=self._pace.n_rows_done, description=self._pace.line())

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        """Leave the bar as it stands."""
        self._bar.stop()


def make_progress(mode: ProgressMode) -> Progress:
    """Return the display for a mode; `auto` is a bar on a terminal and lines elsewhere."""
    if mode == "none":
        return Silent()
    if mode == "plain":
        return Lines()
    from rich.console import Console

    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines()


def failure_line(event: Event) -> str:
    """Return one line about a failed attempt, or a bundle that broke."""
    failure = event.failure
    reason = "" if failure is None else f"{failure.error}: {failure.message}".splitlines()[0]
    if event.kind == "returned":
        first = f"{event.ticket.shard.cell.label()}, shard {event.ticket.shard.index}"
        return f"stopped, {event.n_shards} shards will be tried one by one, the first {first}: {reason}"
    what = "given up" if event.quarantined else "will be tried again"
    cell = event.ticket.shard.cell
    return f"failed, {what}: {cell.label()}, shard {event.ticket.shard.index}, attempt {event.ticket.attempt}: {reason}"


def clock_text(seconds: float) -> str:
    """Return `m:ss` or `h:mm:ss`."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _say_to_stderr(text: str) -> None:
    import sys

    print(text, file=sys.stderr, flush=True)
