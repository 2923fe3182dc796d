"""Commands that question results and hand them on: query, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from designspace.cli.formats import FormatOption
from designspace.cli.options import ResultsFolder, StudyOption
from designspace.cli.sweep_commands import shown
from designspace.errors import DeclarationError, UnknownName, require

if TYPE_CHECKING:
    import pyarrow as pa

    from designspace.query import Results

AgainstOption = Annotated[
    str | None, typer.Option("--against", help="Arm that contrasts subtract from the others [the full cache].")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")]
Rows = Literal["parquet", "csv", "jsonl"]
Published = Literal["markdown", "latex"]
_SUFFIXES = {"md": "markdown", "tex": "latex"}


def query(
    results: ResultsFolder,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT over the tables samples, arms and contrasts.")],
    file_format: FormatOption = "table",
    study: StudyOption = None,
    against: AgainstOption = None,
) -> None:
    """Ask results in SQL (DuckDB): samples has a row per text, arms is the report's table, contrasts compares arms.

    Example: designspace query results/quickstart "SELECT mechanism, accuracy FROM arms WHERE budget = '80' ORDER BY 2 DESC"

    Columns: docs/columns.md, or "DESCRIBE samples". The statement reads these tables and nothing else, and changes nothing.
    """
    require("duckdb")
    from designspace.cli.row_text import row_text
    from designspace.query.sql import query as ask

    found = ask(_results(results, study, "query"), sql, against)
    typer.echo(row_text(found, file_format))


def export(
    results: ResultsFolder,
    out: Annotated[Path, typer.Option(help="File to write; with --partition a new folder.")],
    file_format: Annotated[
        Literal["parquet", "csv", "jsonl", "markdown", "latex"] | None,
        typer.Option("--format", help="[by the suffix of --out: .parquet .csv .jsonl .md .tex]"),
    ] = None,
    table: Annotated[
        Literal["rows", "arms", "contrasts"] | None,
        typer.Option(
            "--table", help="All texts, the report's table, or its contrasts [rows; markdown and latex: arms]."
        ),
    ] = None,
    partition: Annotated[str, typer.Option(help="Columns that become folders, e.g. model,task.")] = "",
    completions: Annotated[
        bool,
        typer.Option("--completions", help="Write task_id and completion of each text, as code evaluators read them."),
    ] = False,
    study: Annotated[
        str | None, typer.Option(help="Only this study, as it is declared now [rows: all; else the only one].")
    ] = None,
    against: AgainstOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write the rows, the table of the report or its contrasts to a file, and say how much was written.

    Rows go to one file, or to a partitioned folder of Parquet files; or the texts go to a grader elsewhere. In CSV, a text
    that a spreadsheet would run as a formula gets an apostrophe in front; Parquet and JSON lines are exact.
    """
    chosen = file_format or _SUFFIXES.get(out.suffix.lstrip("."), out.suffix.lstrip("."))
    if partition and file_format is None:
        chosen = "parquet"
    what = table or ("arms" if chosen in get_args(Published) else "rows")
    _check(chosen, what, against, partition=partition, completions=completions)
    if out.exists() and (partition or not overwrite):
        advice = "name a new folder" if partition else "give --overwrite to replace it, or another --out"
        raise DeclarationError(f"{out} exists already: {advice}")
    if what != "rows":
        _export_numbers(_results(results, study, "export"), what, against, out, chosen)
    else:
        _export_rows(results, study, out, chosen, partition, completions=completions)


def _check(chosen: str, what: str, against: str | None, *, partition: str, completions: bool) -> None:
    """Refuse options that do not go together, before anything is read."""
    known = (*get_args(Rows), *get_args(Published))
    wrong = {
        f"export writes {', '.join(known)}, got {chosen!r}": chosen not in known,
        "--completions writes one JSON Lines file, so it takes no --partition, --table or other --format": completions
        and (partition or chosen != "jsonl" or what != "rows"),
        f"--table rows is written as {', '.join(get_args(Rows))}, got {chosen}": what == "rows"
        and chosen in get_args(Published),
        "--partition divides rows into Parquet files, so it takes no --table or other --format": partition
        and (chosen != "parquet" or what != "rows"),
        "--against needs --table contrasts": what != "contrasts" and against is not None,
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise DeclarationError(message)


def _export_rows(
    results: Path, study: str | None, out: Path, file_format: str, partition: str, *, completions: bool
) -> None:
    import pyarrow.dataset as ds

    from designspace.report import export_completions
    from designspace.store import export_results

    rows = _rows_of(results, study)
    if completions:
        export_completions(ds.dataset(rows), out)
        typer.echo(f"wrote {rows['forced_of'].null_count:,} completions: {out}")
        return
    columns = [column.strip() for column in partition.split(",") if column.strip()]
    for column in columns:
        if column not in rows.column_names:
            raise UnknownName("column", column, rows.column_names)
    export_results(ds.dataset(rows), out, file_format=file_format, partition_by=columns)
    typer.echo(f"wrote {rows.num_rows:,} rows x {rows.num_columns} columns: {out}")


def _rows_of(results: Path, study: str | None) -> pa.Table:
    """Return what may be exported of a folder: all rows, or those of one study under the labels that it has now."""
    from designspace.report import declared_study, relabelled
    from designspace.store import ResultsStore

    store = ResultsStore.open(results, create=False)
    if study is None:
        return shown(store.root, store.samples().to_table(), "export", err=True)
    declared = declared_study(store, study)
    labels = {} if declared is None else declared.labels
    return relabelled(shown(store.root, store.samples(cell_ids=labels).to_table(), "export", err=True), labels)


def _export_numbers(results: Results, what: str, against: str | None, out: Path, chosen: str) -> None:
    import pyarrow.dataset as ds

    from designspace.report import contrasts
    from designspace.report.arms_table import arms_table, contrasts_table
    from designspace.report.published_table import published_arms, published_contrasts, to_latex, to_markdown
    from designspace.store import export_results
    from designspace.store.commit import atomic_bytes

    report = results.report()
    found = contrasts(report, against) if what == "contrasts" else []
    numbers = arms_table(report.arms) if what == "arms" else contrasts_table(found)
    n_columns = numbers.num_columns
    if chosen in get_args(Published):
        tables = published_arms(report) if what == "arms" else published_contrasts(found, report.missing)
        text = to_markdown(tables) if chosen == "markdown" else to_latex(tables)
        atomic_bytes(out, text.encode("utf-8"), out.resolve().parent)
        n_columns = len(tables[0].headings)
    else:
        export_results(ds.dataset(numbers), out, file_format=chosen)
    typer.echo(f"wrote {numbers.num_rows:,} {what} x {n_columns} columns: {out}")


def _results(folder: Path, study: str | None, command: str) -> Results:
    """Return a folder as a command reads it: what must be known is said on stderr, in lines of their own."""
    from designspace.query import Results
    from designspace.store import ResultsStore

    def say(note: str) -> None:
        typer.echo(f"! {note}", err=True)

    return Results(ResultsStore.open(folder, create=False), study, command=command, choose="--study", say=say)
