"""The worker: holds one loaded model, turns shards into committed samples and grades.

Shards that may share an engine go through it together, so that its rows stay full while the longest text of a shard ends.
Nothing of a shard is kept in memory beyond its commit, and a shard that is stored already is never made again: a worker
may be killed at any moment, and any number of workers may be given the same shard.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cluster.cell_inputs import artefacts_of, check_same, problems_of
from cluster.code_id import code_id
from cluster.fed_texts import References, reference_cell
from cluster.kept_generations import KeptGenerations, Origin, conditions
from cluster.live_progress import LiveProgress
from cluster.pending_shard import PendingShard
from cluster.prompt_check import check_prompts
from cluster.records import RunFacts, grade_row, sample_row
from cluster.shard_queue import Bundle, Settled, ShardSummary, Ticket
from designspace.axes import Decoding, Request
from designspace.axes.randomness import stream_key
from designspace.axes.voting import sample_requests
from designspace.engine import Engine
from designspace.engine.ending import Ending
from designspace.errors import InvariantViolation, ModelError
from designspace.models.gguf_import import ensure_imported
from designspace.models.loading import LoadedModel, load_model
from designspace.models.model_spec import ModelSpec
from designspace.store import ResultsStore
from designspace.tasks.grading import Grader
from designspace.tasks.task_spec import TaskSpec
from sweeps.earlier_rows import EarlierRows
from sweeps.engine_lengths import engine_lengths
from sweeps.expand import Cell
from sweeps.shards import Shard, engine_key


@dataclass(frozen=True)
class WorkerSettings:
    """Makes workers for one study and store; picklable, so that the executors can send it to other processes."""

    store_root: Path
    study: str
    look_sha256: str | None = None

    def __call__(self, threads: int, device: str) -> Worker:
        """Return a worker in this process."""
        return Worker(self.store_root, threads, study=self.study, device=device, look_sha256=self.look_sha256)


class Worker:
    """Runs bundles of shards on one device. Keeps the model, its encoded prompts and the last engine between them."""

    def __init__(
        self, store_root: Path, threads: int, *, study: str = "", device: str = "cpu", look_sha256: str | None = None
    ) -> None:
        # Ray sets OMP_NUM_THREADS=1 and the inline executor does not. The number moves speed and the order of float
        # reductions, so it is set here for both and stored with every row.
        self._former_threads = torch.get_num_threads()
        torch.set_num_threads(threads)
        self._threads = threads
        self.name = self._name_on(device)
        self.store = ResultsStore.open(store_root, create=False)
        self.study, self.device, self.look_sha256 = study, device, look_sha256
        self._graders: dict[str, Grader] = {}
        self._loaded: tuple[ModelSpec, LoadedModel] | None = None
        self._prompts: dict[tuple[TaskSpec, Decoding | None], dict[str, tuple[int, ...]]] = {}
        self._checked: set[str] = set()  # cells whose prompts are those of their stored texts
        self._engine: tuple[str, Engine] | None = None
        self._references = References()
        self._origin = Origin(self.name, look_sha256)
        self._earlier = EarlierRows(self.store, code_id())
        self._number, self._n_settled = secrets.token_hex(4), 0
        self._pending: tuple[PendingShard, ...] = ()

    def _name_on(self, device: str) -> str:
        """Return what its rows say of where they were made."""
        return f"{socket.gethostname()}, {device}, {self._threads} thread{'s'[: self._threads != 1]}"

    @property
    def progress(self) -> LiveProgress:
        """How far it is: asked in another thread, which may see a moment between two numbers."""
        engine, pending = self._engine, self._pending
        steps, begun = 0, 0
        if engine is not None:
            steps = engine[1].n_steps
            begun = sum(len(state.tokens) for state in list(engine[1].in_flight.values())) if pending else 0
        counts = [shard.counts() for shard in pending]
        n_rows, n_done, n_done_tokens, n_waiting_tokens = (sum(c[i] for c in counts) for i in range(4))
        n_made = begun + sum(shard.n_made_tokens for shard in pending)
        return LiveProgress(
            self.name,
            self._number,
            self._n_settled,
            steps,
            n_rows,
            n_done,
            n_made,
            n_done_tokens,
            begun + n_waiting_tokens,
        )

    def run(self, bundle: Bundle) -> Iterator[Settled]:
        """Generate, commit and grade shards that share an engine; yield each when its last generation is dealt with.

        What is stored already is only graded. An error in what follows a shard's generations is that shard's alone, and is
        yielded; one in generating ends the bundle, and is raised.

        Raises:
            DesignspaceError: the cells cannot run here, or model, data or calibration are not those of their identity.
            StoreError: the store cannot be read.
        """
        if len({engine_key(ticket.shard.cell) for ticket in bundle}) > 1:
            raise InvariantViolation("the shards of a bundle must share an engine")
        missing = []
        for ticket in bundle:
            if self.store.is_committed(ticket.shard.cell.cell_id, ticket.shard.shard_id):
                yield self._settled(ticket)
            else:
                missing.append(ticket)
        if missing:
            self._make_references([ticket.shard for ticket in missing])
            engine = self._engine_for(missing[0].shard.cell)
            for cell in dict.fromkeys(ticket.shard.cell for ticket in missing):
                self._check_prompts(engine.loaded, cell)
            for made in self._generate(engine, missing):
                yield self._settled(made.ticket, made)

    def watched_engine(self, shard: Shard) -> tuple[Engine, list[Request]]:
        """Return the engine that makes a shard's texts, and what is asked of it, for somebody to watch; nothing is stored.

        The texts come out as any worker makes them, token by token: a row does not depend on its batch-mates.

        Raises:
            DesignspaceError: as `run`.
        """
        self._make_references([shard])
        engine = self._engine_for(shard.cell)
        self._check_prompts(engine.loaded, shard.cell)
        by_problem = self._requests(engine, shard)
        return engine, [request for samples in by_problem.values() for request in samples]

    def close(self) -> None:
        """End the grader's child process and give back the thread setting."""
        for grader in self._graders.values():
            grader.close()
        self._loaded = self._engine = None
        torch.set_num_threads(self._former_threads)

    def _make_references(self, shards: Sequence[Shard]) -> None:
        """Make the texts that cells are fed or must foresee, where they have not been made yet."""
        cell = shards[0].cell
        if not cell.needs_reference or not self._references.lacks(shards):
            return
        engine = self._engine_for(reference_cell(cell))
        try:
            self._references.make(shards, problems_of(cell), engine, self._encoded(engine.loaded, cell))
        except BaseException:
            self._engine = None  # a half-run engine may hold rows
            raise

    def _generate(self, engine: Engine, tickets: Sequence[Ticket]) -> Iterator[PendingShard]:
        """Yield shards as they become whole, in whatever order their last generations come."""
        there = {cell.cell_id: self._there(engine, cell) for cell in dict.fromkeys(t.shard.cell for t in tickets)}
        pending = tuple(self._begin(engine, ticket, there[ticket.shard.cell.cell_id]) for ticket in tickets)
        requests = [request for shard in pending for request in shard.missing]
        awaited_by = {request.stream: shard for shard in pending for request in shard.missing}
        self._pending = tuple(shard for shard in pending if not shard.is_whole)
        try:
            yield from (shard for shard in pending if shard.is_whole)
            for generation in engine.generate(requests):
                awaited = awaited_by.pop(generation.stream)
                awaited.add(generation)
                if awaited.is_whole:
                    self._pending = tuple(shard for shard in self._pending if shard is not awaited)
                    yield awaited
        except BaseException:
            self._engine = None  # a half-run engine may hold rows
            raise
        finally:
            self._pending = ()

    def _begin(self, engine: Engine, ticket: Ticket, taken: Mapping[str, dict[str, Any]]) -> PendingShard:
        """Return a shard with the rows that are there already, and with what an earlier attempt has finished of it."""
        shard = ticket.shard
        journal = self.store.journal(
            shard.cell.cell_id, shard.shard_id, conditions(self.device, torch.get_num_threads())
        )
        asked = {name: requests for name, requests in self._requests(engine, shard).items() if name not in taken}
        return PendingShard(ticket, asked, KeptGenerations(journal, self._origin), taken)

    def _requests(self, engine: Engine, shard: Shard) -> dict[str, list[Request]]:
        """Return the generations to ask for, by problem: as many of each as the decoding compares."""
        cell, prompts = shard.cell, self._encoded(engine.loaded, shard.cell)
        fed = self._references.of(cell)
        return {
            name: sample_requests(
                Request(
                    name,
                    prompts[name],
                    stream_key(cell.root_seed, name, cell.replicate),
                    max_new_tokens=cell.generation.new_token_cap(len(prompts[name])),
                    reference=None if cell.writes_answers else fed[name].token_ids,
                    foreseen=fed[name].token_ids if cell.mechanism.needs().foresight else None,
                ),
                engine.decoding.samples,
            )
            for name in shard.problem_ids
        }

    def _there(self, engine: Engine, cell: Cell) -> dict[str, dict[str, Any]]:
        """Return a cell's rows that are there from the same cell with fewer problems, by problem id."""
        return self._earlier.of(cell, problems_of(cell), partial(self._encoded, engine.loaded, cell))

    def _settled(self, ticket: Ticket, made: PendingShard | None = None) -> Settled:
        """Commit a shard's samples if they have just been made, then its grades."""
        self._n_settled += 1
        try:
            started_s = time.perf_counter() if made is None else made.started_s
            if made is not None:
                self._commit(made)
                made.kept.forget()
            return Settled(ticket, self._grade(ticket.shard, started_s, made))
        except Exception as error:  # its mates have nothing to do with it
            return Settled(ticket, error)

    def _commit(self, made: PendingShard) -> None:
        shard, engine = made.ticket.shard, self._engine_for(made.ticket.shard.cell)
        problems = {problem.problem_id: problem for problem in problems_of(shard.cell)}
        grader, decode = self._grader(shard.cell.task), engine.loaded.decode
        ending = _ending(shard.cell) if shard.cell.writes_answers else Ending()  # a text that was given is kept whole
        whole = {}
        for name in (name for name in shard.problem_ids if name not in made.taken):
            samples = made.samples(name)
            answers = [grader.vote(ending.text(decode, g.token_ids)) for g in samples]
            whole[name] = engine.decoding.combine(name, samples, answers)
        texts = {name: ending.text(decode, whole[name].token_ids) for name in whole}
        wall_s = time.perf_counter() - made.started_s
        started_at = datetime.now(UTC) - timedelta(seconds=wall_s)
        attempt, look = made.ticket.attempt, self.look_sha256
        facts = RunFacts(self.study, attempt, self.name, code_id(), started_at, shard_wall_s=wall_s, look_sha256=look)
        prompts, fed = self._encoded(engine.loaded, shard.cell), self._references.of(shard.cell)
        rows = []
        for name in shard.problem_ids:
            if name in made.taken:
                rows.append({**made.taken[name], "study": self.study})
                continue
            facts_of = replace(facts, **asdict(made.origin(name, self._origin)))
            read = engine.loaded.rendered(prompts[name])
            row = (shard, problems[name], prompts[name], whole[name], texts[name], facts_of, fed.get(name))
            rows.append(sample_row(*row, prompt_text=read))
        self.store.commit(shard.cell.cell_id, shard.shard_id, shard.cell.identity, rows)

    def _grade(self, shard: Shard, started_s: float, made: PendingShard | None) -> ShardSummary:
        cell_id, shard_id = shard.cell.cell_id, shard.shard_id
        columns = ["problem_id", "replicate", "text", "n_new_tokens", "taken_from"]
        rows = self.store.sample_rows(cell_id, shard_id).select(columns).to_pylist()
        grader, grades = self._grader(shard.cell.task), []
        if grader.grades and shard.cell.writes_answers:
            golds = {problem.problem_id: problem.answer for problem in problems_of(shard.cell)}
            for row in rows:
                gold = golds[row["problem_id"]]
                grades.append(grade_row(row, gold, grader, grader.grade(row["text"], gold)))
            self.store.commit_grades(grader.grader_id, cell_id, shard_id, grades)
        return ShardSummary(
            n_rows=len(rows),
            n_new_tokens=sum(row["n_new_tokens"] for row in rows if row["taken_from"] is None),
            n_made_tokens=0 if made is None else made.n_made_tokens,
            n_correct=sum(grade["correct"] for grade in grades),
            wall_s=time.perf_counter() - started_s,
            generated=made is not None,
            worker=self.name,
        )

    def _grader(self, task: TaskSpec) -> Grader:
        """Return the task's grader, one for all tasks that grade alike: it may have a process running."""
        return self._graders.setdefault(task.grader.grader_id, task.grader)

    def _engine_for(self, cell: Cell) -> Engine:
        key = engine_key(cell)
        if self._engine is not None and self._engine[0] == key:
            return self._engine[1]
        self._engine = None  # frees the old cache before the new one is allocated
        loaded = self._load(cell)
        prompts = self._encoded(loaded, cell)
        room = engine_lengths(cell.task, cell.generation, [len(ids) for ids in prompts.values()])
        engine = Engine(
            loaded,
            cell.mechanism,
            cell.budget,
            rows=cell.generation.rows,
            max_new_tokens=room.new,
            max_prompt_tokens=room.prompt,
            artefacts=artefacts_of(cell),
            step=cell.generation.step,
            ending=_ending(cell),
            prefill_chunk=cell.generation.prefill_chunk,
        )
        self._engine = (key, engine)
        return engine

    def _encoded(self, loaded: LoadedModel, cell: Cell) -> dict[str, tuple[int, ...]]:
        """Return the task's prompts as tokens, with what the cell's decoding adds to them."""
        decoding = cell.mechanism.decoding
        key = (cell.task, decoding)
        if key not in self._prompts:
            format_prompt = decoding.format_prompt if decoding is not None else str
            framing = cell.task.framing
            self._prompts[key] = {
                p.problem_id: loaded.encode(format_prompt(p.prompt), **framing) for p in problems_of(cell)
            }
        return self._prompts[key]

    def _check_prompts(self, loaded: LoadedModel, cell: Cell) -> None:
        """Check, once for each cell, that its prompts are the tokens that its stored texts were made from."""
        if cell.cell_id not in self._checked:
            check_prompts(self.store, cell.cell_id, cell.label(), self._encoded(loaded, cell))
            self._checked.add(cell.cell_id)

    def _load(self, cell: Cell) -> LoadedModel:
        if self._loaded is None or self._loaded[0] != cell.model:
            self._loaded = None  # two models need not fit together
            self._prompts.clear()  # another tokenizer
            self._references.forget()
            ensure_imported(cell.model)  # this machine may not have it yet
            check_same("model", cell.identity["model"], cell.model.identity(), ModelError, cell)
            device = cell.model.device_on(self.device)
            self._loaded = (cell.model, load_model(cell.model, device))
            self.name = self._name_on(device)
        return self._loaded[1]


def _ending(cell: Cell) -> Ending:
    """Return what ends a cell's texts early."""
    generation = cell.generation
    return Ending(generation.stop, generation.min_new_tokens)
