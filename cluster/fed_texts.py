"""The texts that teacher-forced cells are fed, with their log-probabilities under the full cache, and those that are foreseen.

The worker makes them itself. The full cache is deterministic, so what it writes greedily is what a greedy arm with the full
cache writes, and no shard has to wait for another one. The engine is made as for that arm, with the same rows and the same
capacity, so that not even the last bits differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cluster.answer_tokens import answer_tokens
from designspace.axes import Generation, Request
from designspace.axes.randomness import stream_key
from designspace.engine import Engine
from designspace.errors import DeclarationError, ModelError
from designspace.models.loading import LoadedModel
from designspace.tasks.grading.contains_grader import answers_of
from designspace.tasks.problem import Problem
from sweeps.expand import Cell
from sweeps.full_cache import full_cache
from sweeps.shards import Shard

_Key = tuple[object, ...]
Prompts = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ReferenceText:
    """A text, and what the full cache thinks of it.

    Attributes:
        token_ids: the text.
        log_probs: of its tokens, [n] float64, in nats.
        answer: the indices of the tokens of a solution that write the problem's answer; empty where they are not known.
    """

    token_ids: tuple[int, ...]
    log_probs: np.ndarray
    answer: tuple[int, ...] = ()


class References:
    """The reference texts of one worker, each made once for all arms that it is fed to."""

    def __init__(self) -> None:
        self._texts: dict[_Key, dict[str, ReferenceText]] = {}

    def forget(self) -> None:
        """Drop all texts: another model comes."""
        self._texts.clear()

    def of(self, cell: Cell) -> dict[str, ReferenceText]:
        """Return the texts of a cell that have been made, by problem id; empty for one that needs none."""
        return self._texts.get(_key(cell), {})

    def make(self, shards: Sequence[Shard], problems: Sequence[Problem], engine: Engine, prompts: Prompts) -> None:
        """Make what is missing of the texts of shards that share an engine.

        Args:
            shards: of cells that need such texts and differ in nothing but their replicates.
            problems: of their task.
            engine: of `reference_cell`.
            prompts: token ids by problem id.

        Raises:
            DeclarationError: a problem has no solution to be fed, or one that does not fit.
        """
        cell = shards[0].cell
        known, wanted = self._texts.setdefault(_key(cell), {}), {name for shard in shards for name in shard.problem_ids}
        missing = [problem for problem in problems if problem.problem_id in wanted - known.keys()]
        asked = [_request(cell, problem, prompts[problem.problem_id], engine.loaded) for problem in missing]
        golds = {problem.problem_id: problem.answer for problem in missing} if _of(cell) == "solution" else {}
        for generation in engine.generate(asked):
            text, gold = _text(generation), golds.get(generation.problem_id, "")
            tokens = answer_tokens(answers_of(gold), text.token_ids, engine.loaded.decode)
            known[generation.problem_id] = replace(text, answer=tokens)

    def lacks(self, shards: Sequence[Shard]) -> bool:
        """Return whether a text of these shards is still to be made."""
        return any(name not in self.of(shard.cell) for shard in shards for name in shard.problem_ids)


def reference_cell(cell: Cell) -> Cell:
    """Return the cell whose engine makes the reference texts of another: the full cache, all else equal."""
    mechanism = full_cache()
    identity = {**cell.identity, "mechanism": mechanism.identity(), "budget": None, "calibration": {}}
    return replace(cell, mechanism=mechanism, budget=None, identity=identity)


def solution_ids(problem: Problem, loaded: LoadedModel, limit: int) -> tuple[int, ...]:
    """Return the tokens of a problem's solution; limit: the most new tokens after its prompt.

    Raises:
        DeclarationError: it has none, it is too long, a text of the model would have ended within it, or the tokenizer of the
            model has no tokens for it.
    """
    name = problem.problem_id
    if not problem.solution:
        raise DeclarationError(
            f"decoding teacher-forced of solution needs a solution of every problem, {name!r} has none: name the column of "
            "the file, as in fields: {solution: …}"
        )
    try:
        ids = loaded.token_ids(problem.solution)
    except ModelError as error:  # its message quotes the whole text
        raise DeclarationError(f"the model's tokenizer has no tokens for a part of the solution of {name!r}") from error
    if len(ids) > limit:
        raise DeclarationError(
            f"the solution of {name!r} has {len(ids)} tokens, max_new_tokens leaves room for {limit} after its prompt"
        )
    if any(token in loaded.eos_ids for token in ids[:-1]):
        raise DeclarationError(f"the solution of {name!r} must have no end-of-text token before its end")
    return ids


def _request(cell: Cell, problem: Problem, prompt: tuple[int, ...], loaded: LoadedModel) -> Request:
    limit = cell.generation.new_token_cap(len(prompt))
    is_given = _of(cell) == "solution"
    return Request(
        problem.problem_id,
        prompt,
        stream_key(cell.root_seed, problem.problem_id, 0),
        max_new_tokens=limit,
        reference=solution_ids(problem, loaded, limit) if is_given else None,
    )


def _text(generation: Generation) -> ReferenceText:
    return ReferenceText(generation.token_ids, np.array(generation.token_log_probs, dtype=np.float64))


def _of(cell: Cell) -> str | None:
    """Return which text it is; a mechanism with foresight knows the one that is fed, or else that of the full cache."""
    if not cell.writes_answers and cell.mechanism.decoding is not None:
        return cell.mechanism.decoding.reference
    return "full" if cell.needs_reference else None


def _key(cell: Cell) -> _Key:
    prompts = cell.mechanism.decoding if cell.writes_answers else None  # which may add to a prompt
    return (cell.model, cell.task, cell.generation, _of(cell), prompts)
