"""Commands that measure: a calibration, the speed of an arm, the grader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from designspace.cli.options import (
    AsJson,
    model_spec,
    print_json,
)
from designspace.errors import DeclarationError

if TYPE_CHECKING:
    from designspace.axes import Artefact
    from designspace.models.model_spec import ModelSpec


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
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Take the named artefact (dms-gate, fast-kvzip, kvzap or trim-gate) from a checkpoint of trained networks."
        ),
    ] = None,
    head_scores: Annotated[
        Path | None,
        typer.Option(
            help="Take duo-gate from a table with a line per layer and a number per KV head, e.g. trained gates."
        ),
    ] = None,
) -> None:
    """Measure on a model what some mechanisms need beforehand: all artefacts that are known, or the named ones."""
    from designspace.models.calibrate import calibrate as measure
    from designspace.registry import calibration, calibrations

    spec = model_spec(model, sweep)
    if head_scores is not None:
        if artefacts not in (None, [], ["duo-gate"]) or weights is not None:
            others = ", ".join([*(artefacts or []), *(["--weights"] if weights is not None else [])])
            raise DeclarationError(f"--head-scores makes the artefact duo-gate alone, got {others}")
        _save(_imported_gate(spec, head_scores), spec, out)
        return
    if weights is not None:
        _save(_imported_weights(spec, artefacts or [], weights), spec, out)
        return
    measures = {name: calibration(name) for name in artefacts or calibrations()}
    # Who names an artefact wants that one; who wants all of them wants those that this model can have.
    skipped = None if artefacts else (lambda name, error: typer.echo(f"skipped: {name}: {error}", err=True))
    text_path = None if text is None else str(text)
    for artefact in measure(spec, measures, n_problems=problems, text_path=text_path, skipped=skipped):
        _save(artefact, spec, out)


def _save(artefact: Artefact, spec: ModelSpec, out: Path | None) -> None:
    """Write an artefact, and print where."""
    from designspace.models.calibration import artefact_path, save_artefact

    path = out / f"{artefact.name}.safetensors" if out else artefact_path(spec, artefact.name)
    save_artefact(path, artefact)
    typer.echo(path)


def _imported_weights(spec: ModelSpec, named: list[str], file: Path) -> Artefact:
    """Return the networks of a checkpoint as the one artefact that is named.

    Raises:
        DeclarationError: none is named, or several, or one that has no checkpoints.
    """
    from designspace.axes import Artefact
    from designspace.models.calibration import model_key
    from families.calibrations.checkpoints import CHECKPOINTS

    if len(named) != 1 or named[0] not in CHECKPOINTS:
        known = ", ".join(CHECKPOINTS)
        raise DeclarationError(
            f"--weights makes one artefact of {known}, which must be named, got {', '.join(named) or 'none'}"
        )
    return Artefact(named[0], CHECKPOINTS[named[0]](file, spec), model_key(spec), source=file.name)


def _imported_gate(spec: ModelSpec, file: Path) -> Artefact:
    """Return the head scores of a file as the artefact that head routing `duo` reads."""
    from designspace.axes import Artefact
    from designspace.models.calibration import model_key
    from designspace.models.skeleton import load_skeleton
    from families.calibrations.imported_gate import imported_gate
    from families.head_routing.duo import ARTEFACT

    return Artefact(ARTEFACT, imported_gate(file, load_skeleton(spec).geometry), model_key(spec), source=file.name)


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
