"""Commands about a registered study: register, amend, tune, confirm, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from designspace.cli.exit_codes import EXIT_INCOMPLETE, EXIT_MISMATCH
from designspace.cli.names import report_file, sweep_file
from designspace.cli.options import (
    AddressOption,
    AsJson,
    ExecutorOption,
    ProgressOption,
    RegistrationFile,
    ResultsOption,
    UnderpoweredOption,
    WorkersOption,
    power_text,
    print_json,
    run_settings,
)


def register(
    study: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY",
            callback=sweep_file,
            help="Sweep file with a protocol (YAML), or the name of one that ships.",
        ),
    ],
    results: ResultsOption = None,
    underpowered: UnderpoweredOption = None,
) -> None:
    """Freeze a study: hypotheses, splits, tuning space, test, correction, decision rule, generation, grader, code."""
    from cluster.evidence import register as freeze

    registration, path = freeze(study, results, underpowered=underpowered)
    _print_registered(registration.document, registration.sha256, path)


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

    selection = search(registration, run_settings(executor, address, workers, progress))
    if as_json:
        print_json(selection.to_json())
        return
    for trial in selection.evidence["trials"]:
        values = ", ".join(f"{name}={value}" for name, value in trial["values"].items())
        typer.echo(
            f"trial {trial['number']}: {values}: mean effect {100 * trial['mean_effect']:+.2f} points, "
            f"chosen in {trial['chosen_in_resamples']:.0%} of resamples"
        )
    chosen = ", ".join(f"{name}={value}" for name, value in selection.values.items())
    typer.echo(f"selected: {chosen} ({selection.sha256[:16]})")


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

    done = run_confirmation(registration, run_settings(executor, address, workers, progress))
    if done.report is None:
        for lost in done.outcome.quarantined:
            typer.echo(f"given up: {lost.cell}, shard {lost.shard_id}: {lost.error}: {lost.message}", err=True)
        typer.echo("incomplete: no report; the same command goes on", err=True)
        raise typer.Exit(EXIT_INCOMPLETE)
    print_json(done.report) if as_json else typer.echo(evidence_text(done.report))
    typer.echo(f"report: {done.path}", err=as_json)
    typer.echo(f"page: {done.page}", err=as_json)
    if done.report["status"] != "ok":
        raise typer.Exit(EXIT_INCOMPLETE)


def verify(
    report: Annotated[
        Path,
        typer.Argument(
            metavar="REPORT",
            callback=report_file,
            help="Report of a confirmation (JSON), or the study's name.",
        ),
    ],
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


def _print_registered(document: dict[str, Any], sha256: str, path: Path) -> None:
    typer.echo(f"registered {sha256}\n{power_text(document['power'], document['m'])}\n{path}")
