"""Checks before any work: everything that would fail every shard is said at once, before the first one starts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from cluster.fed_texts import solution_ids
from designspace.axes import Geometry
from designspace.engine.decode_step import COMPILED_QUANTIZED
from designspace.engine.prefill import bucket, prompts_per_pass
from designspace.errors import CalibrationError, DeclarationError, DesignspaceError, MissingExtra, ModelError, require
from designspace.memory.batch_rows import check_fits
from designspace.memory.footprint import ArmMemory
from designspace.models.calibration import load_artefact
from designspace.models.loading import load_model
from designspace.models.model_spec import ModelSpec
from designspace.models.proof import Proof
from designspace.models.proven import kept_proof
from designspace.models.quantization import PACKAGES
from designspace.models.skeleton import load_skeleton
from designspace.tasks.grading import Grader
from designspace.tasks.problem import Problem
from designspace.tasks.task_spec import TaskSpec
from sweeps.auto_rows import arms, engines_of
from sweeps.combinations import Combination, combinations
from sweeps.engine_lengths import engine_lengths
from sweeps.expand import Cell, expand
from sweeps.identity import calibrations_needed
from sweeps.predicted_cache import bound_schedule
from sweeps.sources import declared_geometry
from sweeps.spec import Sweep
from sweeps.task_data import TaskData, task_data

_MAX_GOLDS_NAMED = 3
_BY_FAR = 32


class PreflightError(DeclarationError):
    """A sweep is well formed but cannot run here: data, weights or calibration are missing or do not fit."""


def check_golds(problems: Iterable[Problem], grader: Grader) -> list[str]:
    """Return what is wrong with gold answers: one that does not equal itself would fail every arm alike."""
    with grader:
        verdicts: dict[str, bool] = {}
        for problem in problems:
            if problem.answer not in verdicts:
                verdicts[problem.answer] = grader.gold_error(problem.answer) is None
        bad = [problem for problem in problems if not verdicts[problem.answer]]
    if not bad:
        return []
    named = ", ".join(f"{problem.problem_id}: {problem.answer!r}" for problem in bad[:_MAX_GOLDS_NAMED])
    return [f"{len(bad)} gold answer{'s'[: len(bad) != 1]} cannot be graded: {named}{', …'[: 3 * (len(bad) > 3)]}"]


def check_fed(declared: Iterable[Cell | Combination]) -> Iterator[str]:
    """Yield which arms would write texts of their own for tasks whose solutions are to be fed."""
    fed = dict.fromkeys((one.task, one.mechanism) for one in declared if one.task.task.is_fed)
    for task, mechanism in fed:
        if mechanism.decoding is None or mechanism.decoding.reference != "solution":
            yield (
                f"task {task.name!r} is measured on solutions that are fed: mechanism {mechanism.name!r} needs "
                "decoding: {kind: teacher-forced, of: solution}"
            )


def check_models(cells: Collection[Cell]) -> Iterator[str]:
    """Yield why models, or mechanisms on them, cannot run: weights, head dimensions, calibration."""
    for model in dict.fromkeys(cell.model for cell in cells):
        try:
            if model.quantization is not None:
                require(PACKAGES[model.quantization])
            geometry = geometry_of(model)
        except DesignspaceError as error:
            yield f"model {model.name!r}: {error}" if isinstance(error, MissingExtra) else str(error)
            continue
        if model.quantization is not None and any(c.model == model and c.generation.step == "compiled" for c in cells):
            yield f"model {model.name!r}: {COMPILED_QUANTIZED}"
        mechanisms = {cell.mechanism.name: cell.mechanism for cell in cells if cell.model == model}
        for mechanism in mechanisms.values():
            for reason in mechanism.geometry_errors(geometry):
                yield f"mechanism {mechanism.name!r} on model {model.name!r}: {reason}"
        yield from _hidden_state_errors(model, [cell for cell in cells if cell.model == model])
        for name in sorted({name for mechanism in mechanisms.values() for name in calibrations_needed(mechanism)}):
            try:
                load_artefact(model, name)
            except CalibrationError as error:
                yield str(error)


def _hidden_state_errors(model: ModelSpec, cells: Collection[Cell]) -> Iterator[str]:
    """Yield why cells of one model cannot feed the gates of their mechanisms, or tell sentences apart."""
    needing = {cell.mechanism.name: cell.mechanism.needs() for cell in cells if cell.mechanism.needs().hidden_states}
    compiled = {cell.mechanism.name for cell in cells if cell.generation.step == "compiled"}
    for name, needs in needing.items():
        if name in compiled:
            what = "gates" if needs.gates else "sentences"
            yield f"mechanism {name!r} has {what}, which read what generation step 'compiled' does not hand out: use 'plain'"
    has_gates = any(needs.gates for needs in needing.values())
    if has_gates and (error := load_skeleton(model).attention_inputs_error()) is not None:
        yield error
    for name, needs in needing.items():
        try:
            load_skeleton(model).last_tokens(needs.sentences)
        except ModelError as error:
            yield f"mechanism {name!r} on model {model.name!r}: where sentences end: {error}"


def check_memory(cells: Collection[Cell], data: Mapping[TaskSpec, TaskData], available: int) -> Iterator[str]:
    """Yield why cells do not fit into the bytes that one worker has for weights, cache and workspace.

    Arms that fit by far are not tried out. To be asked after `check_models`: what a cell lacks is said there. The free
    memory of this machine is the right number where this machine runs the cells; other workers check for themselves, with
    `designspace.memory.batch_rows.check_fits`.
    """
    for rows in sorted({cell.generation.rows for cell in cells}):
        declared = (
            (engine, cell.generation)
            for cell in cells
            if cell.generation.rows == rows
            for engine in engines_of(Combination(cell.model, cell.task, cell.mechanism, cell.budget))
        )
        try:
            if unsure := [one for one in arms(declared, data) if not fits_by_far(one.memory, rows, available)]:
                check_fits(unsure, rows, available)
        except DesignspaceError as error:
            yield str(error)


def fits_by_far(memory: ArmMemory, rows: int, available: int) -> bool:
    """Return whether so little is needed that no step has to be tried out to know that it fits.

    Trying takes seconds for every arm. What is known without: weights, cache, logits, and attention among all tokens of as
    many texts as are encoded together. Over the catalogue's systems, on prompts of 36 to 3,000 tokens with 1 to 256 rows,
    the whole was at most 22 times that (thought-aware, long prompts), for all but that one at most 8 times.
    """
    geometry, width = memory.geometry, bucket(memory.max_prompt_tokens + memory.max_new_tokens)
    logits = 4 * rows * int(memory.skeleton.model.config.vocab_size)
    attention = 4 * geometry.n_query_heads * prompts_per_pass(width) * width**2
    return _BY_FAR * (memory.weights + memory.cache(rows) + logits + attention) <= available


def geometry_of(model: ModelSpec) -> Geometry:
    """Return a model's shape as its `config.json` states it; of a hub model nothing else is fetched.

    A local model is tried out, once per content and machine.

    Raises:
        ModelError: there is no configuration, or not that of a plain decoder; or the model is not accepted.
    """
    local = ModelSpec(model.name, path=str(_hub_folder(model))) if model.hub else model
    geometry = declared_geometry(local)
    if geometry is None:
        raise ModelError(
            f"model {model.name!r}: {local.folder}/config.json is not that of a decoder with attention heads"
        )
    return geometry if model.hub else replace(geometry, rotation_note=_proof_of(model).rotation_note)


def _proof_of(model: ModelSpec) -> Proof:
    """Return what trying a local model out has found, now or earlier.

    Raises:
        ModelError: it is not accepted.
    """
    proof = kept_proof(model, "cpu") or load_model(model).proof
    if proof is None:
        raise ModelError(f"model {model.name!r} cannot be tried out")
    return proof


def check_texts(cells: Collection[Cell], data: Mapping[TaskSpec, TaskData]) -> Iterator[str]:
    """Yield why prompts cannot be given to a local model: a chat that it has not, tokens or positions that it lacks.

    To be asked after `check_models`.
    """
    kinds: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        kinds.setdefault(_kind_of_text(cell), []).append(cell)
    for alike in kinds.values():
        cell = alike[0]
        if cell.model.hub is None:
            yield from _text_faults(cell, data[cell.task].problems or (), alike)


def _kind_of_text(cell: Cell) -> tuple[object, ...]:
    """Return what a cell's prompts, and how long its texts may be, depend on."""
    decoding = cell.mechanism.decoding
    cue, of = (None, None) if decoding is None else (decoding.format_prompt(""), decoding.reference)
    return (cell.model, cell.task, cue, of, cell.generation)


