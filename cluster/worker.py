"""The worker: holds one loaded model, turns a shard into committed samples and grades.

Nothing of a shard is kept in memory beyond its commit, and a shard that is stored already is never made again: a worker
may be killed at any moment, and any number of workers may be given the same shard.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from cluster.code_id import code_id
from cluster.records import RunFacts, grade_row, sample_row
from cluster.schedule import ShardSummary
from designspace.axes import Decoding
from designspace.engine import Engine, Request
from designspace.errors import CalibrationError, DeclarationError, ModelError
from designspace.models.calibration import Artefact, load_artefact
from designspace.models.loading import LoadedModel, load_model
from designspace.models.spec import ModelSpec
from designspace.sampling import stream_key
from designspace.store import ResultsStore
from designspace.tasks.grading import GRADER_ID, Grader
from designspace.tasks.problem import Problem
from designspace.tasks.task import TaskSpec
from designspace.voting import sample_requests
from sweeps.expand import Cell
from sweeps.fields import GenerationSpec
from sweeps.identity import calibrations_needed
from sweeps.shards import Shard


@dataclass(frozen=True)
class WorkerSettings:
    """Makes workers for one study and store; picklable, so that the executors can send it to other processes."""

    store_root: Path
    study: str

    def __call__(self, threads: int, device: str) -> Worker:
        """Return a worker in this process."""
        return Worker(self.store_root, threads, study=self.study, device=device)


class Worker:
    """Runs shards on one device. Keeps the model, its encoded prompts and the last cell's engine between shards."""

    def __init__(self, store_root: Path, threads: int, *, study: str = "", device: str = "cpu") -> None:
        # Ray sets OMP_NUM_THREADS=1 and the inline executor does not. The number moves speed and the order of float
        # reductions, so it is set here for both and stored with every row.
        self._former_threads = torch.get_num_threads()
        torch.set_num_threads(threads)
        self.name = f"{socket.gethostname()}, {device}, {threads} thread{'s'[: threads != 1]}"
        self.store = ResultsStore.open(store_root, create=False)
        self.study, self.device = study, device
        self.grader = Grader()
        self._loaded: tuple[ModelSpec, LoadedModel] | None = None
        self._prompts: dict[tuple[TaskSpec, Decoding | None], dict[str, tuple[int, ...]]] = {}
        self._engine: tuple[str, Engine] | None = None

    def run(self, shard: Shard, attempt: int = 1) -> ShardSummary:
        """Generate, commit, grade, commit; skip what is stored already.

        Raises:
            DesignspaceError: the cell cannot run here, or model, data or calibration are not those of its identity.
            StoreError: the store cannot be written.
        """
        cell_id, shard_id = shard.cell.cell_id, shard.shard_id
        started_s = time.perf_counter()
        generated = not self.store.is_committed(cell_id, shard_id)
        if generated:
            started_s = self._generate(shard, attempt)
        samples = self.store.sample_rows(cell_id, shard_id).select(["problem_id", "replicate", "text", "n_new_tokens"])
        rows = samples.to_pylist()
        golds = {problem.problem_id: problem.answer for problem in _problems(shard.cell)}
        grades = [
            grade_row(row, golds[row["problem_id"]], self.grader.grade(row["text"], golds[row["problem_id"]]))
            for row in rows
        ]
        self.store.commit_grades(GRADER_ID, cell_id, shard_id, grades)
        return ShardSummary(
            n_rows=len(rows),
            n_new_tokens=sum(row["n_new_tokens"] for row in rows),
            n_correct=sum(grade["correct"] for grade in grades),
            wall_s=time.perf_counter() - started_s,
            generated=generated,
            worker=self.name,
        )

    def close(self) -> None:
        """End the grader's child process and give back the thread setting."""
        self.grader.close()
        self._loaded = self._engine = None
        torch.set_num_threads(self._former_threads)

    def _generate(self, shard: Shard, attempt: int) -> float:
        """Generate and commit a shard's samples; return when generating began."""
        cell = shard.cell
        problems = {problem.problem_id: problem for problem in _problems(cell)}
        engine = self._engine_for(cell)
        prompts = self._encoded(engine.loaded, cell)
        requests = {
            name: sample_requests(
                Request(
                    name,
                    prompts[name],
                    stream_key(cell.root_seed, name, cell.replicate),
                    max_new_tokens=new_token_cap(cell.generation, len(prompts[name])),
                ),
                engine.decoding.samples,
            )
            for name in shard.problem_ids
        }
        started_at, started_s = datetime.now(UTC), time.perf_counter()
        try:
            found = {generation.problem_id: generation for generation in engine.generate(chain(*requests.values()))}
        except BaseException:
            self._engine = None  # a half-run engine may hold rows
            raise
        facts = RunFacts(
            self.study, attempt, self.name, code_id(), started_at, shard_wall_s=time.perf_counter() - started_s
        )
        made = {}
        for name, asked in requests.items():
            samples = [found[request.problem_id] for request in asked]
            made[name] = engine.decoding.combine(name, samples, [engine.loaded.decode(g.token_ids) for g in samples])
        texts = {name: engine.loaded.decode(made[name].token_ids) for name in shard.problem_ids}
        rows = [sample_row(shard, problems[name], made[name], texts[name], facts) for name in shard.problem_ids]
        self.store.commit(cell.cell_id, shard.shard_id, cell.identity, rows)
        return started_s

    def _engine_for(self, cell: Cell) -> Engine:
        if self._engine is not None and self._engine[0] == cell.cell_id:
            return self._engine[1]
        self._engine = None  # frees the old cache before the new one is allocated
        loaded = self._load(cell)
        prompts = self._encoded(loaded, cell)
        # The longest prompt of the whole task, not of the shard: capacity is part of what fixes a row's numbers, so it
        # must not depend on how the problems are cut into shards.
        lengths = [len(ids) for ids in prompts.values()]
        new_token_cap(cell.generation, max(lengths))  # the longest prompt must leave room too
        engine = Engine(
            loaded,
            cell.mechanism,
            cell.budget,
            rows=cell.generation.rows,
            max_new_tokens=new_token_cap(cell.generation, min(lengths)),
            max_prompt_tokens=max(lengths),
            artefacts=_artefacts(cell),
        )
        self._engine = (cell.cell_id, engine)
        return engine

    def _encoded(self, loaded: LoadedModel, cell: Cell) -> dict[str, tuple[int, ...]]:
        """Return the task's prompts as tokens, with what the cell's decoding adds to them."""
        decoding = cell.mechanism.decoding
        key = (cell.task, decoding)
        if key not in self._prompts:
            cue = decoding.cue if decoding is not None else str
            self._prompts[key] = {p.problem_id: loaded.encode(cue(p.prompt)) for p in _problems(cell)}
        return self._prompts[key]

    def _load(self, cell: Cell) -> LoadedModel:
        if self._loaded is None or self._loaded[0] != cell.model:
            self._loaded = None  # two models need not fit together
            self._prompts.clear()  # another tokenizer
            _check_same("model", cell.identity["model"], cell.model.identity(), ModelError, cell)
            self._loaded = (cell.model, load_model(cell.model, self.device))
        return self._loaded[1]


