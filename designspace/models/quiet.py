"""Keep transformers' own progress bar out of ours, and its reports, which we word ourselves."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def quietly() -> Iterator[None]:
    """Silence transformers within a block."""
    from transformers.utils import logging

    was_on, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if was_on:
            logging.enable_progress_bar()


@contextmanager
def silently() -> Iterator[None]:
    """Silence transformers and whatever of it writes progress to the standard error without asking."""
    with quietly(), redirect_stderr(io.StringIO()):
        yield
