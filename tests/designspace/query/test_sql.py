"""SQL over results: three tables, answers that agree with the report, and errors in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from designspace.errors import DeclarationError, UnknownName
from designspace.query import open_results
from designspace.query.sql import QueryError, query


def test_the_three_tables(results: Path) -> None:
    """Rows with their grades; the summary; contrasts against a chosen arm."""
    found = open_results(results)
    by_rows = query(found, "SELECT avg(correct::int) a FROM samples WHERE mechanism = 'alpha+none' AND budget = '80'")
    by_arm = query(found, "SELECT accuracy FROM arms WHERE mechanism = 'alpha+none' AND budget = '80'")
    points = query(found, "SELECT points FROM contrasts WHERE arm = 'alpha+none' AND budget = '80'", "h2o+none")

    assert by_rows.to_pylist() == [{"a": 0.75}]
    assert by_arm.to_pylist() == [{"accuracy": 0.75}]
    assert points.to_pylist() == [{"points": pytest.approx(100 * (9 - 2) / 12)}]


def test_tables_can_be_joined_and_described(results: Path) -> None:
    """Arms have one name in all of them, and every column of the page is there."""
    found = open_results(results)
    joined = query(
        found,
        "SELECT count(*) n, bool_and(a.accuracy = s.a) same FROM arms a JOIN "
        "(SELECT budget, mechanism, avg(correct::int) a FROM samples GROUP BY ALL) s USING (budget, mechanism)",
    )
    assert joined.to_pylist() == [{"n": 9, "same": True}]
    assert "diverges_at" not in query(found, "DESCRIBE samples")["column_name"].to_pylist()
    assert query(found, "SELECT * FROM samples").num_rows == 9 * 12


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", 'SQL: Parser Error: syntax error at or near "SELEC"'),
        ("SELECT nope FROM arms", 'SQL: Binder Error: Referenced column "nope" not found in FROM clause!'),
        ("SELECT * FROM arm", "SQL: unknown table 'arm' (did you mean 'arms'?)"),
        ("  ", "the SQL statement is empty; its tables are samples, arms, contrasts"),
        ("SELECT 'a'::int", "SQL: Conversion Error"),
        ("COPY arms TO 'x.csv'", "SQL: Permission Error"),
        ("SELECT * FROM read_csv('/etc/passwd')", "SQL: Permission Error"),
        ("SET threads = 1", "SQL: Invalid Input Error"),
    ],
)
def test_a_mistake_is_one_line(results: Path, sql: str, message: str) -> None:
    """Without the statement; and a statement reads nothing but the tables."""
    with pytest.raises(QueryError) as error:
        query(open_results(results), sql)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_contrasts_need_an_arm_that_is_there(results: Path) -> None:
    """Only where they are asked for."""
    found = open_results(results)

    with pytest.raises(UnknownName, match="unknown arm 'h2o'"):
        query(found, "SELECT * FROM contrasts", "h2o")
    assert query(found, "SELECT 1 AS one", "h2o").to_pylist() == [{"one": 1}]
    assert issubclass(QueryError, ValueError) and issubclass(DeclarationError, ValueError)
