"""How far a calibration is: a place where loops say what they have done, and where whoever shows it listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Stage(NamedTuple):
    """Part of the work of one artefact. `unit`: what is counted, "tokens" or "steps"."""

    what: str
    n_done: int
    n_total: int
    unit: str


Listener = Callable[[Stage], None]
_listener: ContextVar[Listener | None] = ContextVar("calibration stages", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell a listener of every stage that is run within."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def stage(what: str, n_total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more are done."""
    listener, n_done = _listener.get(), 0

    def done(n_more: int = 1) -> None:
        nonlocal n_done
        n_done += n_more
        if listener is not None:
            listener(Stage(what, n_done, n_total, unit))

    done(0)
    yield done