def new_token_cap(generation: GenerationSpec, n_prompt_tokens: int) -> int:
    """Return the cap on new tokens after a prompt of this length.

    Raises:
        DeclarationError: the prompt leaves no room.
    """
    caps = [generation.max_new_tokens] if generation.max_new_tokens is not None else []
    if generation.max_total_tokens is not None:
        caps.append(generation.max_total_tokens - n_prompt_tokens)
    if min(caps) < 1:
        raise DeclarationError(
            f"max_total_tokens must leave room after the longest prompt, got max_total_tokens="
            f"{generation.max_total_tokens}, longest prompt={n_prompt_tokens}"
        )
    return min(caps)


def _problems(cell: Cell) -> list[Problem]:
    problems = cell.task.load()
    _check_same("task", cell.identity["task"]["content"], cell.task.content_hash(), DeclarationError, cell)
    return problems


def _artefacts(cell: Cell) -> dict[str, Artefact]:
    artefacts = {name: load_artefact(cell.model, name) for name in calibrations_needed(cell.mechanism)}
    for name, artefact in artefacts.items():
        _check_same("calibration", cell.identity["calibration"][name], artefact.sha256, CalibrationError, cell)
    return artefacts


def _check_same(what: str, declared: Any, found: Any, error: type[Exception], cell: Cell) -> None:
    """Refuse to store rows under an identity that is not what ran: files may differ between machines, or change.

    Raises:
        error: they differ.
    """
    if declared != found:
        raise error(f"the {what} on this machine is not the one of the cell's identity: {cell.label()}")