def check_room(sweep: Sweep) -> None:
    """Refuse texts that do not fit, as a run would: under `max_total_tokens`, a prompt in the budget of an arm that keeps it,
    a solution that an arm is fed; and arms that write where solutions are to be fed.

    Nothing is read where neither is declared.

    Raises:
        PreflightError: with a line for every task and model.
    """
    keeps_prompts = any(mechanism.scoring.protects_prompt for mechanism in sweep.mechanisms)
    if faults := list(check_fed(combinations(sweep))):
        raise PreflightError(faults)
    feeds_solutions = any(m.decoding is not None and m.decoding.reference == "solution" for m in sweep.mechanisms)
    if sweep.generation.max_total_tokens is None and not (keeps_prompts or feeds_solutions):
        return
    data = {task: task_data(task) for task in sweep.tasks}
    cells = [cell for cell in expand(sweep, data) if data[cell.task].problems]
    if faults := list(check_texts(cells, data)):
        raise PreflightError(faults)


def _text_faults(cell: Cell, problems: Collection[Problem], alike: Iterable[Cell]) -> Iterator[str]:
    decoding, task, place = cell.mechanism.decoding, cell.task, f"task {cell.task.name!r} on model {cell.model.name!r}"
    format_prompt = str if decoding is None else decoding.format_prompt
    try:
        skeleton = load_skeleton(cell.model)
        lengths = {
            problem.problem_id: len(skeleton.encode(format_prompt(problem.prompt), **task.framing))
            for problem in problems
        }
        room = engine_lengths(task, cell.generation, lengths.values())
        longest, name = max((n + cell.generation.new_token_cap(n), name) for name, n in lengths.items())
        if decoding is not None and decoding.reference == "solution":
            for problem in problems:
                solution_ids(problem, skeleton, cell.generation.new_token_cap(lengths[problem.problem_id]))
    except DesignspaceError as error:
        yield f"{place}: {error}"
        return
    yield from _prompt_faults(place, alike, room.prompt)
    if skeleton.longest is not None and longest > skeleton.longest:
        yield (
            f"{place}: texts may have {skeleton.longest:,} positions, {name!r} with its new tokens may reach {longest:,}: "
            f"use max_total_tokens: {skeleton.longest}"
        )


def _prompt_faults(place: str, cells: Iterable[Cell], longest_prompt: int) -> Iterator[str]:
    """Yield which budgets have no room for a prompt that is protected."""
    arms = {(cell.mechanism, cell.budget): cell for cell in cells if cell.mechanism.scoring.protects_prompt}
    for cell in arms.values():
        try:
            bound_schedule(cell, longest_prompt)
        except DesignspaceError as error:
            yield f"{place}: mechanism {cell.mechanism.name!r} at budget {cell.budget}: {error}"


def _hub_folder(model: ModelSpec) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(str(model.hub), "config.json", revision=model.revision)).parent
    except (OSError, ValueError) as error:  # every hub error derives from one of the two
        reason = str(error).splitlines()[0]
        raise ModelError(f"model {model.name!r}: cannot get {model.hub} at {model.revision}: {reason}") from error
