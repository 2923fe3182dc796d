"""Results for reading: what a notebook or another program opens."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from designspace.protocol.showing import shown_rows
from designspace.query.problem_texts import problem_texts
from designspace.report import StudyReport, contrasts, declared_study, relabelled, study_report
from designspace.report.arm_rows import named_apart
from designspace.report.arms_table import arms_table, contrasts_table
from designspace.store import DamagedFile, Failure, ResultsStore
from designspace.store.column_texts import column_rows
from designspace.store.reader import frame
from designspace.store.schema import RESULTS_SCHEMA

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow.dataset as ds


class ResultsWarning(UserWarning):
    """What must be known before the numbers are believed: a study that is not finished, or a look at held-out problems."""


def _warn(note: str) -> None:
    warnings.warn(note, ResultsWarning, stacklevel=5)


class Results:
    """The reading side of a store: what `open_results` returns.

    `dataset` and `to_pandas` give the stored rows, one per text. `summary`, `contrasts`, `paired` and `texts` give what
    `designspace report` says of one study, from the same numbers: of the study's own rows, each arm under the name that it
    has there, on the problems that all arms of a model and task have. `columns` says what every column means.

    These four read the folder anew each time. They warn where the study is not finished, and where they show problems that a
    registration holds out: the look is noted, as it is by `designspace report`.
    """

    def __init__(
        self,
        store: ResultsStore,
        study: str | None = None,
        *,
        command: str = "open_results",
        choose: str = "open_results(path, study=NAME)",
        say: Callable[[str], None] = _warn,
    ) -> None:
        """Take a store.

        Args:
            store: to read.
            study: which study of the folder; None takes the only one.
            command: what a look at held-out problems is noted under.
            choose: how a study is named, said where several share the folder.
            say: is told what `ResultsWarning` says otherwise.
        """
        self._store, self._study, self._command, self._choose, self._say = store, study, command, choose, say

    @property
    def dataset(self) -> ds.Dataset:
        """All rows joined with their grades, read anew at each access; of the study, if one was named."""
        import pyarrow.dataset as ds

        if self._study is None:
            return self._store.samples()
        declared = declared_study(self._store, self._study, choose=self._choose)
        labels = {} if declared is None else declared.labels
        return ds.dataset(relabelled(self._store.samples(cell_ids=labels).to_table(), labels))

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return all rows of `dataset`, or some columns of them, as a data frame."""
        if self._study is None:
            return self._store.to_pandas(columns)
        return frame(self.dataset.to_table(columns=None if columns is None else list(columns)))

    def columns(self) -> pd.DataFrame:
        """Return name, type, unit and description of every column of the rows."""
        import pandas as pd

        return pd.DataFrame(column_rows(RESULTS_SCHEMA))

    def summary(self) -> pd.DataFrame:
        """Return one row per arm: accuracy and interval, cache in tokens and bytes, and whether it may be compared."""
        return frame(arms_table(self.report().arms), nullable=True)

    def contrasts(self, against: str | None = None) -> pd.DataFrame:
        """Return every arm less one arm, paired by problem: points, interval and p, corrected for all of a budget.

        Arms whose caches differ, or that share too few problems, have no number; `void` says why.

        Args:
            against: name of the mechanism to subtract; None takes the full cache.

        Raises:
            UnknownName: there is no such arm; the message names the nearest.
            DeclarationError: no arm is named, and there is no full cache.
        """
        return frame(contrasts_table(contrasts(self.report(), against)), nullable=True)

    def paired(self, a: str, b: str) -> pd.DataFrame:
        """Return arm `a` less arm `b`, paired by problem, for every model, task and budget; corrected for nothing.

        Raises:
            UnknownName: there is no such arm; the message names the nearest.
        """
        return frame(contrasts_table(contrasts(self.report(), b, arms=[a])), nullable=True)

    def texts(self, problem: str, against: str | None = None) -> pd.DataFrame:
        """Return what every arm wrote for a problem, whether it is right, and where it leaves the text of one arm.

        `diverges_at` is the first token, counted from 0, that differs from the text of `against` (of the same model, task and
        replicate; in the same budget or without one); null where no token does, or there is no such text.

        Args:
            problem: its id.
            against: name of the mechanism whose text the others are held against; None takes the full cache, if there is one.

        Raises:
            UnknownName: there is no such problem or arm; the message names the nearest.
        """
        table, report = self.shown()
        return frame(problem_texts(table, report, problem, against), nullable=True)

    def notes(self) -> list[str]:
        """Return what a reader must know before comparing the arms of `summary`: what is missing, unmatched, identical."""
        report = self.report()
        return [*report.missing, *report.notes]

    def report(self) -> StudyReport:
        """Return the report that all these numbers are taken from."""
        return self.shown()[1]

    def shown(self) -> tuple[pa.Table, StudyReport]:
        """Return the rows of the study, each under the name that its arm has in the report, and the report."""
        declared = declared_study(self._store, self._study, choose=self._choose)
        labels = None if declared is None else declared.labels
        found = shown_rows(self._store.root, self._store.samples(cell_ids=labels).to_table(), self._command)
        for note in found.notes:
            self._say(note)
        report = study_report(self._store, declared, found.table)
        if report.missing:
            self._say(report.missing[0])
        return named_apart(found.table if labels is None else relabelled(found.table, labels)), report

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


def open_results(path: str | Path, study: str | None = None) -> Results:
    """Open a results folder for reading.

    Args:
        path: the folder.
        study: the study to read, as it is declared now; None takes the only one of the folder, and for `dataset` and
            `to_pandas` all rows there are.

    Raises:
        StoreError: it is not a results store, or newer than this version reads.
        UnknownName: there is no study of that name.
    """
    store = ResultsStore.open(path, create=False)
    if study is not None:
        declared_study(store, study)
    return Results(store, study)
