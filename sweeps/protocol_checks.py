"""Rules between a study's `protocol` block and the rest of the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from math import prod
from typing import Any

from designspace.axes import Budget, Mechanism
from designspace.errors import ProtocolError, did_you_mean
from designspace.models.model_spec import ModelSpec
from designspace.protocol.decision import check_decision
from designspace.protocol.metric import MetricName
from designspace.tasks.task_spec import TaskSpec
from sweeps.checks import matches
from sweeps.problems import Problems
from sweeps.protocol_fields import CellMatch, Contrast, PaperDecision, ProtocolSpec, TuningSpec
from sweeps.scores import has_metric
from sweeps.sources import refuse_repeats
from sweeps.space import Space, grid
from sweeps.spec import Sweep
from sweeps.yaml_document import DataPath

_EVERY_PROBLEM = "all"  # the split that holds the others of its task
_PAPER = "paper"
_MOST_POINTS = 10_000


def check_protocol(
    protocol: ProtocolSpec,
    heldout: list[tuple[TaskSpec, DataPath]],
    space: Space,
    sweep: Sweep,
    problems: Problems,
) -> None:
    """Note what does not fit together. `sweep` is the declaration with first values in place of placeholders."""
    _check_heldout(heldout, sweep, problems)
    _check_exclude(sweep, problems)
    _check_contrasts(protocol, sweep, problems)
    _check_tuning(protocol, space, sweep, problems)
    # Decision rules name the cells of contrasts, so those must be sound.
    if not problems:
        _check_decision(protocol, [task for task, _ in heldout], sweep, problems)


def check_metric(sweep: Sweep | None, metric: MetricName | None, problems: Problems) -> None:
    """Note arms without the study's metric: those that are fed their texts have no accuracy, and only they have agreement.

    metric: None where the protocol itself cannot be read.
    """
    if sweep is None or metric is None:
        return
    for mechanism in sweep.mechanisms:
        if not has_metric(mechanism, metric):
            problems.add(("mechanisms",), _WITHOUT[metric].format(mechanism.name), of_key=True)


_WITHOUT: Mapping[MetricName, str] = {
    "accuracy": (
        "a study of accuracies needs arms that write their texts, and mechanism {!r} is teacher-forced: run it in a study of "
        "its own (protocol.metric: forced_agreement)"
    ),
    "forced_agreement": (
        "metric forced_agreement needs teacher-forced arms, and mechanism {!r} writes its texts (decoding: teacher-forced)"
    ),
}


def contrast_cells(contrast: Contrast, sweep: Sweep) -> Iterator[tuple[ModelSpec, Budget]]:
    """Yield the models and budgets that a contrast is about: those where both its arms run and its matches agree."""
    arms = [mechanism for mechanism in sweep.mechanisms if mechanism.name in (contrast.arm, contrast.baseline)]
    refused = {(unsupported_reason.mechanism, unsupported_reason.budget) for unsupported_reason in sweep.refused}
    for model, budget in product(sweep.models, sweep.budgets):
        if contrast.cells and not any(_matches(cell, model, budget) for cell in contrast.cells):
            continue
        left_out = any(
            (arm.name, str(budget)) in refused
            or any(matches(rule, model, task, budget, arm) for rule in sweep.exclude for task in sweep.tasks)
            for arm in arms
        )
        if not left_out:
            yield model, budget


def hypotheses(protocol: ProtocolSpec, tasks: Iterable[str], sweep: Sweep) -> list[dict[str, Any]]:
    """Return one hypothesis per contrast, held-out task, model and budget, as a registration lists them."""
    names = list(tasks)
    return [
        {
            "id": f"{contrast.id}/{task}/{model.name}/{budget}",
            "contrast": contrast.id,
            "arm": contrast.arm,
            "baseline": contrast.baseline,
            "kind": contrast.kind,
            "margin": contrast.margin,
            "model": model.name,
            "task": task,
            "budget": str(budget),
        }
        for contrast in protocol.contrasts
        for task in names
        for model, budget in contrast_cells(contrast, sweep)
    ]


def _matches(cell: CellMatch, model: ModelSpec, budget: Budget) -> bool:
    if cell.model not in (None, model.name):
        return False
    wanted = cell.budget
    return wanted is None or wanted.matches(budget)


def _check_heldout(heldout: list[tuple[TaskSpec, DataPath]], sweep: Sweep, problems: Problems) -> None:
    refuse_repeats(heldout, lambda task: task.name, lambda task: f"held-out task {task.name!r}", problems)
    for task, path in heldout:
        for dev in sweep.tasks:
            # Two files of one's own may hold what they like: what they share is looked for when the study is registered.
            same_source = task.name == dev.name and task.path == dev.path
            if same_source and (task.split == dev.split or _EVERY_PROBLEM in (task.split, dev.split)):
                got = f"got {task.name} {task.split} beside {dev.name} {dev.split} under tasks"
                problems.add(path, f"held-out problems must not be among the development problems, {got}")


def _check_exclude(sweep: Sweep, problems: Problems) -> None:
    for index, rule in enumerate(sweep.exclude):
        if rule.task is not None:
            why = "development and held-out tasks have the same cells"
            problems.add(("exclude", index, "task"), f"a study's rule must not name a task: {why}")


def _check_contrasts(protocol: ProtocolSpec, sweep: Sweep, problems: Problems) -> None:
    path: DataPath = ("protocol", "contrasts")
    contrasts = [(contrast, (*path, index)) for index, contrast in enumerate(protocol.contrasts)]
    refuse_repeats(contrasts, lambda contrast: contrast.id, lambda contrast: f"contrast {contrast.id!r}", problems)
    mechanisms = {mechanism.name: mechanism for mechanism in sweep.mechanisms}
    for contrast, where in contrasts:
        known = [_check_arm(name, getattr(contrast, name), mechanisms, where, problems) for name in ("arm", "baseline")]
        known += [
            _check_cell(cell, (*where, "cells", index), sweep, problems) for index, cell in enumerate(contrast.cells)
        ]
        if all(known):
            _check_same_texts(mechanisms[contrast.arm], mechanisms[contrast.baseline], where, problems)
        if all(known) and not any(contrast_cells(contrast, sweep)):
            problems.add(where, "a contrast must have at least one cell where both arms run, got none")


def _check_same_texts(arm: Mechanism, baseline: Mechanism, path: DataPath, problems: Problems) -> None:
    """Note arms that are fed different texts: how far they agree with these says nothing about the arms."""
    texts = [None if side.decoding is None else side.decoding.reference for side in (arm, baseline)]
    if None not in texts and texts[0] != texts[1]:
        problems.add(path, f"arm and baseline must be fed the same texts, got of: {texts[0]} and of: {texts[1]}")


def _check_arm(field: str, name: str, mechanisms: Mapping[str, Mechanism], path: DataPath, problems: Problems) -> bool:
    mechanism = mechanisms.get(name)
    if mechanism is None:
        hint = did_you_mean(name, mechanisms)
        problems.add((*path, field), f"must be a mechanism of this study, got {name!r}{hint}")
    elif not mechanism.cadence.is_matched:
        reason = f"the cache of cadence {mechanism.cadence.kind!r} follows from the text, so memory cannot be matched"
        problems.add((*path, field), f"must be an arm with a budget, got {name!r}: {reason}")
    elif not mechanism.budget_applies:
        problems.add(
            (*path, field), f"must be an arm with a budget, got {name!r}: without one memory cannot be matched"
        )
    elif not mechanism.cadence.bounded:
        problems.add((*path, field), f"must have a steady mean, got {name!r}: its cache grows with the text")
    else:
        return True
    return False


def _check_cell(cell: CellMatch, path: DataPath, sweep: Sweep, problems: Problems) -> bool:
    names = [model.name for model in sweep.models]
    if cell.model is not None and cell.model not in names:
        problems.add(
            (*path, "model"), f"must be a model of this study, got {cell.model!r}{did_you_mean(cell.model, names)}"
        )
        return False
    if not any(_matches(cell, model, budget) for model in sweep.models for budget in sweep.budgets):
        known = ", ".join(map(str, sweep.budgets))
        wanted = cell.budget.model_dump(exclude_none=True).values() if cell.budget else ()
        got = " ".join(map(str, wanted))
        problems.add((*path, "budget"), f"must be a budget of this study, got {got} (known: {known})")
        return False
    return True


def _check_tuning(protocol: ProtocolSpec, space: Space, sweep: Sweep, problems: Problems) -> None:
    tuning, path = protocol.tuning, ("protocol", "tuning")
    if tuning is None:
        if space:
            problems.add(path, f"required field is missing: {space[0].id} has no value yet")
        return
    if not space:
        problems.add(path, "must be left out where no mechanism has a {tune: …} placeholder")
        return
    _check_that_all_parameters_count(protocol, space, sweep, problems)
    if tuning.prefer != "first":
        for parameter in space:
            if not parameter.numeric:
                rule = f"{tuning.prefer} must have numbers to compare, got {parameter.id} with other choices (prefer: first)"
                problems.add((*path, "prefer"), rule)
    if tuning.sampler == "grid":
        _check_grid(tuning, space, problems)


def _check_that_all_parameters_count(protocol: ProtocolSpec, space: Space, sweep: Sweep, problems: Problems) -> None:
    compared = {name for contrast in protocol.contrasts for name in (contrast.arm, contrast.baseline)}
    for parameter in space:
        name = _name_of(problems.document.data, parameter.mechanism)
        if name not in compared:
            problems.add(parameter.source, f"a tuned mechanism must be in a contrast, got {name!r} in none")


def _name_of(data: Mapping[str, Any], index: int) -> str:
    return str(data["mechanisms"][index]["name"])


def _check_grid(tuning: TuningSpec, space: Space, problems: Problems) -> None:
    sound = True
    for parameter in space:
        if parameter.n_points is None:
            problems.add(
                (*parameter.source, "tune"), "sampler grid must have choices or steps, got a range with neither"
            )
            sound = False
    if not sound:
        return
    most = prod(parameter.n_points or 0 for parameter in space)
    if most > _MOST_POINTS:
        problems.add(("protocol", "tuning"), f"a grid must have at most {_MOST_POINTS} points, got up to {most}")
        return
    size = sum(1 for _ in grid(space))
    if tuning.trials not in (None, size):
        rule = f"a grid has as many trials as points, {size} (or leave trials out), got {tuning.trials}"
        problems.add(("protocol", "tuning", "trials"), rule)


def _check_decision(protocol: ProtocolSpec, heldout: list[TaskSpec], sweep: Sweep, problems: Problems) -> None:
    decision, path = protocol.decision, ("protocol", "decision")
    if decision is None:
        return
    if isinstance(decision, dict) and decision.get("rules") == _PAPER:
        found = problems.validated(PaperDecision, decision, path)
        names = [model.name for model in sweep.models]
        unknown = {role: name for role, name in found.roles.model_dump().items() if name not in names} if found else {}
        for role, name in unknown.items():
            hint = did_you_mean(name, names)
            problems.add((*path, "roles", role), f"must be a model of this study, got {name!r}{hint}")
        if found is None or unknown:
            return
    try:
        check_decision(decision, hypotheses(protocol, [task.name for task in heldout], sweep))
    except ProtocolError as error:
        for line in str(error).splitlines():
            problems.add(path, line.removeprefix("decision: "))
