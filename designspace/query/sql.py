"""SQL over results, in memory: the rows, the arms and the contrasts as tables of DuckDB."""

from __future__ import annotations

import re

import pyarrow as pa

from designspace.errors import DesignspaceError, did_you_mean, require
from designspace.query.results import Results
from designspace.report import contrasts
from designspace.report.arms_table import arms_table, contrasts_table
from designspace.store.export import plain_columns

TABLES = ("samples", "arms", "contrasts")
# A query reads these tables and nothing else: no file, no network, no setting.
_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "lock_configuration": "true",
}


class QueryError(DesignspaceError, ValueError):
    """The SQL is not valid, or fails; the message is one line."""


def query(results: Results, sql: str, against: str | None = None) -> pa.Table:
    """Return what a SQL statement says about results.

    Tables: `samples`, one row per text with its grades, of the study; `arms`, its summary; `contrasts`, every arm against one.
    Only those that the statement names are made.

    Args:
        results: to ask.
        sql: one statement in DuckDB's dialect.
        against: the arm that `contrasts` subtracts; None takes the full cache.

    Raises:
        MissingExtra: DuckDB is not installed.
        QueryError: the statement fails.
        UnknownName, DeclarationError: `contrasts` is asked for and there is no such arm, or no full cache.
    """
    require("duckdb")
    import duckdb

    if not sql.strip():
        raise QueryError(f"the SQL statement is empty; its tables are {', '.join(TABLES)}")
    named = [name for name in TABLES if re.search(rf"\b{name}\b", sql, re.IGNORECASE)]
    with duckdb.connect(":memory:", config=_CLOSED) as connection:
        for name, table in _tables(results, named, against).items():
            connection.register(name, table)
        try:
            found = connection.sql(sql)
            if found is None:
                raise QueryError("the statement returns no rows; begin it with SELECT")
            return found.to_arrow_table()
        except duckdb.Error as error:
            raise QueryError(f"SQL: {_one_line(error)}") from error


def _tables(results: Results, named: list[str], against: str | None) -> dict[str, pa.Table]:
    if not named:
        return {}
    rows, report = results.shown()
    made = {
        "samples": lambda: plain_columns(rows),
        "arms": lambda: arms_table(report.arms),
        "contrasts": lambda: contrasts_table(contrasts(report, against)),
    }
    return {name: made[name]() for name in named}


def _one_line(error: Exception) -> str:
    """Return DuckDB's message without the statement and the mark below it; of an unknown table the nearest one."""
    text = " ".join(re.split(r"\n\s*LINE \d+:", str(error))[0].split())
    unknown = re.search(r"Table with name (\S+) does not exist", text)
    return f"unknown table {unknown[1]!r}{did_you_mean(unknown[1], TABLES)}" if unknown else text
