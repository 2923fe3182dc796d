"""What the problem browser knows of every text, in memory; the texts themselves are read when one is looked at.

Of a million texts the index holds some hundred megabytes, and answers a filter within a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from designspace.errors import require
from designspace.protocol.showing import COLUMNS as SHOWN_BY
from designspace.protocol.showing import shown_rows
from designspace.report import Declared, relabelled
from designspace.report.arm_rows import NO_BUDGET, named_apart
from designspace.report.page_problems import places_of
from designspace.store import ResultsStore
from designspace.store.export import plain_columns

if TYPE_CHECKING:
    import duckdb

Verdict = Literal["any", "right", "wrong", "cut off"]
_COLUMNS = (
    "cell_id", "shard_id", "model", "task", "split", "budget", "mechanism", "replicate", "problem_id", "kind", "correct",
    "finish_reason", "extracted", "answer",
)  # fmt: skip
_PLACE = ("model", "task", "split", "budget", "replicate")
_CONDITION: Mapping[str, str] = {
    "right": "bool_or(correct) FILTER (mechanism = {arm})",
    "wrong": "bool_or(NOT correct) FILTER (mechanism = {arm})",
    "cut off": "bool_or(finish_reason = 'length') FILTER (mechanism = {arm})",
}
PAGE_SIZE = 50


@dataclass(frozen=True)
class Filter:
    """Which problems are listed.

    Attributes:
        model, task, split, budget, replicate: the place; arms without a budget count at any.
        a, b: names of two arms, empty for none.
        verdict_a, verdict_b: what their texts must be.
        kind: of the problem, empty for any.
        search: a part of the problem's id.
        page: counted from 0.
    """

    model: str
    task: str
    split: str
    budget: str
    replicate: int
    a: str = ""
    b: str = ""
    verdict_a: Verdict = "any"
    verdict_b: Verdict = "any"
    kind: str = ""
    search: str = ""
    page: int = 0


class Index:
    """The texts of a study, without their texts.

    notes: what was noted of a look at held-out problems.
    """

    def __init__(self, store: ResultsStore, declared: Declared | None) -> None:
        """Read what is stored now.

        Raises:
            MissingExtra: DuckDB is not installed.
        """
        require("duckdb")
        import duckdb

        labels = None if declared is None else declared.labels
        columns = list(dict.fromkeys([*_COLUMNS, "forced_of", *SHOWN_BY]))
        found = shown_rows(store.root, store.samples(columns, cell_ids=labels).to_table(), "view")
        table = found.table.filter(pc.is_null(found.table["forced_of"])).select(
            _COLUMNS
        )  # a text that was fed is no answer
        table = plain_columns(named_apart(table if labels is None else relabelled(table, labels)))
        self.notes = tuple(found.notes)
        self.n_texts = table.num_rows
        self._connection = duckdb.connect(":memory:")
        self._connection.register("stored", table)
        self._connection.execute("CREATE TABLE texts AS SELECT * FROM stored")
        self._connection.unregister("stored")

    def places(self) -> list[dict[str, Any]]:
        """Return every model, task, split, budget and replicate with its arms, those without a budget included."""
        rows = self._rows(f"SELECT DISTINCT {', '.join(_PLACE)}, mechanism, kind FROM texts")
        return places_of({tuple(row.values()) for row in rows})

    def problems(self, wanted: Filter) -> dict[str, Any]:
        """Return one page of problems with the verdicts of the two arms, how many fit and how many there are."""
        where, values = _where(wanted)
        having = [
            _CONDITION[verdict].format(arm=f"${side}")
            for side, arm, verdict in (("a", wanted.a, wanted.verdict_a), ("b", wanted.b, wanted.verdict_b))
            if arm and verdict != "any"
        ]
        listed = f"""
            SELECT problem_id, any_value(kind) AS kind,
                bool_or(correct) FILTER (mechanism = $a) AS a, bool_or(correct) FILTER (mechanism = $b) AS b
            FROM texts WHERE {where} GROUP BY problem_id HAVING {" AND ".join(having) or "true"}"""
        values |= {"a": wanted.a, "b": wanted.b}
        rows = self._rows(
            f"WITH listed AS ({listed}) SELECT *, count(*) OVER () AS n_fitting FROM listed "
            f"ORDER BY problem_id LIMIT {PAGE_SIZE} OFFSET {PAGE_SIZE * max(0, wanted.page)}",
            values,
        )
        (total,) = self._rows(
            f"SELECT count(DISTINCT problem_id) AS n FROM texts WHERE {where}",
            {name: value for name, value in values.items() if name not in ("a", "b")},
        )
        return {
            "problems": [{name: row[name] for name in ("problem_id", "kind", "a", "b")} for row in rows],
            "n_fitting": rows[0]["n_fitting"] if rows else 0,
            "n_problems": total["n"],
            "page_size": PAGE_SIZE,
        }

    def texts_of(self, wanted: Filter, problem_id: str) -> list[dict[str, Any]]:
        """Return what is known of every arm's text of a problem at a place: cell, shard, arm and grade."""
        where, values = _where(Filter(wanted.model, wanted.task, wanted.split, wanted.budget, wanted.replicate))
        return self._rows(
            f"SELECT * FROM texts WHERE {where} AND problem_id = $problem ORDER BY mechanism",
            {**values, "problem": problem_id},
        )

    def _rows(self, sql: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        cursor: duckdb.DuckDBPyConnection = self._connection.cursor()  # one for each thread of the server
        table: pa.Table = cursor.sql(sql, params=dict(values or {})).to_arrow_table()
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows


def _where(wanted: Filter) -> tuple[str, dict[str, Any]]:
    """Return the condition of a place, a kind and a search, and the values in it."""
    conditions = [f"{name} = ${name}" for name in ("model", "task", "split", "replicate")]
    conditions.append(f"budget IN ($budget, '{NO_BUDGET}')")
    values: dict[str, Any] = {name: getattr(wanted, name) for name in _PLACE}
    if wanted.kind:
        conditions.append("kind = $kind")
        values["kind"] = wanted.kind
    if wanted.search:
        conditions.append("contains(problem_id, $search)")
        values["search"] = wanted.search
    return " AND ".join(conditions), values
