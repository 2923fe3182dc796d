"""A declared sweep: read from YAML, validated as a whole, frozen."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from designspace.axes import Budget, Mechanism
from designspace.errors import DeclarationError
from designspace.models.model_spec import ModelSpec
from designspace.tasks.task_spec import TaskSpec
from sweeps import checks, sources
from sweeps.fields import (
    SCHEMA_VERSION,
    ExcludeEntry,
    GridEntry,
    Root,
    Seeds,
)
from sweeps.generation_fields import AutoGeneration, GenerationCaps, GenerationSpec
from sweeps.grid import build_grid
from sweeps.mechanisms import Declared, Refusal, build_mechanism, default_decoding
from sweeps.own_settings import Built, OwnSettings, Section, build_each, common_identity, own_settings
from sweeps.own_settings import sections as sections_of
from sweeps.placeholders import placeholder_paths
from sweeps.problems import Problems
from sweeps.size import check_size
from sweeps.yaml_document import DataPath, Document, parse_document, read_document, shown

if TYPE_CHECKING:
    from designspace.memory.batch_rows import RowsPlan

__all__ = ["ExcludeEntry", "GenerationSpec", "Refusal", "Seeds", "Sweep", "load_sweep", "parse_sweep"]


@dataclass(frozen=True)
class Sweep:
    """A validated declaration. Every tuple keeps the order of the file.

    Attributes:
        mechanisms: with decoding resolved from `generation`; of the first model, where `own` is not empty.
        generation: with `rows: auto` as it stands in the file, until `sweeps.auto_rows.with_rows` has put a number there;
            `rows_plan` then says where the number is from.
        rows_before: the number that results have which are there already, to be kept.
        own: what each model has to itself, in their order; empty where all have the same settings.
        refused: combinations of a grid with `illegal: skip` that are left out, with the reason.
        source_path: as the user wrote it; None when the sweep came from text.
    """

    schema: int
    study: str
    models: tuple[ModelSpec, ...]
    tasks: tuple[TaskSpec, ...]
    budgets: tuple[Budget, ...]
    mechanisms: tuple[Mechanism, ...]
    seeds: Seeds
    generation: GenerationSpec | AutoGeneration
    exclude: tuple[ExcludeEntry, ...] = ()
    refused: tuple[Refusal, ...] = ()
    source_path: Path | None = None
    source_text: str = field(default="", repr=False)
    rows_plan: RowsPlan | None = field(default=None, compare=False)
    rows_before: int | None = field(default=None, compare=False)
    own: tuple[OwnSettings, ...] = ()

    def mechanisms_of(self, model: ModelSpec) -> tuple[Mechanism, ...]:
        """Return the mechanisms as a model runs them."""
        return next((own.mechanisms for own in self.own if own.model == model.name), self.mechanisms)

    def settings_of(self, model: ModelSpec) -> dict[str, float | int]:
        """Return the fields of `generation` that a model has to itself; empty where all say the same."""
        return next((dict(own.settings) for own in self.own if own.model == model.name), {})

    def generation_of(self, model: ModelSpec) -> GenerationSpec | AutoGeneration:
        """Return `generation` with the settings that a model has to itself."""
        settings = self.settings_of(model)
        return self.generation.model_copy(update=settings) if settings else self.generation

    def arm_identities(self) -> dict[str, dict[str, Any]]:
        """Return each mechanism's identity by name, with a mark in it where it differs from model to model."""
        every = [own.mechanisms for own in self.own] or [self.mechanisms]
        return {arms[0].name: common_identity([arm.identity() for arm in arms]) for arms in zip(*every, strict=True)}


def load_sweep(path: str | Path) -> Sweep:
    """Read and validate a sweep file. Relative paths in it start at the file's own folder.

    Raises:
        DeclarationError: holding every problem found, each as `file:line:col: path: rule, got …`.
    """
    return _validated(read_document(path), Path(path).parent, Path(path))


def parse_sweep(text: str, source: str = "<sweep>") -> Sweep:
    """Validate a sweep given as text; relative paths in it start at the working folder.

    Raises:
        DeclarationError: as `load_sweep`.
    """
    return _validated(parse_document(text, source), Path(), None)


def parse_model(text: str) -> ModelSpec:
    """Return the model that an entry of `models` declares, e.g. `{name: mine, path: folder}`.

    Relative paths in it start at the working folder.

    Raises:
        DeclarationError: holding every problem found.
    """
    document = parse_document(f"models: [{text}]", "<model>")
    problems = Problems(document)
    entries = document.data["models"]
    model = sources.build_model(entries[0], ("models", 0), Path(), problems) if len(entries) == 1 else None
    problems.raise_any()
    if model is None:
        raise DeclarationError(f"not a model: {text}")
    return model


def _validated(document: Document, folder: Path, source_path: Path | None) -> Sweep:
    problems = Problems(document)
    check_schema(document, problems)
    _refuse_studies(document, problems)
    sweep = build_sweep(document, folder, source_path, problems)
    problems.raise_any()
    if sweep is None:
        raise DeclarationError(f"{document.source}: not a sweep")
    return sweep


