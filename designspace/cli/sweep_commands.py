"""Commands about a sweep and its results: run, plan, status, report, effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from designspace.cli.exit_codes import EXIT_INCOMPLETE
from designspace.cli.formats import Format, FormatOption, format_of, print_found, table_of
from designspace.cli.options import (
    AddressOption,
    AsJson,
    ExecutorOption,
    ProgressOption,
    ResultsFolder,
    ResultsOption,
    StudyOption,
    SweepFile,
    SweepOrResults,
    WorkersOption,
    declared_by,
    power_text,
    store_of,
)
from designspace.errors import DeclarationError, ProtocolError, UnknownName, require

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from designspace.protocol.metric import MetricName
    from designspace.report import Declared, StudyReport
    from designspace.store import ResultsStore
    from sweeps.effects import GroupEffects


def run(
    sweep: SweepFile,
    results: ResultsOption = None,
    executor: ExecutorOption = "ray",
    address: AddressOption = None,
    workers: WorkersOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many shards.")] = None,
    progress: ProgressOption = "auto",
    report: Annotated[bool, typer.Option("--report/--no-report", help="Table and HTML report at the end.")] = True,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse to go on with results that another state of the code made.")
    ] = False,
) -> None:
    """Run a sweep, or what is left of it."""
    from cluster.run import run_sweep
    from designspace.report import declared_study
    from designspace.store import ResultsStore

    outcome = run_sweep(
        sweep,
        results,
        executor=executor,
        address=address,
        workers=workers,
        limit=limit,
        progress=progress,
        strict=strict,
    )
    if report:
        store = ResultsStore.open(outcome.results, create=False)
        print_results(store, declared_study(store, outcome.study), outcome.results / "report.html")
    left = f", {outcome.n_left} left for another run" if outcome.n_left else ""
    elsewhere = f", {outcome.n_elsewhere} by another run meanwhile" if outcome.n_elsewhere else ""
    typer.echo(
        f"{outcome.n_done} shards done, {outcome.n_cached} done before{elsewhere}{left}: {outcome.results}"
        f" ({outcome.n_new_tokens:,} tokens in {outcome.wall_s:.1f} s)"
    )
    for lost in outcome.quarantined:
        typer.echo(f"given up: {lost.cell}, shard {lost.shard_id}: {lost.error}: {lost.message}", err=True)
    if outcome.quarantined:
        raise typer.Exit(EXIT_INCOMPLETE)


def plan(
    sweep: SweepFile, results: ResultsOption = None, file_format: FormatOption = "table", as_json: AsJson = False
) -> None:
    """Show what a sweep will do: cells, shards, cached and pending, tokens, predicted cache."""
    from cluster.code_id import code_id
    from cluster.preflight import check_room
    from cluster.study_record import with_rows_of
    from sweeps.earlier_rows import EarlierRows
    from sweeps.plan import ArmPlan
    from sweeps.plan import plan as make_plan
    from sweeps.plan_table import plan_notes, print_plan
    from sweeps.spec import load_sweep
    from sweeps.study import is_study, load_study

    study = load_study(sweep) if is_study(sweep) else None
    declared = load_sweep(sweep) if study is None else study.sweep
    store = store_of(declared.study, results)
    declared = with_rows_of(declared, store)
    planned = make_plan(declared, store, None if store is None else EarlierRows(store, code_id()))
    check_room(declared)
    chosen = format_of(file_format, as_json)
    arms = [asdict(arm) for arm in planned.arms]
    print_found(
        chosen,
        table=lambda: print_plan(planned),
        document=planned.to_dict,
        rows=lambda: table_of(arms, [field.name for field in fields(ArmPlan)]),
        notes=() if chosen == "json" else plan_notes(planned),
    )
    if study is not None:
        from cluster.evidence.design_power import power, undrawable, unprovable

        m = len(study.hypotheses())
        found = power(study, study.data_records(), m)
        typer.echo(f"study: development sweep above; {power_text(found, m)}", err=chosen != "table")
        for reason in (*undrawable(found), *unprovable(found)):
            typer.echo(f"study: register will refuse it: {reason}", err=chosen != "table")


def report(
    results: ResultsFolder,
    study: StudyOption = None,
    sweep: Annotated[
        Path | None, typer.Option(help="Report the study of this sweep file, as the file stands now.")
    ] = None,
    file_format: FormatOption = "table",
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Also write the report to this HTML file.")] = None,
    static: Annotated[bool, typer.Option("--static", help="Without scripts in the HTML file.")] = False,
    against: Annotated[
        list[str] | None, typer.Option(help="Arm that the HTML file holds the others against, beside the references.")
    ] = None,
) -> None:
    """Print the table of one study of a results folder, as the study is declared now."""
    from designspace.report import declared_study
    from designspace.store import ResultsStore

    if study is not None and sweep is not None:
        raise DeclarationError("--study and --sweep both say which study to report: give one of them")
    if html is None and (static or against):
        name = "--static" if static else "--against"
        raise DeclarationError(f"{name} says what the HTML file is like: give --html FILE too")
    if static and against:
        raise DeclarationError("--static leaves contrasts out, so it takes no --against")
    if static:
        require("matplotlib")
    store = ResultsStore.open(results, create=False)
    declared = declared_study(store, study) if sweep is None else declared_by(sweep, results)[0]
    chosen = format_of(file_format, as_json)
    print_results(store, declared, html, file_format=chosen, static=static, against=against or ())


def effects(
    target: SweepOrResults,
    results: ResultsOption = None,
    study: StudyOption = None,
    file_format: FormatOption = "table",
    as_json: AsJson = False,
    metric: Annotated[
        Literal["accuracy", "forced_agreement"],
        typer.Option(help="What arms are compared by; forced_agreement compares the teacher-forced ones."),
    ] = "accuracy",
) -> None:
    """Show which axis matters: main effects and pairwise interactions of the arms of a sweep, or of a study in its folder."""
    from designspace.protocol.showing import COLUMNS as SHOWN_BY
    from sweeps.effects import EFFECT_COLUMNS, effect_rows, effects_text

    chosen = format_of(file_format, as_json)
    store, cell_ids, compute = _effects_of(target, results, study)
    rows = store.samples(SHOWN_BY, cell_ids=cell_ids).to_table()
    if shown(store.root, rows, "effects", err=chosen != "table").num_rows < rows.num_rows:
        raise ProtocolError("the effects of a confirmation must wait until its result is sealed")
    found = compute(metric)
    print_found(
        chosen,
        table=lambda: effects_text(found),
        document=lambda: [group.document() for group in found],
        rows=lambda: table_of(effect_rows(found), EFFECT_COLUMNS),
    )


def _effects_of(
    target: Path, results: Path | None, study: str | None
) -> tuple[ResultsStore, set[str], Callable[[MetricName], list[GroupEffects]]]:
    """Return the store, the cells, and what computes the effects: of a sweep file as it stands, or of a folder's study."""
    from cluster.run import default_results
    from cluster.study_record import with_rows_of
    from designspace.report import declared_study
    from designspace.store import ResultsStore
    from sweeps.effects import axis_effects, study_effects
    from sweeps.expand import expand
    from sweeps.spec import load_sweep

    if not target.is_dir():
        sweep = load_sweep(target)
        if study not in (None, sweep.study):
            raise UnknownName(f"study of {target}", study, [sweep.study])
        store = ResultsStore.open(results or default_results(sweep.study), create=False)
        sweep = with_rows_of(sweep, store)
        return store, {cell.cell_id for cell in expand(sweep)}, lambda metric: axis_effects(sweep, store, metric)
    store = ResultsStore.open(target, create=False)
    declared = declared_study(store, study)
    if declared is None:
        raise DeclarationError(f"{target} declares no study: give the sweep file, and --results {target}")
    return store, set(declared.labels), lambda metric: study_effects(declared, store, metric)


