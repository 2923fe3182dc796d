"""Rules that span the sections of a sweep: repeats, feasible budgets, and exclude rules that must match something."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

import torch

from designspace.axes import Budget, Mechanism
from designspace.canonical import canonical_json
from designspace.errors import DesignspaceError, did_you_mean
from designspace.models.model_spec import ModelSpec
from designspace.tasks.task_spec import TaskSpec
from sweeps.fields import ExcludeEntry
from sweeps.mechanisms import Declared, Refusal
from sweeps.problems import Problems
from sweeps.sources import declared_geometry, refuse_repeats
from sweeps.yaml_document import DataPath

LIST_SECTIONS = ("models", "tasks", "budgets", "mechanisms", "exclude")


class DeclaredSections(NamedTuple):
    """What could be built of a sweep, each part with its path; `sections` is the raw data."""

    models: list[tuple[ModelSpec, DataPath]]
    tasks: list[tuple[TaskSpec, DataPath]]
    budgets: list[tuple[Budget, DataPath]]
    mechanisms: list[Declared]
    rules: list[tuple[ExcludeEntry, DataPath]]
    sections: dict[str, list[Any]]


def matches(rule: ExcludeEntry, model: ModelSpec, task: TaskSpec, budget: Budget | None, mechanism: Mechanism) -> bool:
    """Return whether an exclude rule names this cell; what the rule leaves out matches anything."""
    if rule.model is not None and rule.model != model.name:
        return False
    if rule.mechanism is not None and rule.mechanism != mechanism.name:
        return False
    if rule.task is not None and not (rule.task.name in (None, task.name) and rule.task.split in (None, task.split)):
        return False
    if rule.budget is None:
        return True
    return budget is not None and rule.budget.matches(budget)


def check(whole: DeclaredSections, problems: Problems) -> list[Refusal]:
    """Note what is wrong between the sections; return the infeasible pairs that a grid skips."""
    _refuse_all_repeats(whole, problems)
    refused = _check_budgets(whole, problems)
    _check_models(whole, problems)
    known_names = _check_rule_names(whole, problems)
    # What a rule matches can only be said of a sweep that is otherwise sound.
    if known_names and not problems:
        _check_rules(whole, refused, problems)
    return refused


def _refuse_all_repeats(whole: DeclaredSections, problems: Problems) -> None:
    refuse_repeats(whole.models, lambda model: model.name, lambda model: f"model {model.name!r}", problems)
    refuse_repeats(
        whole.tasks,
        lambda task: (task.name, task.split),
        lambda task: f"task {task.name!r} split {task.split!r}",
        problems,
    )
    refuse_repeats(whole.budgets, lambda budget: budget, lambda budget: f"budget {budget}", problems)
    refuse_repeated_arms(whole.mechanisms, problems)


def refuse_repeated_arms(mechanisms: Iterable[Declared], problems: Problems) -> None:
    """Note mechanisms that have one name, or are the same composition under two."""
    names: dict[str, DataPath] = {}
    compositions: dict[Hashable, Declared] = {}
    for declared in mechanisms:
        name, path = declared.mechanism.name, declared.path
        first_path = names.setdefault(name, path)
        if first_path != path:
            line = problems.document.position(first_path).line
            problems.add(path, f"mechanism {name!r} is declared twice, first at line {line}")
            continue
        first = compositions.setdefault(canonical_json(declared.mechanism.identity()), declared)
        if first.mechanism.name != name:
            problems.add(path, f"mechanism {name!r} is the same composition as {first.mechanism.name!r}")


def _check_budgets(whole: DeclaredSections, problems: Problems) -> list[Refusal]:
    """Bind each mechanism to each budget that it will run at, on every model."""
    refused: list[Refusal] = []
    # Only a budget in bytes depends on the model. A hub model's shape is known once its configuration is fetched.
    shapes = [(declared_geometry(model), getattr(torch, model.dtype)) for model, _ in whole.models] or [
        (None, torch.float32)
    ]
    for declared in whole.mechanisms:
        mechanism = declared.mechanism
        if not mechanism.budget_applies:
            if mechanism.cadence.compresses:
                _check_without_budget(declared, problems)
            continue
        if not problems.document.data.get("budgets"):
            problems.add(declared.path, f"mechanism {mechanism.name!r} compresses, so the sweep needs budgets")
        for budget, _ in whole.budgets:
            if _excluded_everywhere(whole, budget, mechanism):
                continue
            try:
                for geometry, dtype in shapes:
                    mechanism.bind(budget, geometry, dtype)
            except DesignspaceError as error:
                if declared.skips_illegal:
                    refused.append(Refusal(mechanism.name, str(budget), str(error)))
                else:
                    problems.add(declared.path, f"mechanism {mechanism.name!r} at budget {budget}: {error}")
    return refused


def _check_without_budget(declared: Declared, problems: Problems) -> None:
    """Note what a mechanism without a budget has no room for."""
    try:
        declared.mechanism.bind(None)
    except DesignspaceError as error:
        problems.add(declared.path, f"mechanism {declared.mechanism.name!r}: {error}")


def _check_models(whole: DeclaredSections, problems: Problems) -> None:
    """Note representations that cannot hold a local model's heads; a hub model's are checked when it is loaded."""
    shapes = [(model, geometry) for model, _ in whole.models if (geometry := declared_geometry(model)) is not None]
    for declared in whole.mechanisms:
        mechanism = declared.mechanism
        for model, geometry in shapes:
            for reason in mechanism.geometry_errors(geometry):
                if _runs_on(whole, mechanism, model):
                    problems.add(declared.path, f"mechanism {mechanism.name!r} on model {model.name!r}: {reason}")


def _runs_on(whole: DeclaredSections, mechanism: Mechanism, model: ModelSpec) -> bool:
    budgets = [budget for budget, _ in whole.budgets] if mechanism.budget_applies else [None]
    return any(
        not any(matches(rule, model, task, budget, mechanism) for rule, _ in whole.rules)
        for task, _ in whole.tasks
        for budget in budgets
    )


def _excluded_everywhere(whole: DeclaredSections, budget: Budget, mechanism: Mechanism) -> bool:
    pairs = [(model, task) for model, _ in whole.models for task, _ in whole.tasks]
    return bool(pairs) and all(
        any(matches(rule, model, task, budget, mechanism) for rule, _ in whole.rules) for model, task in pairs
    )


def _check_rule_names(whole: DeclaredSections, problems: Problems) -> bool:
    """Note names in rules that the sweep does not declare; names of entries with other problems count as declared."""
    declared = {
        "model": _names(whole.sections["models"]) | {model.name for model, _ in whole.models},
        "task": _names(whole.sections["tasks"]),
        "mechanism": _names(whole.sections["mechanisms"]) | {item.mechanism.name for item in whole.mechanisms},
    }
    sound = True
    for rule, path in whole.rules:
        named = {"model": rule.model, "task": rule.task.name if rule.task else None, "mechanism": rule.mechanism}
        for what, name in named.items():
            if name is not None and name not in declared[what]:
                hint = did_you_mean(name, declared[what])
                problems.add((*path, what), f"must be a {what} of this sweep, got {name!r}{hint}")
                sound = False
    return sound


def _names(entries: list[Any]) -> set[str]:
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    return {name for name in names if isinstance(name, str)}


def _check_rules(whole: DeclaredSections, refused: list[Refusal], problems: Problems) -> None:
    skipped = {(unsupported_reason.mechanism, unsupported_reason.budget) for unsupported_reason in refused}
    cells = [
        (model, task, budget, item.mechanism)
        for model, _ in whole.models
        for task, _ in whole.tasks
        for item in whole.mechanisms
        for budget in ([budget for budget, _ in whole.budgets] if item.mechanism.budget_applies else [None])
        if (item.mechanism.name, str(budget)) not in skipped
    ]
    for rule, path in whole.rules:
        if not any(matches(rule, *cell) for cell in cells):
            problems.add(path, "a rule must match at least one cell, got a rule that matches none")
    if all(any(matches(rule, *cell) for rule, _ in whole.rules) for cell in cells):
        problems.add(("exclude",), "a sweep must have at least one cell, got none: everything is excluded or refused")
