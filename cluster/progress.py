"""What a user sees while a sweep runs: a bar on a terminal, sparse plain lines elsewhere, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cluster.pace import Pace
from cluster.shard_queue import Event

if TYPE_CHECKING:
    from rich.console import Console

ProgressMode = Literal["auto", "plain", "none"]
LINE_INTERVAL_S = 10.0


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
        self._pace.end()
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


def _say_to_stderr(text: str) -> None:
    import sys

    print(text, file=sys.stderr, flush=True)
