"""What makes two cells the same result: a hand-written, versioned projection, hashed.

Not a dump of the declaration: a dump changes every id when a field is added, and one that drops defaults gives old
results a new meaning when a default changes. `IDENTITY_VERSION` goes up when the projection changes, and only then do
the golden ids change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from designspace.axes import Budget, Mechanism
from designspace.canonical import canonical_json
from designspace.engine import ENGINE_VERSION
from designspace.models.model_spec import ModelSpec
from designspace.tasks.grading import MathGrader
from designspace.tasks.task_spec import TaskSpec
from sweeps.full_cache import full_cache
from sweeps.generation_fields import GenerationSpec

IDENTITY_VERSION = 2


def identity_document(
    *,
    model: ModelSpec,
    task: TaskSpec,
    task_content_hash: str | None,
    mechanism: Mechanism,
    calibration: Mapping[str, str | None],
    budget: Budget | None,
    generation: GenerationSpec,
    replicate: int,
    root_seed: int,
    solutions: str | None = None,
) -> dict[str, Any]:
    """Return everything that can change a cell's result, as JSON-able data.

    Out: names and labels, file paths, the executor, devices. Temperature and top-p are in the mechanism's decoding, so
    that an arm with its own decoding does not change with settings that it ignores. `task_content_hash` is None where
    the data is not here, and so is a hash in `calibration` (by artefact name): such an identity is provisional. So is one
    without the hash of the `solutions`, where these are what is fed.
    """
    return {
        "identity_version": IDENTITY_VERSION,
        "engine_version": ENGINE_VERSION,
        "model": model.identity(),
        "calibration": {name: calibration.get(name) for name in calibrations_needed(mechanism)},
        "task": {**task.identity(), "content": task_content_hash, **_votes(task, mechanism)},
        "mechanism": mechanism.identity(),
        "budget": None if budget is None else _budget(budget),
        "generation": {
            "max_new_tokens": generation.max_new_tokens,
            "max_total_tokens": generation.max_total_tokens,
            "rows": generation.rows,
            "block": generation.problems_per_shard,
            "step": generation.step,
            **_ending(generation),
            **({"prefill_chunk": generation.prefill_chunk} if generation.prefill_chunk else {}),
        },
        "replicate": replicate,
        "root_seed": root_seed,
        **_reference(mechanism, solutions),
    }


def _ending(generation: GenerationSpec) -> dict[str, Any]:
    """Return what ends texts early; what is as it ever was stays out, so that older results keep their ids."""
    found: dict[str, Any] = {"stop": sorted(generation.stop)} if generation.stop else {}
    if generation.min_new_tokens:
        found["min_new_tokens"] = generation.min_new_tokens
    return found


def _budget(budget: Budget) -> dict[str, Any]:
    """Return a budget; the prompt's part stays out where there is none, so that older results keep their ids."""
    parts = {"prompt": budget.prompt} if budget.prompt else {}
    return {"tokens": budget.tokens, "of": budget.of, **parts}


def _votes(task: TaskSpec, mechanism: Mechanism) -> dict[str, Any]:
    """Return what decides which of several samples is returned; grades themselves are no part of a result."""
    if mechanism.decoding is None or mechanism.decoding.samples == 1 or task.grader == MathGrader():
        return {}  # mathematical votes stay out, so that older results keep their ids
    return {"votes": {"kind": task.grader.kind, "version": task.grader.version}}


def _reference(mechanism: Mechanism, solutions: str | None) -> dict[str, Any]:
    """Return what decides which texts a cell is fed, or foresees, and what they are compared with; empty for all others."""
    of = None if mechanism.decoding is None else mechanism.decoding.reference
    if of is None and not mechanism.needs().foresight:
        return {}
    fed = {"solutions": solutions} if of == "solution" else {}
    return {"reference": {"mechanism": full_cache().identity(), **fed}}


def calibrations_needed(mechanism: Mechanism) -> tuple[str, ...]:
    """Return the names of the calibration artefacts that a mechanism reads."""
    return mechanism.needs().calibrations


def cell_id(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of an identity document, 64 hex digits."""
    return hashlib.sha256(canonical_json(document).encode()).hexdigest()