def shown(root: Path, table: pa.Table, command: str, *, err: bool) -> pa.Table:
    """Return the rows that may be shown, and print a line where a look at held-out problems was noted, or rows are left out.

    root: folder of the rows. err: print to stderr.
    """
    from designspace.protocol.showing import shown_rows

    found = shown_rows(root, table, command)
    for note in found.notes:
        typer.echo(note, err=err)
    return found.table


def print_results(
    store: ResultsStore,
    declared: Declared | None,
    html: Path | None,
    *,
    file_format: Format = "table",
    static: bool = False,
    against: Sequence[str] = (),
) -> None:
    """Print the table of a study, and write the HTML page if a path is given.

    declared: None where the folder has no declaration; every cell is then an arm of its own. static: no scripts in the page.
    against: arms that the page holds the others against.
    """
    from designspace.protocol.showing import COLUMNS as SHOWN_BY
    from designspace.report import print_report, study_report
    from designspace.report.arms_table import arms_table
    from designspace.report.report_columns import report_columns

    labels = None if declared is None else declared.labels
    everything = store.samples(report_columns(SHOWN_BY), cell_ids=labels).to_table()
    rows = shown(store.root, everything, "report", err=file_format != "table")
    found = study_report(store, declared, rows)
    page = None if html is None else _write_page(store, declared, rows, found, html, static=static, against=against)
    print_found(
        file_format,
        table=lambda: print_report(found.arms, found.notes, missing=found.missing, fidelity=found.fidelity),
        document=found.document,
        rows=lambda: arms_table(found.arms),
        notes=() if file_format == "json" else (f"! {note}" for note in (*found.missing, *found.notes)),
    )
    if page is not None:
        typer.echo(f"report: {page}", err=file_format != "table")


def _write_page(
    store: ResultsStore,
    declared: Declared | None,
    rows: pa.Table,
    report: StudyReport,
    html: Path,
    *,
    static: bool,
    against: Sequence[str],
) -> Path:
    """Write the HTML page of a report, and return its path. rows: those that may be shown, as they are stored."""
    from designspace.environment import environment
    from designspace.report import relabelled, write_report
    from designspace.report.asked import asked
    from designspace.report.cost import read_costs
    from designspace.report.page_occupancy import page_occupancy
    from designspace.report.page_problems import problems_data

    title = store.root.name if declared is None else declared.study
    texts = rows if declared is None else relabelled(rows, declared.labels)
    return write_report(
        report,
        html,
        title=title,
        environment=environment(),
        asked=asked(store, declared, rows),
        against=against,
        static=static,
        problems=problems_data(texts, title, str(store.root)),
        occupancy=page_occupancy(texts),
        costs=read_costs(store.root),
    )
