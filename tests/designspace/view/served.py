"""A problem browser that answers in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from designspace.report import declared_study
from designspace.store import ResultsStore
from designspace.view import ViewServer


@contextmanager
def served(store: ResultsStore) -> Iterator[ViewServer]:
    """Serve the only study of a store, once its index is read."""
    server = ViewServer(store, declared_study(store))
    server.wait()
    thread = Thread(target=server.serve, daemon=True)
    thread.start()
    yield server
    server.stop()
    thread.join()
