"""A limit on what one damaged file may take: seconds, and bytes of address space."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import psutil

SECONDS = 30  # a hundred times what the slowest file takes on one slow core


class TookTooLong(BaseException):
    """A file has taken more than its time; no `except Exception` of the code under test may swallow that."""


@contextmanager
def bounded(seconds: float = SECONDS, more_bytes: int | None = None) -> Iterator[None]:
    """Stop what runs within after some seconds, and refuse it more than some bytes of memory.

    Raises:
        TookTooLong: the time was up.
    """
    before = resource.getrlimit(resource.RLIMIT_AS)
    old_handler = signal.signal(signal.SIGALRM, _stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    if more_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + more_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old_handler)


def _stop(*_: object) -> NoReturn:
    raise TookTooLong
