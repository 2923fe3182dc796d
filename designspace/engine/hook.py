"""What an engine tells about its run while it runs, to clocks and tests: one object with a method for each occasion."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

from designspace.cache.region import no_region
from designspace.engine.row import RowState

REGIONS = ("prefill", "model", "attention", "events", "sampling")


class EngineHook:
    """Does nothing at every occasion. Override what is wanted, and set the attribute `hook` of an engine to an instance.

    A hook may read everything and must change nothing. `region` is entered for the parts of the work in `REGIONS`;
    "attention" lies within "model", and a step that is replayed as one CUDA graph has no such region of its own.
    """

    def region(self, name: str) -> AbstractContextManager[None]:
        """Return the context in which this part of the work is done."""
        return no_region(name)

    def on_start(self, state: RowState) -> None:
        """A row has its prompt in its slots, and its first token."""

    def on_step(self, states: Collection[RowState]) -> None:
        """All rows have attended in a decode step, and nothing was cut since."""

    def on_signals(self, states: Collection[RowState], signals: Sequence[float]) -> None:
        """The cadence has told the rows' schedules these signals, one for each row of the cache."""

    def on_compressed(self, states: Collection[RowState]) -> None:
        """After a burst every row that was due has been cut; the burst's tokens are not yet in the rows' texts."""

    def on_written(self, states: Collection[RowState]) -> None:
        """After a burst its tokens are in the rows' texts, and no text that ended with them is gone."""
