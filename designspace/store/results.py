"""Results for reading: what a notebook or another program opens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from designspace.store.documents import Failure
from designspace.store.listing import DamagedFile
from designspace.store.reader import StoreReader
from designspace.store.results_store import ResultsStore

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset as ds


class Results:
    """The reading side of a store: what `open_results` returns."""

    def __init__(self, store: StoreReader) -> None:
        self._store = store

    @property
    def dataset(self) -> ds.Dataset:
        """All rows joined with their grades, read anew at each access."""
        return self._store.samples()

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return all rows, or some columns of them, as a data frame."""
        return self._store.to_pandas(columns)

    def studies(self) -> dict[str, list[dict[str, Any]]]:
        """Return the declarations of every study, by its name."""
        return self._store.studies()

    def cells(self) -> dict[str, dict[str, Any]]:
        """Return the identity document of every cell, by cell id."""
        return self._store.cells()

    def failures(self) -> list[Failure]:
        """Return every failed attempt on record."""
        return self._store.failures()

    def damaged(self) -> list[DamagedFile]:
        """Read every file completely and return the damaged ones with reasons."""
        return self._store.damaged()


def open_results(path: str | Path) -> Results:
    """Open a results folder for reading.

    Raises:
        StoreError: it is not a results store, or newer than this version reads.
    """
    return Results(ResultsStore.open(path, create=False))
