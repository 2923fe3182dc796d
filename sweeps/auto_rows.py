"""`rows: auto`: from a sweep's declaration to the number of rows that all of its arms have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from designspace.errors import DeclarationError
from designspace.memory.batch_rows import NamedArm, RowsPlan, plan_at, plan_rows
from designspace.memory.footprint import ArmMemory
from designspace.models.calibration import load_artefact
from designspace.models.model_spec import ModelSpec
from designspace.models.skeleton import load_skeleton
from designspace.tasks.task_spec import TaskSpec
from sweeps.combinations import Combination, combinations
from sweeps.engine_lengths import engine_lengths
from sweeps.full_cache import full_cache
from sweeps.generation_fields import AutoGeneration, GenerationCaps
from sweeps.identity import calibrations_needed

if TYPE_CHECKING:
    from sweeps.spec import Sweep
    from sweeps.task_data import TaskData


def with_rows(sweep: Sweep, data: Mapping[TaskSpec, TaskData]) -> Sweep:
    """Return a sweep whose number of rows is an integer: the one written, else that of its results, else as many as fit.

    Of a model, its configuration and tokenizer are read; of a task, the lengths of its prompts.

    Raises:
        DeclarationError: no number of rows fits, or a task's problems are not here.
        DesignspaceError: a model's configuration, or a calibration, is not here.
    """
    if not isinstance(sweep.generation, AutoGeneration):
        return sweep
    found, memory = arms(combinations_of(sweep), data), sweep.generation.memory
    before = sweep.rows_before
    return with_plan(sweep, plan_rows(found, memory) if before is None else plan_at(found, memory, before))


def with_plan(sweep: Sweep, plan: RowsPlan) -> Sweep:
    """Return a sweep with the number of rows of a plan."""
    if not isinstance(sweep.generation, AutoGeneration):
        return sweep
    return replace(sweep, generation=sweep.generation.with_rows(plan.rows), rows_plan=plan)


def arms(declared: Iterable[tuple[Combination, GenerationCaps]], data: Mapping[TaskSpec, TaskData]) -> list[NamedArm]:
    """Return what can differ in memory among some combinations and how they generate.

    Raises:
        DesignspaceError: as `with_rows`.
    """
    found: dict[object, NamedArm] = {}
    for one, generation in declared:
        lengths = _prompt_lengths(one, data)
        room = one.task.prompt_room
        key = (one.model, one.mechanism, one.budget, len(lengths), min(lengths), max(lengths), room, generation)
        if key not in found:
            found[key] = arm(one, generation, lengths)
    return list(found.values())


def combinations_of(*sweeps: Sweep) -> Iterator[tuple[Combination, GenerationCaps]]:
    """Yield what some sweeps run, with how they generate."""
    for sweep in sweeps:
        for one in combinations(sweep):
            yield from ((engine, sweep.generation_of(one.model)) for engine in engines_of(one))


def engines_of(one: Combination) -> Iterator[Combination]:
    """Yield what must fit into memory for a combination, one after the other: itself, and what makes the texts it needs."""
    yield one
    decoding = one.mechanism.decoding
    if one.mechanism.needs().foresight or (decoding is not None and decoding.reference is not None):
        yield one._replace(mechanism=full_cache(), budget=None)


def arm(one: Combination, generation: GenerationCaps, lengths: tuple[int, ...]) -> NamedArm:
    """Return the memory of one combination, whose prompts have these lengths, as the engine is made for it.

    Raises:
        DeclarationError: the mechanism cannot run on the model, or a prompt leaves no room.
        CalibrationError: a calibration that it needs is not here.
    """
    model, task, mechanism, budget = one
    skeleton = load_skeleton(model)
    reasons = mechanism.geometry_errors(skeleton.geometry)
    if reasons:
        raise DeclarationError(f"mechanism {mechanism.name!r} on model {model.name!r}: {reason}" for reason in reasons)
    room = engine_lengths(task, generation, lengths)
    memory = ArmMemory(
        skeleton,
        mechanism,
        budget,
        max_new_tokens=room.new,
        max_prompt_tokens=room.prompt,
        artefacts={name: load_artefact(model, name) for name in calibrations_needed(mechanism)},
        n_prompts=len(lengths),
        prefill_chunk=generation.prefill_chunk,
    )
    return NamedArm(mechanism.name if budget is None else f"{mechanism.name} at budget {budget}", model.name, memory)


def _prompt_lengths(one: Combination, data: Mapping[TaskSpec, TaskData]) -> tuple[int, ...]:
    found, decoding = data[one.task], one.mechanism.decoding
    if found.problems is None:
        raise DeclarationError(
            f"rows: auto needs the prompts of task {one.task.name!r} split {one.task.split!r}: {found.missing_because}"
        )
    prompts = tuple((decoding.format_prompt if decoding else str)(p.prompt) for p in found.problems)
    return _lengths(one.model, prompts, one.task)


@cache
def _lengths(model: ModelSpec, prompts: tuple[str, ...], task: TaskSpec) -> tuple[int, ...]:
    skeleton, framing = load_skeleton(model), task.framing
    return tuple(len(skeleton.encode(prompt, **framing)) for prompt in prompts)
