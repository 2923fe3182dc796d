"""Batched generation with a compressed cache: prefill, decode, events, continuous refill of rows.

Two promises, both tested: with fixed `rows` and `capacity` a row's tokens and ledger do not depend on its batch-mates, on
their order, or on when it was refilled; and nothing of a sample is left when its row is retired.

Why they are kept: a prompt's pass, a decode step and an event chunk always have the same shapes, whoever else is in them (see
`designspace.engine.prefill` for prompts); randomness is a hash of what it is for.

Why it is fast: when a row is due follows from its size, so the rows run in bursts of steps up to the next event, and the
host looks at tokens and counts once per burst. Only rows that are steered by their text or by signals are watched step by step.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from designspace.axes import Artefact, Budget, Decoding, Generation, Mechanism, Request, RunContext, StepSeen
from designspace.axes.randomness import key_integer, step_uniforms
from designspace.cache.packing import Prompt, keep_all
from designspace.engine.burst import Burst, BurstRunner, usual_burst
from designspace.engine.cache_plan import CachePlan
from designspace.engine.compressor import Compressor, event_rows
from designspace.engine.decode_step import StepKind
from designspace.engine.ending import Ending, TextEnds
from designspace.engine.foresight import full_cache_text, future_attention
from designspace.engine.hook import EngineHook
from designspace.engine.ledger import Ledger
from designspace.engine.prefill import Prefill, bucket
from designspace.engine.prompt_blocks import PromptBlocks
from designspace.engine.reference_text import check_reference
from designspace.engine.row import RowState
from designspace.engine.steering import Steering
from designspace.engine.survival import prompt_survival
from designspace.engine.token_scores import TokenScores
from designspace.errors import DeclarationError, InvariantViolation
from designspace.models.loading import LoadedModel

__all__ = ["ENGINE_VERSION", "Engine", "Generation", "Request"]

ENGINE_VERSION = 5  # raised when the same declaration may give other tokens; part of a cell's identity


class Engine:
    """Runs one mechanism at one budget on one model, `rows` generations at a time.

    in_flight: the rows that have a text now, by their index. hook: is told of the run's occasions; set it to watch a run.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        mechanism: Mechanism,
        budget: Budget | None,
        *,
        rows: int,
        max_new_tokens: int,
        max_prompt_tokens: int,
        artefacts: Mapping[str, Artefact] | None = None,
        capacity: int | None = None,
        step: StepKind = "plain",
        burst: int | None = None,
        ending: Ending | None = None,
        prefill_chunk: int | None = None,
    ) -> None:
        """Allocate the cache for the longest prompt and generation.

        ending: what ends a text beside its limit and the model's end-of-text tokens.
        prefill_chunk: the most tokens of a prompt that go through the model at once, a multiple of 16; None: all.
        step: see `designspace.engine.decode_step`. burst: most decode steps between two looks of the host; affects speed alone.

        Raises:
            DeclarationError: the mechanism cannot run here (budget, calibration, decoding or the model's geometry).
            ModelError: the decoding needs text that the model's tokenizer cannot write.
        """
        # Gates read their weights at every step; what is read at events alone is moved there.
        in_gates = {gate.artefact for gate in mechanism.needs().gates}
        artefacts = {
            name: found.on(loaded.device) if name in in_gates else found for name, found in (artefacts or {}).items()
        }
        self.loaded, self.mechanism, self.decoding = loaded, mechanism, _checked(loaded, mechanism, artefacts)
        if prefill_chunk is not None and (prefill_chunk < 1 or prefill_chunk != bucket(prefill_chunk)):
            raise DeclarationError(f"prefill_chunk must be a multiple of {bucket(1)}, got {prefill_chunk}")
        self.rows, self.max_new_tokens, self.max_prompt_tokens = rows, max_new_tokens, max_prompt_tokens
        plan = CachePlan.of(
            loaded,
            mechanism,
            budget,
            max_prompt_tokens=max_prompt_tokens,
            max_new_tokens=max_new_tokens,
            artefacts=artefacts,
            capacity=capacity,
        )
        self.schedule, self.capacity = plan.schedule, plan.capacity
        self.cache = plan.allocate(rows, loaded.device)
        self.ends = TextEnds(loaded, ending or Ending())
        self._wire(plan, step, prefill_chunk)
        self._longest_burst = burst or usual_burst(max_new_tokens)
        self.hook = EngineHook()
        self.in_flight: dict[int, RowState] = {}

    def _wire(self, plan: CachePlan, step: StepKind, prefill_chunk: int | None) -> None:
        """Make what works on the cache."""
        loaded, mechanism, cache = self.loaded, self.mechanism, self.cache
        projection = loaded.output_projection() if plan.reads_projection else None
        context = RunContext.of(
            mechanism.scoring,
            cache.geometry,
            cache.width,
            plan.artefacts,
            None if projection is None else cache.geometry.held(projection),
            self.schedule.low,
            plan.prompt_slots,
        )
        chunk_rows = event_rows(self.rows, self.schedule.max_growth, usual_burst(self.max_new_tokens))
        self.prefill = Prefill(loaded, mechanism.needs(), plan.owners, projection, plan.artefacts, prefill_chunk)
        self.ledger = Ledger(cache)
        self.runner = BurstRunner(loaded, self.decoding, cache, self.ledger, step, self.ends)
        self.compressor = Compressor(mechanism, cache, context, chunk_rows)
        block = mechanism.cadence.prompt_block
        self.blocks = None if block is None else PromptBlocks(self.prefill, self.compressor, cache, block)
        self.steering = Steering(cache, self.prefill, self.compressor, self.ends, loaded.eos_ids)

    @property
    def n_steps(self) -> int:
        """Decode steps of the whole batch in the engine's life."""
        return self.runner.n_steps

    @torch.inference_mode()
    def generate(self, requests: Iterable[Request]) -> Iterator[Generation]:
        """Yield generations as they finish; the order of finishing, not of asking.

        A deque is worked off as it is, so requests that are appended meanwhile, by a hook or between two generations, are
        made too.
        """
        queue = requests if isinstance(requests, deque) else deque(requests)
        self.prefill.announce(queue)
        try:
            while queue or self.in_flight:
                yield from self._refill(queue)
                if self.in_flight:
                    yield from self.decode_burst()
        finally:
            for state in list(self.in_flight.values()):  # an abandoned iteration must leave no row behind
                self._retire(state)
            self.prefill.forget()

    def decode_burst(self) -> Iterator[Generation]:
        """Run all rows in flight to the next occasion for the host to look; yield the generations that end there."""
        self.advance(self._plan())
        for state in [state for state in self.in_flight.values() if state.reason_to_end(self.loaded.eos_ids)]:
            yield from self._finish(state)

    def advance(self, n_steps: int) -> Burst:
        """Run all rows in flight so many steps, cut those that are due, and append what was chosen to their texts."""
        burst = self.runner.run(self.in_flight.values(), n_steps, self.hook)
        self._account(burst)
        self._compress(burst)
        self._append(burst)
        self.hook.on_written(self.in_flight.values())
        return burst

    def _refill(self, queue: deque[Request]) -> Iterator[Generation]:
        """Give every free row the next prompt. A generation may end with its first token."""
        for row in range(self.rows):
            while queue and row not in self.in_flight:
                state, _ = self.admit(row, queue)
                yield from self._finish(state)

    def admit(self, row: int, queue: deque[Request]) -> tuple[RowState, Tensor]:
        """Take the first request into a free row; return the row, and the logits [1,V] after its prompt."""
        self._check_prompt(queue[0])
        if self.blocks is not None:
            state = self._opened(row, queue.popleft())
            with self.hook.region("prefill"):
                prompt, logits = self.blocks.read(state)
            return self._loaded(state, prompt, logits), logits
        with self.hook.region("prefill"):
            prompt, logits = self.prefill.pop_prompt(queue)
        return self.start(row, queue.popleft(), prompt, logits), logits

    def _check_prompt(self, request: Request) -> None:
        n_prompt = len(request.prompt_ids)
        if not 0 < n_prompt <= self.max_prompt_tokens:
            raise InvariantViolation(
                f"prompt of {request.problem_id!r} must have 1 to {self.max_prompt_tokens} tokens, got {n_prompt}"
            )
        limit, longest = self._limit(request), self.loaded.longest
        if longest is not None and n_prompt + limit > longest:
            raise DeclarationError(
                f"a text of this model may have {longest:,} positions, {request.problem_id!r} with its new tokens may reach "
                f"{n_prompt + limit:,}: lower max_new_tokens, or use max_total_tokens: {longest}"
            )

    def _limit(self, request: Request) -> int:
        """Return the most new tokens of a request; a text that is given has as many as it has."""
        limit = min(request.max_new_tokens or self.max_new_tokens, self.max_new_tokens)
        check_reference(request, self.decoding, limit, self.loaded.eos_ids)
        return limit if request.reference is None else len(request.reference)

    def start(self, row: int, request: Request, prompt: Prompt, logits: Tensor) -> RowState:
        """Load a prompt into a free row and choose its first token from the logits [1,V] after the prompt."""
        return self._loaded(self._opened(row, request), prompt, logits)

    def _opened(self, row: int, request: Request) -> RowState:
        """Return the state of a row before its prompt."""
        state = RowState(
            index=row,
            request=request,
            limit=self._limit(request),
            row_schedule=self.schedule.row_schedule(),
            account=self.ledger.open_account(len(request.prompt_ids)),
            controller=self.decoding.controller(self.loaded),
            uniforms=step_uniforms(request.stream, self.decoding.draws(self.max_new_tokens)),
            started_s=time.perf_counter(),
            log_prob=0.0 if self.decoding.samples > 1 else None,
            scores=TokenScores() if self.decoding.scores_tokens else None,
        )
        if self.mechanism.needs().foresight:
            state.future = self._look_ahead(request, state.limit)
        return state

    def _loaded(self, state: RowState, prompt: Prompt, logits: Tensor) -> RowState:
        """Load what is held of a row's prompt, cut if it is due, and choose the first token from the logits [1,V] after it."""
        row, request, kept = state.index, state.request, keep_all(prompt)
        if state.row_schedule.due(0, prompt.n_tokens, None):
            kept = self.compressor.cut_text(state, prompt, state.row_schedule.target())
            state.row_schedule.cut()
        self.cache.load(row, prompt, kept, key_integer(request.stream))
        self.in_flight[row] = state
        self._append_token(state, self.runner.choose_first(state, logits, self.hook), logits[0])
        state.plan_check()
        self.hook.on_start(state)
        return state

    def _look_ahead(self, request: Request, limit: int) -> Tensor:
        """Return what the text that the full cache wrote attends to, [L,H_kv,T+1,T]."""
        text = request.foreseen
        if text is None:
            text = full_cache_text(self.loaded, request.prompt_ids, limit, self.ends.ending)
        return future_attention(self.loaded, self.cache.geometry, self.prefill.owners, (*request.prompt_ids, *text))

    def _plan(self) -> int:
        """Return how many steps all rows can run before the host must look: none is due or full earlier."""
        # Bursts end, and free rows are filled, on a grid of steps: rows then tend to fall due together.
        to_grid = self._longest_burst - self.n_steps % self._longest_burst
        return max(1, min([to_grid, *[state.steps_until_look() for state in self.in_flight.values()]]))

    def _account(self, burst: Burst) -> None:
        """Record the steps in the accounts of the rows in flight, up to the end of each row's text."""
        blocks = self.ledger.pop_block()
        for state in self.in_flight.values():
            n_steps = burst.n_valid[state.index] if state.controller is None else 1
            state.add_steps(blocks[state.index, :, :n_steps])

    def _compress(self, burst: Burst) -> None:
        """Cut every row that is due."""
        signals = self._signals(burst) if self.mechanism.cadence.reads_signals else None
        checked = [state for state in self.in_flight.values() if state.step >= state.check_at]
        due = []
        for state in checked:
            signal = None if signals is None else signals[state.index]
            # Asked also while cuts are suspended: a schedule may have to see every step.
            if state.row_schedule.due(state.step, state.account.size, signal) and not state.hold:
                due.append(state)
        if due:
            with self.hook.region("events"):
                self.compressor.cut(due)
        for state in checked:
            state.plan_check()
        self.hook.on_compressed(self.in_flight.values())

    def _signals(self, burst: Burst) -> list[float] | None:
        """Return what the cadence tells the rows' schedules after the burst's last step, [B]."""
        cadence = self.mechanism.cadence
        observed = self.cache.observers.rows(slice(None)).narrowed(cadence.needs())
        signal = cadence.signal(StepSeen(burst.fed, burst.logits, observed, self.cache.positions, self.loaded))
        if signal is None:
            return None
        signals = [float(number) for number in signal.tolist()]
        self.hook.on_signals(self.in_flight.values(), signals)
        return signals

    def _append(self, burst: Burst) -> None:
        """Append the burst's tokens to the rows' texts."""
        for state in self.in_flight.values():
            self._append_burst(state, burst)

    def _append_burst(self, state: RowState, burst: Burst) -> None:
        row = state.index
        if state.forced:
            state.tokens.append(state.forced.popleft())
            state.hit_stop = self.ends.at_last(state)
            self.runner.next_tokens[row] = state.tokens[-1]
            return
        n_valid = burst.n_valid[row]
        state.n_draws += n_valid
        if state.log_prob is not None:
            state.log_prob += sum(burst.log_probs[row][:n_valid])
        if state.scores is not None:
            state.scores.add(burst.log_probs[row][:n_valid], burst.agrees[row][:n_valid])
        if state.controller is None:
            state.tokens += burst.tokens[row][:n_valid]
            state.hit_stop = row in burst.stopped
        else:
            self._append_token(state, burst.tokens[row][0], burst.logits[row])

    def _append_token(self, state: RowState, token: int, logits: Tensor) -> None:
        """Append a chosen token to the text, or what the row's controller makes of it; logits: [V]."""
        if state.controller is None:
            state.tokens.append(token)
            state.hit_stop = self.ends.at_last(state)
        else:
            self.steering.append(state, token, logits)
        self.runner.next_tokens[state.index] = state.tokens[-1]

    def _finish(self, state: RowState) -> Iterator[Generation]:
        """Yield a row's generation if its text has ended, and free the row."""
        reason = state.reason_to_end(self.loaded.eos_ids)
        if reason is not None:
            yield self.end(state, reason)

    def end(self, state: RowState, reason: str) -> Generation:
        """Free a row and return what it has become; reason: why its text ends, `stop` or `length`."""
        survival = prompt_survival(self.cache.positions[:, state.index], len(state.request.prompt_ids))
        self._retire(state)
        return state.generation(reason, survival)

    def _retire(self, state: RowState) -> None:
        del self.in_flight[state.index]
        self.cache.retire(state.index)


def _checked(loaded: LoadedModel, mechanism: Mechanism, artefacts: Mapping[str, Artefact]) -> Decoding:
    """Check that a mechanism can run on a model, and return its decoding."""
    if mechanism.decoding is None:
        raise DeclarationError(f"mechanism {mechanism.name!r} has no decoding strategy")
    missing = [name for name in mechanism.needs().calibrations if name not in artefacts]
    if missing:
        raise DeclarationError(f"mechanism {mechanism.name!r} needs calibration {missing[0]!r}")
    errors = mechanism.geometry_errors(loaded.geometry)
    if mechanism.needs().gates and (error := loaded.attention_inputs_error()) is not None:
        errors.append(error)
    if errors:
        raise DeclarationError(f"mechanism {mechanism.name!r}: {error}" for error in errors)
    mechanism.decoding.controller(loaded)  # refuses now, not at the first prompt, a tag that the tokenizer cannot write
    return mechanism.decoding
