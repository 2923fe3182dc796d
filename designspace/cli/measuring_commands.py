"""Commands that measure: the speed of an arm, the grader."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from designspace.cli.options import (
    AsJson,
    model_spec,
    print_json,
)


def bench(
    model: Annotated[str, typer.Argument(help="A bundled model, a model folder, a GGUF file, or a model of --sweep.")],
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
        model_spec(model, sweep),
        mechanism,
        budget,
        rows=rows,
        n_new_tokens=tokens,
        step=step,
        threads=threads,
        n_runs=runs,
    )
    print_json(found.document()) if as_json else typer.echo(speed_text(found))


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
