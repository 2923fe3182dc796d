"""Arguments and options that several commands share, and what they turn into."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from designspace.cli.names import registration_file, results_folder, sweep_file, sweep_or_results

if TYPE_CHECKING:
    from cluster.run import RunSettings
    from designspace.models.model_spec import ModelSpec
    from designspace.report import Declared
    from designspace.store import ResultsStore
    from sweeps.spec import Sweep

SweepFile = Annotated[
    Path,
    typer.Argument(metavar="SWEEP", callback=sweep_file, help="Sweep file (YAML), or the name of one that ships."),
]
ResultsFolder = Annotated[
    Path,
    typer.Argument(
        metavar="RESULTS", callback=results_folder, help="Results folder, or the name of one below results/."
    ),
]
SweepOrResults = Annotated[
    Path,
    typer.Argument(metavar="SWEEP|RESULTS", callback=sweep_or_results, help="Sweep file or results folder, or a name."),
]
ResultsOption = Annotated[
    Path | None, typer.Option("--results", envvar="DESIGNSPACE_RESULTS", help="Results folder [results/<study>].")
]
StudyOption = Annotated[
    str | None, typer.Option("--study", help="Which study of the folder, if several share it [the only one].")
]
RegistrationFile = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY",
        callback=registration_file,
        help="Its name or results folder, for its newest registration; or a file <results>/protocol/….registration.json.",
    ),
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
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; where there is --format, the same as --format json.")]


def run_settings(executor: Any, address: str | None, workers: int | None, progress: Any) -> RunSettings:
    """Return the settings of a run without a limit."""
    from cluster.run import RunSettings

    return RunSettings(executor, address, workers, None, progress)


def store_of(study: str, results: Path | None) -> ResultsStore | None:
    """Return the store of a study where it has one already."""
    from cluster.run import default_results, existing_store

    return existing_store(results or default_results(study))


def declared_by(sweep: Path, results: Path | None) -> tuple[Declared, ResultsStore | None]:
    """Return the study of a sweep file as the file stands now, and its store where there is one."""
    from cluster.study_record import with_rows_of
    from designspace.report import Declared
    from sweeps.plan import plan as make_plan
    from sweeps.spec import load_sweep

    declared = load_sweep(sweep)
    store = store_of(declared.study, results)
    planned = make_plan(with_rows_of(declared, store))
    sizes = {(task.name, task.split): task.n_problems for task in planned.tasks}
    cells = [{**asdict(cell), "n_problems": sizes[cell.task, cell.split]} for cell in planned.cells]
    stored = [] if store is None else store.studies().get(declared.study, [])
    document = next((found for found in stored if found.get("source") == declared.source_text), None)
    return Declared(declared.study, tuple(cells), document or {"source": declared.source_text}), store


def sweep_or_study(file: Path) -> Sweep:
    """Return the sweep that a file declares; of a study, the one that stands in it before anything is tuned.

    Raises:
        DeclarationError: holding every problem found.
    """
    from sweeps.spec import load_sweep
    from sweeps.study import load_study
    from sweeps.yaml_document import read_document

    return load_study(file).sweep if "protocol" in read_document(file).data else load_sweep(file)


def model_spec(name: str, sweep: Path | None) -> ModelSpec:
    """Return a model of a sweep file, a folder, a GGUF file, a bundled one, or one said as in a sweep file: `{name: …}`.

    Raises:
        UnknownName: none of them has that name.
        DeclarationError: what is said is no model.
    """
    from designspace.errors import UnknownName
    from designspace.models.model_spec import ModelSpec, bundled_names

    if sweep is not None:
        declared = {model.name: model for model in sweep_or_study(sweep).models}
        if name not in declared:
            raise UnknownName(f"model of {sweep}", name, declared)
        return declared[name]
    if name.startswith("{"):
        from sweeps.spec import parse_model

        return parse_model(name)
    if name not in bundled_names() and Path(name).is_dir():
        return ModelSpec(Path(name).resolve().name, path=name)
    if Path(name).suffix == ".gguf":
        from designspace.models.gguf_import import ensure_imported

        spec = ModelSpec(Path(name).stem, gguf=name)
        ensure_imported(spec)
        return spec
    return ModelSpec.bundled(name)


def print_json(data: Any) -> None:
    """Print plain data as indented JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def power_text(power: dict[str, Any], m: int) -> str:
    """Return what a design finds, in words; m: the size of the family of hypotheses."""
    target = f"{power['target_power']:.0%}"
    parts = []
    for test in power["tests"]:
        on = f" on {test['n_problems']} of them" if test["n_problems"] < power["n_problems"] else ""
        if test["kind"] == "superiority":
            effect = test["minimum_detectable_effect"]
            detects = "no effect" if effect is None else f"an effect of {100 * effect:.1f} points"
            parts.append(f"finds {detects}{on} with a power of {target}")
        else:
            shown = f"{test['kind']} within {100 * test['margin']:.1f} points{on}"
            parts.append(
                f"shows {shown} with a power of {test['power_without_difference']:.0%} if the arms do not differ"
            )
    return f"a family of {m}, {power['n_problems']} held-out problems x {power['n_replicates']}: {'; '.join(parts)}"
