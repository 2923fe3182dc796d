"""Commands about a sweep and its results: run, plan, status, report, export, effects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from designspace.cli.exit_codes import EXIT_INCOMPLETE
from designspace.cli.options import (
    AddressOption,
    AsJson,
    ExecutorOption,
    ProgressOption,
    ResultsFolder,
    ResultsOption,
    SweepFile,
    WorkersOption,
    power_text,
    print_json,
    store_of,
)
from designspace.errors import DeclarationError, ProtocolError, require

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds


def run(
    sweep: SweepFile,
    results: ResultsOption = None,
    executor: ExecutorOption = "ray",
    address: AddressOption = None,
    workers: WorkersOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many shards.")] = None,
    progress: ProgressOption = "auto",
    report: Annotated[bool, typer.Option("--report/--no-report", help="Table and HTML report at the end.")] = True,
) -> None:
    """Run a sweep, or what is left of it."""
    from cluster.run import run_sweep

    if report:
        require("matplotlib")
    outcome = run_sweep(
        sweep, results, executor=executor, address=address, workers=workers, limit=limit, progress=progress
    )
    if report:
        print_results(outcome.results, outcome.results / "report.html", title=outcome.study, labels=outcome.labels)
    left = f", {outcome.n_left} left for another run" if outcome.n_left else ""
    typer.echo(
        f"{outcome.n_done} shards done, {outcome.n_cached} done before{left}: {outcome.results}"
        f" ({outcome.n_new_tokens:,} tokens in {outcome.wall_s:.1f} s)"
    )
    for lost in outcome.quarantined:
        typer.echo(f"given up: {lost.cell}, shard {lost.shard_id}: {lost.error}: {lost.message}", err=True)
    if outcome.quarantined:
        raise typer.Exit(EXIT_INCOMPLETE)


def plan(sweep: SweepFile, results: ResultsOption = None, as_json: AsJson = False) -> None:
    """Show what a sweep will do: cells, shards, cached and pending, tokens, predicted cache."""
    from cluster.study_record import with_rows_of
    from sweeps.plan import plan as make_plan
    from sweeps.plan_table import print_plan
    from sweeps.spec import load_sweep
    from sweeps.study import is_study, load_study

    study = load_study(sweep) if is_study(sweep) else None
    declared = load_sweep(sweep) if study is None else study.sweep
    store = store_of(declared.study, results)
    planned = make_plan(with_rows_of(declared, store), store)
    typer.echo(planned.to_json()) if as_json else print_plan(planned)
    if study is not None:
        from cluster.evidence.design_power import power, undrawable, unprovable

        m = len(study.hypotheses())
        found = power(study, study.data_records(), m)
        typer.echo(f"study: development sweep above; {power_text(found, m)}", err=as_json)
        for reason in (*undrawable(found), *unprovable(found)):
            typer.echo(f"study: register will refuse it: {reason}", err=as_json)


def status(
    target: Annotated[Path, typer.Argument(metavar="SWEEP|RESULTS", help="Sweep file or results folder.")],
    results: ResultsOption = None,
    as_json: AsJson = False,
) -> None:
    """Show how far a study has come, and what failed."""
    from dataclasses import asdict

    from designspace.cli.status import status_text, store_status, study_status
    from designspace.store import ResultsStore

    if target.is_dir():
        found = store_status(ResultsStore.open(target, create=False))
    else:
        from cluster.study_record import with_rows_of
        from sweeps.plan import plan as make_plan
        from sweeps.spec import load_sweep

        sweep = load_sweep(target)
        store = store_of(sweep.study, results)
        cells = [asdict(cell) for cell in make_plan(with_rows_of(sweep, store)).cells]
        found = [study_status(store, sweep.study, cells)]
    if as_json:
        print_json({"studies": found})
    else:
        typer.echo("\n".join(status_text(entry) for entry in found) or "no study yet")


def report(
    results: ResultsFolder,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Also write the report to this HTML file.")] = None,
) -> None:
    """Print the table of a results folder."""
    print_results(results, html, title=results.resolve().name, as_json=as_json)


def export(
    results: ResultsFolder,
    out: Annotated[Path, typer.Option(help="File to write; with --partition a new folder.")],
    file_format: Annotated[
        Literal["parquet", "csv", "jsonl"] | None, typer.Option("--format", help="[by the suffix of --out]")
    ] = None,
    partition: Annotated[str, typer.Option(help="Columns that become folders, e.g. model,task.")] = "",
    completions: Annotated[
        bool,
        typer.Option("--completions", help="Write task_id and completion of each text, as code evaluators read them."),
    ] = False,
) -> None:
    """Write all rows to one file, or to a partitioned folder of Parquet files; or the texts for a grader elsewhere."""
    from designspace.report import export_completions
    from designspace.store import export_results, open_results

    if completions:
        if partition or file_format not in (None, "jsonl"):
            raise DeclarationError(
                "--completions writes one JSON Lines file, so it takes no --partition or other --format"
            )
        typer.echo(export_completions(shown_dataset(results, open_results(results).dataset), out))
        return
    columns = [column.strip() for column in partition.split(",") if column.strip()]
    rows = shown_dataset(results, open_results(results).dataset)
    typer.echo(export_results(rows, out, file_format=file_format, partition_by=columns))


def effects(sweep: SweepFile, results: ResultsOption = None, as_json: AsJson = False) -> None:
    """Show which axis matters: main effects and pairwise interactions of a sweep's arms."""
    from cluster.run import default_results
    from cluster.study_record import with_rows_of
    from designspace.protocol.showing import COLUMNS as SHOWN_BY
    from designspace.store import ResultsStore
    from sweeps.effects import axis_effects, effects_text
    from sweeps.expand import expand
    from sweeps.spec import load_sweep

    declared = load_sweep(sweep)
    store = ResultsStore.open(results or default_results(declared.study), create=False)
    declared = with_rows_of(declared, store)
    rows = store.samples(SHOWN_BY, cell_ids={cell.cell_id for cell in expand(declared)}).to_table()
    if shown(store.root, rows, "effects", err=as_json).num_rows < rows.num_rows:
        raise ProtocolError("the effects of a confirmation must wait until its result is sealed")
    found = axis_effects(declared, store)
    print_json([group.document() for group in found]) if as_json else typer.echo(effects_text(found))


