"""The command `calibrate`: what is made by default, what is there already, what it costs, and how far it is."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from designspace.cli.options import ProgressOption, model_spec, sweep_or_study
from designspace.errors import CalibrationError, DeclarationError

if TYPE_CHECKING:
    from designspace.axes import Artefact
    from designspace.models.calibrate import Job
    from designspace.models.calibration_text import Settings
    from designspace.models.model_spec import ModelSpec


_Model = Annotated[
    str,
    typer.Argument(
        help="A bundled model, a model folder, a GGUF file, a model of --sweep, or an entry of `models` of a sweep."
    ),
]
_Artefacts = Annotated[
    list[str] | None,
    typer.Argument(help="Which artefacts to measure [those that --sweep needs; else all that take one look]."),
]
_Problems = Annotated[
    int, typer.Option("--problems", min=1, help="Calibration problems to use, for a model of a generated language.")
]
_Text = Annotated[
    Path | None,
    typer.Option(
        "--text", help="Plain text, or JSON lines with text, or problem and solution [worked problems in English]."
    ),
]
_Tokens = Annotated[int | None, typer.Option("--tokens", min=128, help="Tokens to read of it at most [32768].")]
_Window = Annotated[
    int | None,
    typer.Option("--window", min=16, help="Tokens of the pieces it is cut into [2048, or the model's positions]."),
]
_SweepOrStudy = Annotated[Path | None, typer.Option("--sweep", help="Sweep or study file that declares the model.")]
_Dtype = Annotated[
    Literal["float32", "bfloat16"] | None,
    typer.Option("--dtype", help="Of the weights [float32, or as --sweep says]."),
]
_Device = Annotated[str, typer.Option("--device", help="Where: cpu, cuda or cuda:N.")]
_Out = Annotated[
    Path | None, typer.Option("--out", help="Folder to write to [where the model's artefacts are looked for].")
]
_Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="Take the named artefact (dms-gate, fast-kvzip, kvzap or trim-gate) from a checkpoint of trained networks.",
    ),
]
_HeadScores = Annotated[
    Path | None,
    typer.Option(
        "--head-scores",
        help="Take duo-gate from a table with a line per layer and a number per KV head, e.g. trained gates.",
    ),
]


def calibrate(
    model: _Model,
    artefacts: _Artefacts = None,
    problems: _Problems = 64,
    text: _Text = None,
    tokens: _Tokens = None,
    window: _Window = None,
    sweep: _SweepOrStudy = None,
    dtype: _Dtype = None,
    device: _Device = "cpu",
    out: _Out = None,
    weights: _Weights = None,
    head_scores: _HeadScores = None,
    progress: ProgressOption = "auto",
) -> None:
    """Measure on a model what some mechanisms need beforehand. What is there already is kept, so that a run can go on."""
    from designspace.models.calibration_text import MAX_TOKENS, Settings

    spec = model_spec(model, sweep)
    spec = spec if dtype is None else replace(spec, dtype=dtype)
    _check_device(device)
    if head_scores is not None or weights is not None:
        _save(_imported(spec, artefacts or [], weights, head_scores), spec, out)
        return
    settings = Settings(text, problems, tokens or MAX_TOKENS, window)
    names = list(dict.fromkeys(artefacts or _default(sweep)))
    _measure(spec, names, settings, device, out, progress, named=bool(artefacts))
    if not artefacts and sweep is None:
        _say_left_out(spec, names, out, text)


def _check_device(device: str) -> None:
    """Check that there is such a device here.

    Raises:
        DeclarationError: there is none.
    """
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises the latter where it was built without CUDA
        raise DeclarationError(f"no device {device!r} here: {str(error).splitlines()[0]}") from None


def _default(sweep: Path | None) -> list[str]:
    """Return what a sweep's mechanisms need; without one, what the catalogue's need and one look at the text gives."""
    from designspace.models.one_look import OnePass
    from designspace.registry import calibration, catalog

    mechanisms = catalog().values() if sweep is None else sweep_or_study(sweep).mechanisms
    needed = sorted({name for mechanism in mechanisms for name in mechanism.needs().calibrations})
    if sweep is None:
        return [name for name in needed if isinstance(calibration(name), OnePass)]
    if not needed:
        typer.echo(f"no mechanism of {sweep} needs a calibration", err=True)
    return needed


def _say_left_out(spec: ModelSpec, made: Sequence[str], out: Path | None, text: Path | None) -> None:
    """Say which artefacts are not there, and what makes them."""
    from designspace.models.calibration import command
    from designspace.registry import calibrations

    others = [name for name in calibrations() if name not in made and not _file(name, spec, out).is_file()]
    if others:
        given = [
            part for name, path in (("--text", text), ("--out", out)) if path is not None for part in (name, str(path))
        ]
        typer.echo(f"left out, as each takes longer: {', '.join(others)}; make them with:", err=True)
        typer.echo(f"  {' '.join([command(spec, *others), shlex.join(given)]).strip()}", err=True)


def _measure(
    spec: ModelSpec,
    names: Sequence[str],
    settings: Settings,
    device: str,
    out: Path | None,
    progress: Literal["auto", "plain", "none"],
    *,
    named: bool,
) -> None:
    """Make what is not there yet; what is on the way is told on stderr, files on stdout as soon as they are written."""
    from designspace.cli.calibrate_progress import shown
    from designspace.memory.calibration_cost import check_memory, costs
    from designspace.models.calibrate import job_of
    from designspace.registry import calibration

    job = job_of(spec, {name: calibration(name) for name in names}, settings, device)
    job = _without_kept(job, out, is_asked=settings != type(settings)())
    if not job.measures:
        return
    read, of = job.corpus.n_tokens, max(job.corpus.n_found, job.corpus.n_tokens)
    what = f"{read:,} tokens" if of <= read else f"the first {read:,} of {of:,} tokens"
    typer.echo(f"text: {what} of {job.corpus.source}, {len(job.corpus.texts):,} pieces", err=True)
    typer.echo(check_memory(job), err=True)

    def skipped(name: str, error: CalibrationError) -> None:
        # Who names an artefact wants that one; who wants all of them wants those that this model can have.
        if named:
            raise error
        typer.echo(f"skipped: {name}: {error}", err=True)

    loaded = job.load()
    with shown(progress, costs(job, loaded)):
        for artefact in job.made(loaded, skipped):
            _save(artefact, spec, out)


def _without_kept(job: Job, out: Path | None, *, is_asked: bool) -> Job:
    """Return the job without what is there already, and say so.

    is_asked: a text or a setting was given, so that an artefact of another one is not what was asked for.
    """
    left = {}
    for name, measure in job.measures.items():
        file = _file(name, job.spec, out)
        reason = job.stale(file) if file.is_file() else ""
        if reason is None or (reason.startswith("measured") and not is_asked):
            kept = "" if reason is None else f", {reason}"
            typer.echo(f"kept: {name}: {file} is there{kept}", err=True)
            continue
        if reason:
            typer.echo(f"anew: {name}: {file} is {reason}", err=True)
        left[name] = measure
    return replace(job, measures=left)


def _file(name: str, spec: ModelSpec, out: Path | None) -> Path:
    from designspace.models.calibration import artefact_path

    return out / f"{name}.safetensors" if out else artefact_path(spec, name)


def _save(artefact: Artefact, spec: ModelSpec, out: Path | None) -> None:
    """Write an artefact, and print where."""
    from designspace.models.calibration import save_artefact

    path = _file(artefact.name, spec, out)
    save_artefact(path, artefact)
    typer.echo(path)


def _imported(spec: ModelSpec, named: list[str], weights: Path | None, head_scores: Path | None) -> Artefact:
    """Return the artefact that a file of somebody else's makes."""
    if weights is not None and head_scores is None:
        return _imported_weights(spec, named, weights)
    if head_scores is None or weights is not None or named not in ([], ["duo-gate"]):
        others = ", ".join([*named, *(["--weights"] if weights is not None else [])])
        raise DeclarationError(f"--head-scores makes the artefact duo-gate alone, got {others}")
    return _imported_gate(spec, head_scores)


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
