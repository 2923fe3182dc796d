"""What a reader of a plan should know before launching the sweep: nothing here stops it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from designspace.models.calibration import remedy
from designspace.models.model_spec import ModelSpec
from designspace.tasks.task_spec import TaskSpec
from sweeps.expand import Cell
from sweeps.generation_fields import GenerationCaps
from sweeps.idle_axes import idle_notes
from sweeps.spec import Sweep
from sweeps.task_data import TaskData

_COMMIT = re.compile(r"[0-9a-f]{40}")


def plan_notes(sweep: Sweep, cells: tuple[Cell, ...], data: Mapping[TaskSpec, TaskData]) -> Iterator[str]:
    """Yield the notes, in a fixed order."""
    yield from (_unpinned(model) for model in sweep.models if model.hub and not _COMMIT.fullmatch(model.revision or ""))
    for task, found in data.items():
        if found.problems is None:
            yield f"task {task.name} {task.split}: data not found here, so its shards are not counted"
    missing = dict.fromkeys(
        (cell.model, name) for cell in cells for name, sha256 in cell.identity["calibration"].items() if sha256 is None
    )
    if any(cell.provisional for cell in cells):
        yield "cell ids are provisional where data or calibration is missing"
    for model, name in missing:
        yield f"model {model.name}: calibration {name!r} is missing; {remedy(model, name)}"
    for mechanism in sweep.mechanisms:
        if not mechanism.cadence.is_matched:
            yield f"mechanism {mechanism.name}: the cache follows from the text, so it runs once, without a budget, unmatched"
        elif mechanism.budget_applies and not mechanism.cadence.bounded:
            yield f"mechanism {mechanism.name}: the cache grows with the text, so reports will call it unmatched"
    yield from idle_notes(cells)
    yield from (f"model {own.model}: {own}, as its generation_config.json says" for own in sweep.own)
    for generation, whose in _settings(sweep):
        if generation.temperature == 0:
            for name in ("top_p", "top_k", "min_p"):
                if (value := getattr(generation, name)) != GenerationCaps.model_fields[name].default:
                    yield f"{whose}{name} {value:g} has no effect at temperature 0"
            if sweep.seeds.count > 1:
                yield f"{whose}{sweep.seeds.count} replicates at temperature 0 differ only in arms that draw random numbers"


def _settings(sweep: Sweep) -> Iterator[tuple[GenerationCaps, str]]:
    """Yield how the texts are generated, and whose they are where that differs."""
    if not sweep.own:
        yield sweep.generation, ""
    else:
        yield from ((sweep.generation_of(model), f"model {model.name}: ") for model in sweep.models)


def _unpinned(model: ModelSpec) -> str:
    return f"model {model.name}: revision {model.revision!r} can move; a commit id (40 hex digits) pins the weights"
