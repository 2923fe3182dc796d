"""Batched generation with a compressed cache: prefill, decode, events, continuous refill of rows.

Two promises, both tested: with fixed `rows` and `capacity` a row's tokens and ledger do not depend on its batch-mates, on
their order, or on when it was refilled; and nothing of a sample is left when its row is retired.

Why it holds: a prompt's pass, a decode step and an event chunk always have the same shapes, whoever else is in them (see
`designspace.engine.prefill` for prompts); randomness is a hash of what it is for.

Why it is fast: when a row is due follows from its size, so the rows run in bursts of steps up to the next event, and the
host looks at tokens and counts once per burst. Only rows that are steered by their text or by signals are watched step by step.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from designspace.axes import Artefact, Budget, Cadence, Generation, Mechanism, Request, RunContext, StepSeen, View
from designspace.axes.randomness import key_integer, step_uniforms
from designspace.cache.packing import CompressionResult, Prompt, keep_all
from designspace.cache.slots import SlotCache
from designspace.engine.capacity import cache_owners, needed_capacity
from designspace.engine.compress import compress
from designspace.engine.decode_step import StepKind, decode_step
from designspace.engine.ledger import Ledger, RowAccount
from designspace.engine.prefill import Prefill
from designspace.engine.row import Row, finished
from designspace.engine.steering import Steering
from designspace.errors import DeclarationError, InvariantViolation
from designspace.models.loading import LoadedModel

__all__ = ["ENGINE_VERSION", "Engine", "Generation", "Request"]

ENGINE_VERSION = 5  # raised when the same declaration may give other tokens; part of a cell's identity
_FEWEST_EVENT_ROWS, _MOST_EVENT_ROWS = 4, 8  # per chunk, where rows fall due at different steps
_LONGEST_BURST = 16  # steps; a row that ends within a burst idles to its end
_BURSTS_PER_TEXT = 128


class Burst(NamedTuple):
    """Some consecutive decode steps of all rows, as the host sees them afterwards.

    tokens: [B][n] chosen ids. n_taken: [B], steps up to and with the end of a row's text. log_probs: [B][n].
    logits: [B,V] of the last step, on the device.
    """

    tokens: list[list[int]]
    n_taken: list[int]
    log_probs: list[list[float]]
    logits: Tensor


class Engine:
    """Runs one mechanism at one budget on one model, `rows` generations at a time."""

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
    ) -> None:
        """Allocate the cache for the longest prompt and generation.

        step: see `designspace.engine.decode_step`. burst: the most decode steps between two looks of the host; it moves speed alone.

        Raises:
            DeclarationError: the mechanism cannot run here (budget, calibration, decoding or the model's geometry).
            ModelError: the decoding needs text that the model's tokenizer cannot write.
        """
        if mechanism.decoding is None:
            raise DeclarationError(f"mechanism {mechanism.name!r} has no decoding strategy")
        needs, self.artefacts = mechanism.needs(), artefacts or {}
        missing = [name for name in needs.calibrations if name not in self.artefacts]
        if missing:
            raise DeclarationError(f"mechanism {mechanism.name!r} needs calibration {missing[0]!r}")
        composition_errors = mechanism.geometry_errors(loaded.geometry)
        if composition_errors:
            raise DeclarationError(f"mechanism {mechanism.name!r}: {reason}" for reason in composition_errors)
        self.loaded, self.mechanism, self.decoding = loaded, mechanism, mechanism.decoding
        self.decoding.controller(loaded)  # refuses now, not at the first prompt, a tag that the tokenizer cannot write
        self.owners = cache_owners(loaded, mechanism, self.artefacts)
        self.schedule = mechanism.bind(budget, loaded.geometry, loaded.dtype, self.owners)
        self.rows, self.max_new_tokens, self.max_prompt_tokens = rows, max_new_tokens, max_prompt_tokens
        self._burst = burst or usual_burst(max_new_tokens)
        self.event_rows = event_rows(rows, self.schedule.max_growth, usual_burst(max_new_tokens))
        self.capacity = capacity or self._needed_capacity()
        self.cache = self._new_cache()
        projection = loaded.output_projection() if needs.output_projection or needs.layer_cosine else None
        self.prefill = Prefill(loaded, needs, self.owners, projection)
        self.context = RunContext(
            geometry=self.cache.geometry,
            width=self.cache.width,
            sinks=mechanism.scoring.sinks,
            recent=mechanism.scoring.n_recent(self.schedule.low),
            comparable_scores=mechanism.scoring.comparable,
            artefacts=self.artefacts,
            output_projection=None if projection is None else self.cache.geometry.held(projection),
        )
        self.ledger = Ledger(self.cache)
        self.n_steps = 0  # of the whole batch, in the engine's life
        self._feed = decode_step(loaded, self.cache, step)
        self._fed = torch.zeros(rows, dtype=torch.long, device=loaded.device)
        self._eos = np.array(sorted(loaded.eos_ids), dtype=np.int64)
        self._signalled = type(mechanism.cadence).signal is not Cadence.signal
        self.steering = Steering(self)
        self._in_flight: dict[int, Row] = {}

    def _needed_capacity(self) -> int:
        geometry = self.loaded.geometry
        return needed_capacity(
            self.mechanism,
            self.schedule,
            geometry if self.owners is None else geometry.owning(self.owners),
            max_prompt_tokens=self.max_prompt_tokens,
            max_new_tokens=self.max_new_tokens,
        )

    def _new_cache(self) -> SlotCache:
        return SlotCache(
            self.loaded.geometry,
            self.mechanism.representation,
            self.mechanism.needs(),
            rows=self.rows,
            capacity=self.capacity,
            dtype=self.loaded.dtype,
            device=self.loaded.device,
            width=self.max_prompt_tokens + self.max_new_tokens,
            owners=self.owners,
            artefacts=self.artefacts,
        )

    @torch.inference_mode()
    def generate(self, requests: Iterable[Request]) -> Iterator[Generation]:
        """Yield generations as they finish; the order of finishing, not of asking."""
        queue = deque(requests)
        self.prefill.announce(queue)
        try:
            while queue or self._in_flight:
                yield from self._refill(queue)
                if self._in_flight:
                    yield from self._decode()
        finally:
            for row in list(self._in_flight):  # an abandoned iteration must leave no row behind
                self._retire(row)
            self.prefill.forget()

    def _refill(self, queue: deque[Request]) -> Iterator[Generation]:
        """Give every free row the next prompt. A generation may end with its first token."""
        for row in range(self.rows):
            while queue and row not in self._in_flight:
                request = queue[0]
                self._check_prompt(request)
                prompt, logits = self.prefill.take(queue)
                queue.popleft()
                self._start(row, request, prompt, logits)
                yield from self._finish_if_done(row)

    def _check_prompt(self, request: Request) -> None:
        n_prompt = len(request.prompt_ids)
        if not 0 < n_prompt <= self.max_prompt_tokens:
            raise InvariantViolation(
                f"prompt of {request.problem_id!r} must have 1 to {self.max_prompt_tokens} tokens, got {n_prompt}"
            )

    def _start(self, row: int, request: Request, prompt: Prompt, logits: Tensor) -> None:
        """Load a prompt into a row and choose the first token from logits [1,V]."""
        state = Row(
            request=request,
            uniforms=step_uniforms(request.stream, self.decoding.draws(self.max_new_tokens)),
            limit=min(request.max_new_tokens or self.max_new_tokens, self.max_new_tokens),
            started_s=time.perf_counter(),
            row_schedule=self.schedule.row_schedule(),
            controller=self.decoding.controller(self.loaded),
        )
        self.ledger.open(row, prompt.n_tokens)
        kept = keep_all(prompt)
        if state.row_schedule.due(0, prompt.n_tokens, None):
            kept = self.cut_text(row, state, prompt, state.row_schedule.target())
            state.row_schedule.cut()
        self.cache.load(row, prompt, kept, key_integer(request.stream))
        self._in_flight[row] = state
        uniform = torch.tensor([state.draw()], dtype=torch.float64, device=logits.device)
        first = self.decoding.choose(logits.float(), uniform)
        if self.decoding.samples > 1:
            state.log_prob += float(log_probs(logits.float(), first))
        self._take(row, state, int(first), logits[0])
        self._fed[row] = state.tokens[-1]
        self._plan(row, state)

    def _plan(self, row: int, state: Row) -> None:
        """Note at which step the row's pacer has to be asked again: at the next one where a controller may change its size."""
        if state.controller is not None:
            state.ask_at = state.step + 1
            return
        size, horizon = self.ledger.accounts[row].size, max(state.limit - len(state.tokens), 1)
        state.ask_at = state.step + state.row_schedule.steps_until_due(state.step, size, horizon)

    def cut_text(self, row: int, state: Row, text: Prompt, target: int) -> CompressionResult:
        """Return what of a freshly encoded text is kept when it is cut to `target`."""
        device = text.positions.device
        memory = self.cache.memory
        view = View(
            context=self.context,
            keys=text.keys,
            values=text.values,
            positions=text.positions,
            next_position=torch.tensor([text.n_tokens], device=device),
            streams=torch.tensor([key_integer(state.request.stream)], device=device),
            target=torch.tensor([target], device=device),
            n_prompt_tokens=torch.tensor([len(state.request.prompt_ids)], device=device),
            observed=text.observed,
            pinned=self.cache.pinned[row : row + 1],
            mass=None if self.cache.mass is None else torch.ones_like(text.positions),
            memory=None if memory is None else torch.zeros_like(memory[:, :1]),
        )
        kept = compress(self.mechanism, view)
        self.ledger.accounts[row].event(state.n_steps, int(view.counts.sum() - kept.counts.sum()))
        return kept

    def _decode(self) -> Iterator[Generation]:
        """Run one burst of steps, cut the rows that are due, take the tokens in, retire what has ended."""
        fed = self._fed
        burst = self._run(self._burst_steps())
        self._account(burst)
        self._compress_due(burst, fed)
        for row, state in self._in_flight.items():
            self._append_burst(row, state, burst)
        for row in [row for row, state in self._in_flight.items() if self.reason_to_end(state)]:
            yield from self._finish_if_done(row)

    def _burst_steps(self) -> int:
        """Return how many steps all rows can run before the host must look: none is due or full earlier."""
        # Bursts end, and free rows are filled, on a grid of steps: rows then tend to fall due together.
        steps = self._burst - self.n_steps % self._burst
        for state in self._in_flight.values():
            steps = 1 if state.controller else min(steps, state.ask_at - state.step, state.limit - len(state.tokens))
        return max(steps, 1)

    def _run(self, n_steps: int) -> Burst:
        """Run decode steps: feed, attend, choose. The host waits for nothing before the last one."""
        self.cache.check_room(n_steps)
        uniforms, temperature_scale = self._uniforms(n_steps), self._temperature_scales()
        fed, chosen, likely = self._fed, [], []
        for step in range(n_steps):
            self.cache.begin_step()
            logits = self._feed(fed)
            self.cache.end_step()
            self.ledger.note_step()
            fed = self.decoding.choose(
                logits if temperature_scale is None else logits / temperature_scale, uniforms[step]
            )
            chosen.append(fed)
            if self.decoding.samples > 1:
                likely.append(log_probs(logits, fed))
        self.n_steps += n_steps
        self._fed = fed
        tokens = torch.stack(chosen).cpu().numpy()  # [n,B]
        ends = np.isin(tokens, self._eos)
        n_taken = np.where(ends.any(axis=0), ends.argmax(axis=0) + 1, n_steps)
        return Burst(tokens.T.tolist(), n_taken.tolist(), torch.stack(likely).T.tolist() if likely else [], logits)

    def _uniforms(self, n_steps: int) -> Tensor:
        """Return the rows' next random numbers [n,B] float64; a forced token uses none."""
        numbers = np.zeros((n_steps, self.rows))
        if self.decoding.draws(n_steps) == 0:
            return torch.from_numpy(numbers).to(self.loaded.device)
        for row, state in self._in_flight.items():
            if len(state.uniforms) and not state.forced:
                drawn = state.uniforms[state.n_draws : state.n_draws + n_steps]
                numbers[: len(drawn), row] = drawn
        return torch.from_numpy(numbers).to(self.loaded.device)

    def _temperature_scales(self) -> Tensor | None:
        """Return what divides the rows' logits [B,1], None where nothing is steered that far."""
        if all(state.temperature_scale == 1.0 for state in self._in_flight.values()):
            return None
        temperature_scale = torch.ones(self.rows, 1)
        for row, state in self._in_flight.items():
            temperature_scale[row] = state.temperature_scale
        return temperature_scale.to(self.loaded.device)

    def _account(self, burst: Burst) -> None:
        """Write the steps into the accounts of the rows in flight, up to the end of each row's text."""
        columns = self.ledger.block()
        for row, state in self._in_flight.items():
            n = 1 if state.controller else burst.n_taken[row]
            self.ledger.accounts[row].steps(columns[row, :, :n])
            state.step += n
            state.n_steps += n

    def _compress_due(self, burst: Burst, fed: Tensor) -> None:
        """Cut every row that is due, in chunks of fixed shape. fed: [B], what a burst of a single step was fed."""
        signals = self._signals(fed, burst.logits) if self._signalled else None
        due, asked = [], []
        for row, state in self._in_flight.items():
            if state.step < state.ask_at:
                continue
            asked.append(row)
            # Asked also while on hold: a pacer may have to see every step.
            signal = None if signals is None else signals[row]
            if state.row_schedule.due(state.step, self.ledger.accounts[row].size, signal) and not state.hold:
                due.append(row)
        for start in range(0, len(due), self.event_rows):
            self._event(due[start : start + self.event_rows])
        for row in asked:
            self._plan(row, self._in_flight[row])

    def _signals(self, fed: Tensor, logits: Tensor) -> list[float] | None:
        observed = self.cache.observers.rows(slice(None)).narrowed(self.mechanism.cadence.needs())
        signal = self.mechanism.cadence.signal(StepSeen(fed, logits, observed, self.cache.positions, self.loaded))
        return None if signal is None else [float(number) for number in signal.tolist()]

    def _event(self, rows: list[int]) -> None:
        """Cut `rows`; the chunk is filled up by repeating the first row, whose extra copies are ignored."""
        device, n = self.loaded.device, len(rows)
        padded = torch.tensor(rows + rows[:1] * (self.event_rows - n), device=device)
        states = [self._in_flight[row] for row in rows]
        targets = [state.row_schedule.target() for state in states]
        target = torch.tensor(targets + targets[:1] * (self.event_rows - n), device=device)
        view = self.cache.view(padded, self.context, target)
        kept = compress(self.mechanism, view)
        self.apply(rows, padded, view, kept)
        for state in states:
            state.row_schedule.cut()

    def apply(self, rows: list[int], padded: Tensor, view: View, kept: CompressionResult) -> None:
        """Carry out a cut and charge it; what a checkpoint would bring back stays on the row's account."""
        evicted = (view.counts - kept.counts).sum(dim=(0, 2)).tolist()
        self.cache.compact(padded, len(rows), view, kept)
        for row, n_evicted in zip(rows, evicted, strict=False):
            self.ledger.accounts[row].event(self._in_flight[row].n_steps, n_evicted)
            self.steering.charge_spare(row, self._in_flight[row])

    def _append_burst(self, row: int, state: Row, burst: Burst) -> None:
        """Put a burst's tokens into a row's text."""
        if state.forced:
            state.tokens.append(state.forced.popleft())
            self._fed[row] = state.tokens[-1]
            return
        n = burst.n_taken[row]
        state.n_draws += n
        if burst.log_probs:
            state.log_prob += sum(burst.log_probs[row][:n])
        if state.controller is None:
            state.tokens += burst.tokens[row][:n]
            return
        self._take(row, state, burst.tokens[row][0], burst.logits[row])
        self._fed[row] = state.tokens[-1]

    def _take(self, row: int, state: Row, token: int, logits: Tensor) -> None:
        """Put a chosen token into the text, as the row's controller has it; logits: [V]."""
        if state.controller is None:
            state.tokens.append(token)
        else:
            self.steering.take(row, state, token, logits)

    def _finish_if_done(self, row: int) -> Iterator[Generation]:
        state = self._in_flight[row]
        reason = self.reason_to_end(state)
        if reason is not None:
            account = self._retire(row)
            mean_log_prob = state.log_prob / len(state.tokens) if self.decoding.samples > 1 else None
            yield finished(state, account, reason, mean_log_prob)

    def reason_to_end(self, state: Row) -> str | None:
        """Return why a text ends with its last token: `stop`, `length`, or None if it does not."""
        if state.tokens[-1] in self.loaded.eos_ids:
            return "stop"
        return "length" if len(state.tokens) >= state.limit else None

    def _retire(self, row: int) -> RowAccount:
        del self._in_flight[row]
        self.cache.retire(row)
        return self.ledger.close(row)


def usual_burst(max_new_tokens: int) -> int:
    """Return the most decode steps between two looks of the host, for texts of this length."""
    return max(1, min(_LONGEST_BURST, max_new_tokens // _BURSTS_PER_TEXT))


def event_rows(rows: int, max_growth: int, burst: int) -> int:
    """Return how many rows an event cuts together: about as many as fall due at once when their starts are spread.

    Fixed for a run, so that an event's shapes never depend on how many rows are due. A cadence that cuts at every step cuts
    all rows together.
    """
    if max_growth == 1:
        return rows
    expected = 2 ** math.ceil(math.log2(max(rows * burst / max(max_growth, 1), 1)))
    return min(rows, max(_FEWEST_EVENT_ROWS, min(_MOST_EVENT_ROWS, expected)))


def log_probs(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the model's own log-probabilities of tokens [B] under logits [B,V].

    In float64, as sums over a whole text are compared to the last bit.
    """
    return torch.softmax(logits.double(), dim=-1).gather(-1, tokens[:, None])[:, 0].log()
