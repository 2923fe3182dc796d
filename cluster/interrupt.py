"""Ctrl-C and SIGTERM as an orderly stop. Commits are atomic, so a stop at any moment leaves a store that resumes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to stop; everything committed stays, and the same command resumes."""

    def __init__(self, signal_number: int = signal.SIGINT) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number


class Stop:
    """Whether a signal has come."""

    def __init__(self, *, at_once: bool) -> None:
        self.at_once = at_once
        self.signal_number: int | None = None

    def on_signal(self, signal_number: int, frame: FrameType | None) -> None:
        """Note the signal; raise here and now if asked to, or on the second one."""
        again, self.signal_number = self.signal_number is not None, signal_number
        if self.at_once or again:
            raise Interrupted(signal_number)

    def check(self) -> None:
        """Stop the run if a signal has come.

        Raises:
            Interrupted: it has.
        """
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)


@contextmanager
def interruptible(*, at_once: bool) -> Iterator[Stop]:
    """Handle SIGINT and SIGTERM inside the block, and restore the former handlers after it.

    `at_once=False` is for loops that look by themselves: an exception out of a signal handler can surface inside
    foreign C code. Enter it after `ray.init`, which sets a SIGTERM handler of its own. Off the main thread Python
    allows no handlers, and the block runs without.
    """
    stop = Stop(at_once=at_once)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    former = {number: signal.signal(number, stop.on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
