"""The `designspace` command.

Everything heavy is imported inside the commands, so that `--help` answers at once. Exit codes: 0 done, 1 error, 2 bad usage
or declaration, 3 not what was registered, 4 incomplete (shards were given up, or a contrast is void), 130 Ctrl-C.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from designspace.errors import DeclarationError, DesignspaceError, RegistrationMismatch, missing_extra, require
from designspace.version import __version__

if TYPE_CHECKING:
    from cluster.run import RunSettings
    from designspace.models.model_spec import ModelSpec
    from designspace.store import ResultsStore

EXIT_ERROR, EXIT_USAGE, EXIT_MISMATCH, EXIT_INCOMPLETE, EXIT_INTERRUPTED = 1, 2, 3, 4, 130


class _Group(TyperGroup):
    """Turns errors raised on purpose into one message and an exit code; anything else keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RegistrationMismatch as error:
            typer.echo(f"error: {error}", err=True)
            ctx.exit(EXIT_MISMATCH)
        except DesignspaceError as error:
            typer.echo(f"error: {error}", err=True)
            ctx.exit(EXIT_USAGE if isinstance(error, ValueError) else EXIT_ERROR)
        except ModuleNotFoundError as error:
            if (missing := missing_extra(error)) is None:
                raise
            typer.echo(f"error: {missing}", err=True)
            ctx.exit(EXIT_USAGE)
        except KeyboardInterrupt as error:
            typer.echo("stopped; what is committed stays, and the same command goes on from there", err=True)
            ctx.exit(getattr(error, "exit_code", EXIT_INTERRUPTED))


