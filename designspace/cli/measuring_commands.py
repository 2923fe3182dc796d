"""Commands that measure: the speed of an arm, the grader."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from designspace.cli.formats import FormatOption, format_of, print_found, table_of
from designspace.cli.names import results_folder
from designspace.cli.options import (
    AsJson,
    model_spec,
)


def bench(
    model: Annotated[str, typer.Argument(help="A bundled model, a model folder, a GGUF file, or a model of --sweep.")],
    mechanism: Annotated[str, typer.Argument(help="A mechanism of the catalogue, or an arm of --sweep.")],
    budget: Annotated[int, typer.Option(min=1, help="Mean tokens per head, where the mechanism has a budget.")] = 128,
    rows: Annotated[int, typer.Option(min=1, help="Generations at a time.")] = 64,
    tokens: Annotated[int, typer.Option(min=2, help="New tokens of each.")] = 512,
    step: Annotated[Literal["plain", "compiled"], typer.Option(help="The decode step.")] = "plain",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads [as torch has it].")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs to take the median of.")] = 5,
    sweep: Annotated[Path | None, typer.Option(help="Sweep file that declares the model or the arm.")] = None,
    results: Annotated[
        Path | None,
        typer.Option(callback=results_folder, help="Keep it beside these results, whose page then shows it."),
    ] = None,
    file_format: FormatOption = "table",
    as_json: AsJson = False,
) -> None:
    """Measure decoding on this machine: tokens per second, share of the physical floor, and where the time goes."""
    from designspace.cli.speed import OtherWork, arm_named, bench_arm, cost_of, speed_text
    from designspace.report.cost import COST_COLUMNS, keep_cost
    from designspace.store import ResultsStore

    chosen = format_of(file_format, as_json)
    # A folder that is none is refused before minutes are spent on a measurement.
    store = None if results is None else ResultsStore.open(results, create=False)
    spec, arm, others = model_spec(model, sweep), arm_named(mechanism, sweep), OtherWork()
    found = bench_arm(spec, arm, budget, rows=rows, n_new_tokens=tokens, step=step, threads=threads, n_runs=runs)
    cost = cost_of(found, spec.name, arm, budget, step=step, load=others.load())
    kept = [] if store is None else [f"kept: {keep_cost(store.root, cost)}"]
    if not cost.is_alone:
        kept.append(
            f"the machine did other work too ({cost.load:.1f} cores were busy with it): this is no cost of the arm"
        )
    print_found(
        chosen,
        table=lambda: "\n".join([speed_text(found), *kept]),
        document=found.document,
        rows=lambda: table_of([asdict(cost)], COST_COLUMNS),
        notes=kept,
    )


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
