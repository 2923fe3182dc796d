"""Rows of the store from what a worker has in hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from cluster.fed_texts import ReferenceText
from designspace.axes import Decoding, Generation
from designspace.engine import ENGINE_VERSION
from designspace.errors import InvariantViolation
from designspace.store.schema import FORCED_COLUMNS
from designspace.tasks.grading import Grade, Grader
from designspace.tasks.problem import Problem
from sweeps.shards import Shard

# What a generation knows under the names that the store uses too.
_FROM_GENERATION = (
    "n_prompt_tokens", "finish_reason", "mean_cache_tokens", "steady_mean_cache_tokens", "peak_cache_tokens",
    "mean_cache_bytes", "peak_cache_bytes", "mean_read_bytes", "mean_aux_bytes", "n_events", "n_evicted", "n_extra_tokens",
    "cache_tokens_per_step", "wall_s", "token_ids", "prompt_survival_union", "prompt_survival_mean", "sampling_error",
)  # fmt: skip


@dataclass(frozen=True)
class RunFacts:
    """What all rows of one attempt at a shard share, but for what an earlier attempt had finished.

    Attributes:
        worker: who generated the row.
        started_at: when the first of the shard's generations was begun.
        shard_wall_s: seconds from then to the commit. Shards that share an engine overlap, so the sum over shards is more
            than the time that passed.
        look_sha256: hash of the entry of the look ledger that the generations belong to; None where no problem is held out.
    """

    study: str
    attempt: int
    worker: str
    code_id: str
    started_at: datetime
    shard_wall_s: float
    look_sha256: str | None


def sample_row(
    shard: Shard,
    problem: Problem,
    prompt_ids: Sequence[int],
    generation: Generation,
    text: str,
    facts: RunFacts,
    fed: ReferenceText | None = None,
    *,
    prompt_text: str,
) -> dict[str, Any]:
    """Return one row of the samples table, but for the ids that the store adds.

    prompt_ids, prompt_text: the prompt as the model read it, with its chat template and what the decoding adds. fed: the text
    that the generation was given; None where it wrote its own.

    Raises:
        InvariantViolation: a cell that is to be fed a text was not, or was fed another one.
    """
    cell = shard.cell
    return {
        "model": cell.model.name,
        "task": cell.task.name,
        "split": cell.task.split,
        "problem_id": problem.problem_id,
        "kind": problem.kind,
        "mechanism": cell.mechanism.name,
        "budget": "none" if cell.budget is None else str(cell.budget),
        "budget_tokens": None if cell.budget is None else cell.budget.tokens,
        "budget_of": None if cell.budget is None else cell.budget.of,
        "replicate": cell.replicate,
        "seed": cell.root_seed,
        "prompt": problem.prompt,
        "prompt_token_ids": prompt_ids,
        "prompt_text": prompt_text,
        "text": text,
        "n_new_tokens": generation.n_new_tokens,
        "engine_version": str(ENGINE_VERSION),
        "taken_from": None,
        **asdict(facts),
        **{name: getattr(generation, name) for name in _FROM_GENERATION},
        **(_NOT_FORCED if cell.writes_answers else _forced(cell.mechanism.decoding, generation, fed)),
    }


_NOT_FORCED = dict.fromkeys(FORCED_COLUMNS)


def _forced(decoding: Decoding | None, generation: Generation, fed: ReferenceText | None) -> dict[str, Any]:
    """Return what the arm and the full cache think of the text that was fed."""
    likely, agrees = generation.token_log_probs, generation.token_agrees
    if decoding is None or fed is None or generation.token_ids != fed.token_ids or likely is None or agrees is None:
        raise InvariantViolation(f"{generation.problem_id!r} must have been fed its reference text, and was not")
    mean, full_mean = float(np.mean(likely)), float(fed.log_probs.mean())
    found = (
        decoding.reference,
        mean,
        full_mean,
        full_mean - mean,
        sum(agrees) / len(agrees),
        None if all(agrees) else agrees.index(False),
        likely,
        fed.log_probs,
        agrees,
        float(np.mean([agrees[i] for i in fed.answer])) if fed.answer else None,
        float(np.mean([likely[i] for i in fed.answer])) if fed.answer else None,
    )
    return dict(zip(FORCED_COLUMNS, found, strict=True))


def grade_row(sample: Mapping[str, Any], gold: str, grader: Grader, grade: Grade) -> dict[str, Any]:
    """Return one row of the grades table, but for the ids that the store adds."""
    return {
        "problem_id": sample["problem_id"],
        "replicate": sample["replicate"],
        "grader": grader.kind,
        "grader_version": grader.version,
        "answer": gold,
        "extracted": grade.strict_extracted,
        "grade_status": str(grade.strict_status),
        "correct": grade.strict_correct,
        "lenient_extracted": grade.lenient_extracted,
        "lenient_status": str(grade.lenient_status),
        "lenient_correct": grade.lenient_correct,
    }
