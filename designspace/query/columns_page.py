"""The page on columns, made from the schemas: `python -m designspace.query.columns_page > docs/columns.md`."""

from __future__ import annotations

import pyarrow as pa

from designspace.report.arms_table import ARMS_SCHEMA, CONTRASTS_SCHEMA
from designspace.store.column_texts import column_rows
from designspace.store.schema import GRADE_COLUMNS, RESULTS_SCHEMA

_HEAD = """\
# What every column means

`python -m designspace.query.columns_page > docs/columns.md` makes this page from the schemas. The same texts and units are
metadata of the Arrow fields and of exported Parquet files (`field.metadata`), and `open_results(path).columns()` returns them.

A row of `samples` is one text, a row of `arms` sums up all texts of an arm, and a row of `contrasts` is one arm less another.
"""
_SECTIONS = (
    (
        "samples: one row per text",
        "`open_results(path).dataset`, `.to_pandas()`, `designspace export --table rows`, and `samples` in `designspace "
        "query`. A shard file on disk has all but the grades.",
        pa.schema([field for field in RESULTS_SCHEMA if field.name not in GRADE_COLUMNS]),
    ),
    (
        "samples: the grade of the text",
        "Joined with the text by problem and replicate; all null where nobody has graded it.",
        pa.schema([RESULTS_SCHEMA.field(name) for name in GRADE_COLUMNS]),
    ),
    (
        "arms: one row per arm",
        "`open_results(path).summary()`, `designspace export --table arms`, and `arms` in `designspace query`: the numbers of "
        "`designspace report`, unrounded, on the problems that all arms of a model and task have.",
        ARMS_SCHEMA,
    ),
    (
        "contrasts: one arm less another",
        "`open_results(path).contrasts(against)`, `.paired(a, b)`, `designspace export --table contrasts`, and `contrasts` in "
        "`designspace query`. The contrasts of one model, task, split and budget are one family, whatever others are shown.",
        CONTRASTS_SCHEMA,
    ),
)


def columns_page() -> str:
    """Return the page in Markdown."""
    return "\n".join([_HEAD, *(_section(*section) for section in _SECTIONS)])


def _section(heading: str, where: str, schema: pa.Schema) -> str:
    lines = [f"## {heading}", "", where, "", "| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{row['column']}` | {row['type'].replace('<', ' of ').replace('>', '')} | {row['unit']} | {row['description']} |"
        for row in column_rows(schema)
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(columns_page(), end="")