def shown(root: Path, table: pa.Table, command: str, *, err: bool) -> pa.Table:
    """Return the rows that may be shown, and print a line where a look at held-out problems was noted, or rows are left out.

    root: folder of the rows. err: print to stderr.
    """
    from designspace.protocol.showing import shown_rows

    found = shown_rows(root, table, command)
    for note in found.notes:
        typer.echo(note, err=err)
    return found.table


def shown_dataset(root: Path, dataset: ds.Dataset) -> ds.Dataset:
    """Return the rows that may be exported, as `shown` does."""
    import pyarrow.dataset as ds

    return ds.dataset(shown(root, dataset.to_table(), "export", err=True))


def print_results(
    root: Path, html: Path | None, *, title: str, as_json: bool = False, labels: dict[str, str] | None = None
) -> None:
    """Print the table of a store, or of the cells that `labels` names, and write the HTML page if a path is given."""
    from designspace.environment import environment
    from designspace.report import notes, print_report, relabelled, summarise, to_json, write_report
    from designspace.store import ResultsStore

    table = ResultsStore.open(root, create=False).samples(cell_ids=labels).to_table()
    table = shown(root, table, "report", err=as_json)
    table = table if labels is None else relabelled(table, labels)
    arms = summarise(table)
    if as_json:
        print_json(to_json(arms, notes(arms)))
    else:
        print_report(arms, notes(arms))
    if html is not None:
        typer.echo(f"report: {write_report(table, html, title=title, environment=environment())}", err=as_json)