def build_sweep(document: Document, folder: Path, source_path: Path | None, problems: Problems) -> Sweep | None:
    """Return the sweep that a document declares, or note every problem with it and return None."""
    root = problems.validated(Root, document.data, ())
    data = document.data
    sections = {name: data[name] if isinstance(data.get(name), list) else [] for name in checks.LIST_SECTIONS}
    seeds = problems.validated(Seeds, data.get("seeds", {}), ("seeds",))
    models = sources.build_all("models", sections["models"], lambda d, p: sources.build_model(d, p, folder, problems))
    if source_path is not None:  # so that a message can name a command that works
        models = [(replace(model, declared_in=str(source_path)), path) for model, path in models]
    is_known, own_models = "generation" in data, [model for model, _ in models]
    of_models = sections_of(data["generation"], own_models, problems) if is_known else [Section("", None, is_known)]
    tasks = sources.build_all("tasks", sections["tasks"], lambda d, p: sources.build_task(d, p, folder, problems))
    budgets = sources.build_all("budgets", sections["budgets"], lambda d, p: sources.build_budget(d, p, problems))
    built = build_each(of_models, lambda found, noted: _built(found, sections["mechanisms"], noted), problems)
    _, generation, declared, refused = built[0]
    rules = sources.build_all("exclude", sections["exclude"], lambda d, p: problems.validated(ExcludeEntry, d, p))
    whole = checks.DeclaredSections(models, tasks, budgets, declared, rules, sections)
    refused = [*refused, *checks.check(whole, problems)]
    own = own_settings(built, problems)
    if seeds is not None and generation is not None and not problems:
        check_size(whole, refused, seeds.count, generation, problems)
    if problems or root is None or seeds is None or generation is None:
        return None
    return Sweep(
        schema=root.schema_,
        study=root.study,
        models=tuple(model for model, _ in models),
        tasks=tuple(task for task, _ in tasks),
        budgets=tuple(budget for budget, _ in budgets),
        mechanisms=tuple(item.mechanism for item in declared),
        seeds=seeds,
        generation=generation,
        exclude=tuple(rule for rule, _ in rules),
        refused=tuple(refused),
        source_path=source_path,
        source_text=document.text,
        own=own,
    )


def _built(section: Section, entries: list[object], problems: Problems) -> Built:
    generation = _generation(section.data, problems) if section.is_known else None
    return Built(section.model, generation, *_mechanisms(entries, generation, problems))


def check_schema(document: Document, problems: Problems) -> None:
    """Stop at another schema version: what else is wrong by this one's rules would only mislead.

    Raises:
        DeclarationError: the document has another version.
    """
    version = document.data.get("schema")
    if isinstance(version, int) and not isinstance(version, bool) and version != SCHEMA_VERSION:
        problems.add(("schema",), f"must be {SCHEMA_VERSION}, the only version that this release reads, got {version}")
        problems.raise_any()


def _refuse_studies(document: Document, problems: Problems) -> None:
    """Stop at a file that is registered, tuned and confirmed: running it as a sweep would be a look without a record."""
    if "protocol" in document.data:
        message = (
            "a file with a protocol is a study, which is registered, tuned and confirmed: it cannot be run as a sweep"
        )
        problems.add(("protocol",), message, of_key=True)
    else:
        for path in placeholder_paths(document.data):
            problems.add(path, "only a study (a file with a protocol) tunes values, got a placeholder: write the value")
    problems.raise_any()


def _generation(data: Any, problems: Problems) -> GenerationSpec | AutoGeneration | None:
    named = [name for name in ("rows", "batch_size") if isinstance(data, dict) and name in data]
    if len(named) > 1:
        problems.add(("generation", "batch_size"), "batch_size is another name of rows: write one of them", of_key=True)
        return None
    rows = data[named[0]] if named else None
    if isinstance(rows, str) and rows.isalpha():
        return problems.validated(AutoGeneration, data, ("generation",))
    if isinstance(data, dict) and "memory" in data and rows is not None:
        problems.add(("generation", "memory"), f"memory goes with rows: auto, got rows={shown(rows)}", of_key=True)
        data = {name: value for name, value in data.items() if name != "memory"}
    return problems.validated(GenerationSpec, data, ("generation",))


def _mechanisms(
    entries: list[object], generation: GenerationCaps | None, problems: Problems
) -> tuple[list[Declared], list[Refusal]]:
    decoding = default_decoding(generation)
    declared: list[Declared] = []
    refused: list[Refusal] = []
    for index, data in enumerate(entries):
        path: DataPath = ("mechanisms", index)
        if not isinstance(data, dict) or "grid" not in data:
            if (item := build_mechanism(data, path, decoding, problems)) is not None:
                declared.append(item)
        elif (entry := problems.validated(GridEntry, data, path)) is not None:
            built, skipped = build_grid(entry, path, decoding, problems)
            declared += built
            refused += skipped
    return declared, refused