app = typer.Typer(
    name="designspace",
    cls=_Group,
    help="Which design choice of KV-cache compression matters at a small budget, and is the gain real?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="Sweep file (YAML).")]
ResultsFolder = Annotated[Path, typer.Argument(metavar="RESULTS", help="Results folder.")]
ResultsOption = Annotated[
    Path | None, typer.Option("--results", envvar="DESIGNSPACE_RESULTS", help="Results folder [results/<study>].")
]
RegistrationFile = Annotated[
    Path, typer.Argument(metavar="REGISTRATION", help="Registration file: <results>/protocol/….registration.json.")
]
ExecutorOption = Annotated[Literal["ray", "inline"], typer.Option("--executor", envvar="DESIGNSPACE_EXECUTOR")]
AddressOption = Annotated[
    str | None,
    typer.Option("--address", envvar="DESIGNSPACE_ADDRESS", help="Ray cluster [RAY_ADDRESS, else a local Ray]."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, envvar="DESIGNSPACE_WORKERS", help="Ray actors [one per GPU, or per core]."),
]
ProgressOption = Annotated[
    Literal["auto", "plain", "none"],
    typer.Option("--progress", envvar="DESIGNSPACE_PROGRESS", help="Where: stderr."),
]
UnderpoweredOption = Annotated[
    str | None,
    typer.Option("--underpowered", metavar="REASON", help="Register although the power is too small; recorded."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


@app.command()
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
        _report(outcome.results, outcome.results / "report.html", title=outcome.study, labels=outcome.labels)
    left = f", {outcome.n_left} left for another run" if outcome.n_left else ""
    typer.echo(
        f"{outcome.n_done} shards done, {outcome.n_cached} done before{left}: {outcome.results}"
        f" ({outcome.n_new_tokens:,} tokens in {outcome.wall_s:.1f} s)"
    )
    for lost in outcome.quarantined:
        typer.echo(f"given up: {lost.cell}, shard {lost.shard_id}: {lost.error}: {lost.message}", err=True)
    if outcome.quarantined:
        raise typer.Exit(EXIT_INCOMPLETE)


@app.command()
def plan(sweep: SweepFile, results: ResultsOption = None, as_json: AsJson = False) -> None:
    """Show what a sweep will do: cells, shards, cached and pending, tokens, predicted cache."""
    from cluster.study_record import with_rows_of
    from sweeps.plan import plan as make_plan
    from sweeps.plan_table import print_plan
    from sweeps.spec import load_sweep
    from sweeps.study import is_study, load_study

    study = load_study(sweep) if is_study(sweep) else None
    declared = load_sweep(sweep) if study is None else study.sweep
    store = _store_of(declared.study, results)
    planned = make_plan(with_rows_of(declared, store), store)
    typer.echo(planned.to_json()) if as_json else print_plan(planned)
    if study is not None:
        from cluster.evidence.live import power

        m = len(study.hypotheses())
        typer.echo(
            f"study: development sweep above; {_power_text(power(study, study.data_records(), m), m)}",
            err=as_json,
        )


@app.command()
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
        store = _store_of(sweep.study, results)
        cells = [asdict(cell) for cell in make_plan(with_rows_of(sweep, store)).cells]
        found = [study_status(store, sweep.study, cells)]
    if as_json:
        _print_json({"studies": found})
    else:
        typer.echo("\n".join(status_text(entry) for entry in found) or "no study yet")


@app.command()
def report(
    results: ResultsFolder,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Also write the report to this HTML file.")] = None,
) -> None:
    """Print the table of a results folder."""
    _report(results, html, title=results.resolve().name, as_json=as_json)


@app.command("list")
def list_(
    section: Annotated[
        str | None, typer.Argument(metavar="[AXIS]", help="An axis, mechanisms, models or tasks.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List axes with their kinds, mechanisms, models and tasks."""
    from designspace.cli.describe import listing, listing_text

    listed = listing(section)
    _print_json(listed) if as_json else typer.echo(listing_text(listed))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A mechanism, or axis.kind.")],
    budget: Annotated[list[int] | None, typer.Option(min=1, help="Tokens; may be given several times [64].")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a mechanism or strategy: composition, parameters, citation, budget arithmetic."""
    from designspace.cli.describe import describe, description_text

    described = describe(name, budget or [64])
    _print_json(described) if as_json else typer.echo(description_text(described))


@app.command()
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
        typer.echo(export_completions(open_results(results).dataset, out))
        return
    columns = [column.strip() for column in partition.split(",") if column.strip()]
    typer.echo(export_results(open_results(results).dataset, out, file_format=file_format, partition_by=columns))


@app.command()
def calibrate(
    model: Annotated[str, typer.Argument(help="A bundled model, a model folder, or a model of --sweep.")],
    artefacts: Annotated[list[str] | None, typer.Argument(help="Which artefacts to measure [all].")] = None,
    problems: Annotated[int, typer.Option(min=1, help="Calibration problems to use, for a bundled model.")] = 64,
    text: Annotated[
        Path | None, typer.Option(help="Plain text to calibrate on; needed unless the model is bundled.")
    ] = None,
    sweep: Annotated[Path | None, typer.Option(help="Sweep file that declares the model.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to [where the model's artefacts are looked for].")
    ] = None,
) -> None:
    """Measure on a model what some mechanisms need beforehand: all artefacts that are known, or the named ones."""
    from designspace.models.calibrate import calibrate as measure
    from designspace.models.calibration import artefact_path, save_artefact
    from designspace.registry import calibration, calibrations

    spec = _model_spec(model, sweep)
    measures = {name: calibration(name) for name in artefacts or calibrations()}
    for artefact in measure(spec, measures, n_problems=problems, text_path=None if text is None else str(text)):
        path = out / f"{artefact.name}.safetensors" if out else artefact_path(spec, artefact.name)
        save_artefact(path, artefact)
        typer.echo(path)


@app.command()
def bench(
    model: Annotated[str, typer.Argument(help="A bundled model, a model folder, or a model of --sweep.")],
    mechanism: Annotated[str, typer.Argument(help="A mechanism of the catalogue.")],
    budget: Annotated[int, typer.Option(min=1, help="Mean tokens per head, where the mechanism has a budget.")] = 128,
    rows: Annotated[int, typer.Option(min=1, help="Generations at a time.")] = 64,
    tokens: Annotated[int, typer.Option(min=2, help="New tokens of each.")] = 512,
    step: Annotated[Literal["plain", "compiled"], typer.Option(help="The decode step.")] = "plain",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads [as torch has it].")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs to take the median of.")] = 5,
    sweep: Annotated[Path | None, typer.Option(help="Sweep file that declares the model.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure decoding on this machine: tokens per second, share of the physical floor, and where the time goes."""
    from designspace.cli.speed import bench_arm, speed_text

    found = bench_arm(
        _model_spec(model, sweep),
        mechanism,
        budget,
        rows=rows,
        n_new_tokens=tokens,
        step=step,
        threads=threads,
        n_runs=runs,
    )
    _print_json(found.document()) if as_json else typer.echo(speed_text(found))


@app.command()
def effects(sweep: SweepFile, results: ResultsOption = None, as_json: AsJson = False) -> None:
    """Show which axis matters: main effects and pairwise interactions of a sweep's arms."""
    from cluster.run import default_results
    from cluster.study_record import with_rows_of
    from designspace.store import ResultsStore
    from sweeps.effects import axis_effects, effects_text
    from sweeps.spec import load_sweep

    declared = load_sweep(sweep)
    store = ResultsStore.open(results or default_results(declared.study), create=False)
    found = axis_effects(with_rows_of(declared, store), store)
    _print_json([group.document() for group in found]) if as_json else typer.echo(effects_text(found))


@app.command()
def register(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Sweep file with a protocol (YAML).")],
    results: ResultsOption = None,
    underpowered: UnderpoweredOption = None,
) -> None:
    """Freeze a study: hypotheses, splits, tuning space, test, correction, decision rule, generation, grader, code."""
    from cluster.evidence import register as freeze

    registration, path = freeze(study, results, underpowered=underpowered)
    _print_registered(registration.document, registration.sha256, path)


@app.command()
def amend(
    registration: RegistrationFile,
    reason: Annotated[str, typer.Option(help="Why; it stands in every report.")],
    study: Annotated[Path | None, typer.Option(help="The changed study file [the registered text].")] = None,
    underpowered: UnderpoweredOption = None,
) -> None:
    """Register a change to a registration: it adds to the family of hypotheses, and says what was seen before."""
    from cluster.evidence import amend as change

    child, path = change(registration, reason, study, underpowered=underpowered)
    _print_registered(child.document, child.sha256, path)


@app.command()
def tune(
    registration: RegistrationFile,
    executor: ExecutorOption = "ray",
    address: AddressOption = None,
    workers: WorkersOption = None,
    progress: ProgressOption = "auto",
    as_json: AsJson = False,
) -> None:
    """Run the registered trials on development problems, and freeze the selection. Resumes."""
    from cluster.evidence import tune as search

    selection = search(registration, _run_settings(executor, address, workers, progress))
    if as_json:
        _print_json(selection.to_json())
        return
    for trial in selection.evidence["trials"]:
        values = ", ".join(f"{name}={value}" for name, value in trial["values"].items())
        typer.echo(
            f"trial {trial['number']}: {values}: mean effect {100 * trial['mean_effect']:+.2f} points, "
            f"chosen in {trial['chosen_in_resamples']:.0%} of resamples"
        )
    chosen = ", ".join(f"{name}={value}" for name, value in selection.values.items())
    typer.echo(f"selected: {chosen} ({selection.sha256[:16]})")


@app.command()
def confirm(
    registration: RegistrationFile,
    executor: ExecutorOption = "ray",
    address: AddressOption = None,
    workers: WorkersOption = None,
    progress: ProgressOption = "auto",
    as_json: AsJson = False,
) -> None:
    """Run the held-out problems, once, under exactly what was registered, and report."""
    from cluster.evidence import confirm as run_confirmation
    from designspace.report.evidence import evidence_text

    done = run_confirmation(registration, _run_settings(executor, address, workers, progress))
    if done.report is None:
        for lost in done.outcome.quarantined:
            typer.echo(f"given up: {lost.cell}, shard {lost.shard_id}: {lost.error}: {lost.message}", err=True)
        typer.echo("incomplete: no report; the same command goes on", err=True)
        raise typer.Exit(EXIT_INCOMPLETE)
    _print_json(done.report) if as_json else typer.echo(evidence_text(done.report))
    typer.echo(f"report: {done.path}", err=as_json)
    if done.report["status"] != "ok":
        raise typer.Exit(EXIT_INCOMPLETE)


@app.command()
def verify(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="Report of a confirmation (JSON).")],
) -> None:
    """Recompute every number of a report from the store."""
    from cluster.evidence import verify as recompute

    found = recompute(report)
    for difference in found:
        typer.echo(
            f"{difference}".replace(": registered ", ": the store says ").replace(", now ", ", the report says ")
        )
    if found:
        raise typer.Exit(EXIT_MISMATCH)
    typer.echo("every number of the report follows from the store")


@app.command("grade-cases")
def grade_cases(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Labelled cases (JSONL).")], as_json: AsJson = False
) -> None:
    """Measure the grader on labelled cases."""
    from designspace.tasks.grading import grade_cases as measure

    found = measure(file)
    if as_json:
        typer.echo(found.to_json())
        return
    for name in ("n_rows", "agreement", "agreement_strict", "agreement_disputed", "false_accepts", "false_rejects"):
        value = getattr(found, name)
        typer.echo(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
    for wrong in found.disagreements:
        expected = "correct" if wrong.expected else "incorrect"
        typer.echo(f"  {wrong.id} ({wrong.reading}): expected {expected}, got {wrong.got}: {wrong.extracted!r}")


def _report(
    root: Path, html: Path | None, *, title: str, as_json: bool = False, labels: dict[str, str] | None = None
) -> None:
    """Print the table of a store, or of the cells that `labels` names, and write the HTML page if a path is given."""
    from designspace.environment import environment
    from designspace.report import notes, print_report, relabelled, summarise, to_json, write_report
    from designspace.store import ResultsStore

    table = ResultsStore.open(root, create=False).samples(cell_ids=labels).to_table()
    table = table if labels is None else relabelled(table, labels)
    arms = summarise(table)
    if as_json:
        _print_json(to_json(arms, notes(arms)))
    else:
        print_report(arms, notes(arms))
    if html is not None:
        typer.echo(f"report: {write_report(table, html, title=title, environment=environment())}", err=as_json)


def _run_settings(executor: Any, address: str | None, workers: int | None, progress: Any) -> RunSettings:
    from cluster.run import RunSettings

    return RunSettings(executor, address, workers, None, progress)


def _print_registered(document: dict[str, Any], sha256: str, path: Path) -> None:
    typer.echo(f"registered {sha256}\n{_power_text(document['power'], document['m'])}\n{path}")


def _power_text(power: dict[str, Any], m: int) -> str:
    effect = power["minimum_detectable_effect"]
    detects = "no effect" if effect is None else f"an effect of {100 * effect:.1f} points"
    return (
        f"a family of {m}, {power['n_problems']} held-out problems x {power['n_replicates']}: finds {detects} with a power "
        f"of {power['target_power']:.0%}"
    )


def _store_of(study: str, results: Path | None) -> ResultsStore | None:
    from cluster.run import default_results, existing_store

    return existing_store(results or default_results(study))


def _model_spec(name: str, sweep: Path | None) -> ModelSpec:
    from designspace.errors import UnknownName
    from designspace.models.model_spec import ModelSpec, bundled_names

    if sweep is not None:
        from sweeps.spec import load_sweep

        declared = {model.name: model for model in load_sweep(sweep).models}
        if name not in declared:
            raise UnknownName(f"model of {sweep}", name, declared)
        return declared[name]
    if name not in bundled_names() and Path(name).is_dir():
        return ModelSpec(Path(name).resolve().name, path=name)
    return ModelSpec.bundled(name)


def _print_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def main() -> None:
    """Run the command line."""
    sys.exit(app())
