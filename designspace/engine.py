"""Batched generation with a compressed cache: prefill, decode, events, continuous refill of rows.

Two promises, both tested: with fixed `rows` and `capacity` a row's tokens and ledger do not depend on its batch-mates, on
their order, or on when it was refilled; and nothing of a sample is left when its row is retired.

Why it holds: a prompt runs alone, padded to a bucket that depends on it alone; a decode step and an event chunk always have
the same shapes; randomness is a hash of what it is for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from designspace.attention import DecodePass, PrefillPass
from designspace.axes import Mechanism
from designspace.capacity import needed_capacity
from designspace.compress import Kept, compress, packing_order
from designspace.control import Action, StepSeen
from designspace.errors import DeclarationError, InvariantViolation
from designspace.generation import Checkpoint, Generation, Request, Row, finished
from designspace.ledger import Ledger, RowAccount
from designspace.models.calibration import Artefact
from designspace.models.loading import LoadedModel
from designspace.sampling import key_integer, step_uniforms
from designspace.schedule import Budget
from designspace.slots import Prompt, SlotCache
from designspace.view import Setting, View

__all__ = ["ENGINE_VERSION", "Engine", "Generation", "Request"]

ENGINE_VERSION = 2  # raised when the same declaration may give other tokens; part of a cell's identity
_BUCKET = 16  # prompts are padded to a multiple of this
_EVENT_ROWS = 16  # rows per event chunk where rows fall due at different steps


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
    ) -> None:
        """Allocate the cache for the longest prompt and generation.

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
        refusals = mechanism.refusals_on(loaded.geometry)
        if refusals:
            raise DeclarationError(f"mechanism {mechanism.name!r}: {reason}" for reason in refusals)
        self.loaded, self.mechanism, self.decoding = loaded, mechanism, mechanism.decoding
        self.decoding.controller(
            loaded
        )  # a tag that the tokenizer cannot write is refused now, not at the first prompt
        self.owners = self._cache_owners()
        self.schedule = mechanism.bind(budget, loaded.geometry, loaded.dtype, self.owners)
        self.rows, self.max_new_tokens, self.max_prompt_tokens = rows, max_new_tokens, max_prompt_tokens
        # Fixed for the run, so that an event's shapes never depend on how many rows are due. A cadence that cuts at
        # every step cuts all rows together.
        self.event_rows = rows if self.schedule.slack == 1 else min(_EVENT_ROWS, rows)
        self.capacity = capacity or self._needed_capacity()
        self.cache = self._new_cache()
        projection = loaded.output_projection() if needs.output_projection or needs.layer_cosine else None
        self._projection = projection
        self.setting = Setting(
            geometry=self.cache.geometry,
            width=self.cache.width,
            sinks=mechanism.scoring.sinks,
            recent=mechanism.scoring.recent,
            comparable_scores=mechanism.scoring.comparable,
            artefacts=self.artefacts,
            output_projection=None if projection is None else self.cache.geometry.held(projection),
        )
        self.ledger = Ledger(self.cache)
        self._in_flight: dict[int, Row] = {}

    def _cache_owners(self) -> tuple[int, ...] | None:
        """Return which layer's cache each layer reads: as the model was trained, or as the routing has it; None: its own."""
        trained = self.loaded.kv_owners
        routed = self.mechanism.head_routing.owners(self.loaded.geometry, self.artefacts)
        if trained is not None and routed is not None:
            raise DeclarationError(
                f"mechanism {self.mechanism.name!r}: head routing {self.mechanism.head_routing.kind!r} shares layers of a "
                "model whose layers share caches already"
            )
        return routed if trained is None else trained

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
        try:
            while queue or self._in_flight:
                yield from self._refill(queue)
                if self._in_flight:
                    yield from self._step()
        finally:
            for row in list(self._in_flight):  # an abandoned iteration must leave no row behind
                self._retire(row)

    def _refill(self, queue: deque[Request]) -> Iterator[Generation]:
        """Give every free row the next prompt. A generation may end with its first token."""
        for row in range(self.rows):
            while queue and row not in self._in_flight:
                request = queue.popleft()
                self._start(row, request)
                yield from self._finish_if_done(row)

    def _start(self, row: int, request: Request) -> None:
        n_prompt = len(request.prompt_ids)
        if not 0 < n_prompt <= self.max_prompt_tokens:
            raise InvariantViolation(
                f"prompt of {request.problem_id!r} must have 1 to {self.max_prompt_tokens} tokens, got {n_prompt}"
            )
        state = Row(
            request=request,
            uniforms=step_uniforms(request.stream, self.decoding.draws(self.max_new_tokens)),
            limit=min(request.max_new_tokens or self.max_new_tokens, self.max_new_tokens),
            started_s=time.perf_counter(),
            pacer=self.schedule.pacer(),
            controller=self.decoding.controller(self.loaded),
        )
        prompt, logits = self._prefill(request.prompt_ids)
        self.ledger.open(row)
        kept = self._everything(prompt)
        if state.pacer.due(0, prompt.n_tokens, None):
            kept = self._cut_text(row, state, prompt, state.pacer.target())
            state.pacer.cut()
        self.cache.load(row, prompt, kept, key_integer(request.stream))
        self._in_flight[row] = state
        uniform = torch.tensor([self._draw(state)], dtype=torch.float64, device=logits.device)
        first = self.decoding.choose(logits.float(), uniform)
        state.log_prob += self._log_probs(logits.float(), first)[0]
        self._take(row, state, int(first), logits[0])

    def _prefill(self, prompt_ids: tuple[int, ...]) -> tuple[Prompt, Tensor]:
        """Run one prompt alone; return its cache content and the logits [1,V] after its last token."""
        n_prompt = len(prompt_ids)
        padded = -(-n_prompt // _BUCKET) * _BUCKET
        device = self.loaded.device
        ids = torch.zeros(1, padded, dtype=torch.long, device=device)
        ids[0, :n_prompt] = torch.tensor(prompt_ids, device=device)
        needs = self.mechanism.needs()
        prefill = PrefillPass(needs, self.loaded.geometry, n_prompt, self.owners)
        output = self.loaded.model(
            input_ids=ids,
            position_ids=torch.arange(padded, device=device)[None],
            use_cache=False,
            logits_to_keep=torch.tensor([n_prompt - 1], device=device),
            slots=prefill,
            output_hidden_states=needs.layer_cosine,
        )
        if needs.layer_cosine and self._projection is not None:
            prefill.note_residuals(output.hidden_states, self._projection)
        return prefill.prompt(), output.logits[:, 0]

    def _everything(self, text: Prompt) -> Kept:
        """Return a packing that keeps a whole text."""
        held = text.positions >= 0
        return Kept(packing_order(held), held.sum(dim=-1), text.keys, text.values)

    def _cut_text(self, row: int, state: Row, text: Prompt, target: int) -> Kept:
        """Return what of a freshly encoded text is kept when it is cut to `target`."""
        device = text.positions.device
        memory = self.cache.memory
        view = View(
            setting=self.setting,
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

    def _step(self) -> Iterator[Generation]:
        """Feed one token per row, attend, cut the rows that are due, choose the next tokens."""
        tokens, logits = self._forward()
        self.ledger.record()
        for state in self._in_flight.values():
            state.step += 1
            state.n_steps += 1
        self._compress_due(tokens, logits)
        self._choose(logits)
        for row in list(self._in_flight):
            yield from self._finish_if_done(row)

    def _forward(self) -> tuple[Tensor, Tensor]:
        """Feed each row its next token; return the tokens [B] and the logits [B,V] float32 after them."""
        fed = torch.zeros(self.rows, dtype=torch.long)
        for row, state in self._in_flight.items():
            fed[row] = state.tokens[-1]
        fed = fed.to(self.loaded.device)
        self.cache.begin_step()
        output = self.loaded.model(
            input_ids=fed[:, None],
            position_ids=self.cache.next_position[:, None],
            use_cache=False,
            slots=DecodePass(self.cache),
        )
        self.cache.end_step()
        return fed, output.logits[:, -1].float()

    def _compress_due(self, tokens: Tensor, logits: Tensor) -> None:
        """Cut every row that is due, in chunks of fixed shape."""
        signals = self._signals(tokens, logits)
        due = []
        for row, state in self._in_flight.items():
            signal = None if signals is None else signals[row]
            # Asked also while on hold: a pacer may have to see every step.
            is_due = state.pacer.due(state.step, self.ledger.accounts[row].size, signal)
            if is_due and not state.hold:
                due.append(row)
        for start in range(0, len(due), self.event_rows):
            self._event(due[start : start + self.event_rows])

    def _signals(self, tokens: Tensor, logits: Tensor) -> list[float] | None:
        observed = self.cache.observers.rows(slice(None)).narrowed(self.mechanism.cadence.needs())
        signal = self.mechanism.cadence.signal(StepSeen(tokens, logits, observed, self.cache.positions, self.loaded))
        return None if signal is None else [float(number) for number in signal.tolist()]

    def _event(self, rows: list[int]) -> None:
        """Cut `rows`; the chunk is filled up by repeating the first row, whose extra copies are ignored."""
        device, n = self.loaded.device, len(rows)
        padded = torch.tensor(rows + rows[:1] * (self.event_rows - n), device=device)
        states = [self._in_flight[row] for row in rows]
        targets = [state.pacer.target() for state in states]
        target = torch.tensor(targets + targets[:1] * (self.event_rows - n), device=device)
        view = self.cache.view(padded, self.setting, target)
        kept = compress(self.mechanism, view)
        self._apply(rows, padded, view, kept)
        for state in states:
            state.pacer.cut()

    def _apply(self, rows: list[int], padded: Tensor, view: View, kept: Kept) -> None:
        """Carry out a cut and charge it; what a checkpoint would bring back stays on the row's account."""
        evicted = (view.counts - kept.counts).sum(dim=(0, 2)).tolist()
        self.cache.compact(padded, view, kept)
        for row, n_evicted in zip(rows, evicted, strict=False):
            self.ledger.accounts[row].event(self._in_flight[row].n_steps, n_evicted)
            saved = self._in_flight[row].checkpoint
            if saved is not None:
                self._charge_spare(row, saved)

    def _charge_spare(self, row: int, saved: Checkpoint) -> None:
        """Charge what a checkpoint holds and the slots no longer do, at the mean bytes of what it holds."""
        positions, account = self.cache.positions[:, row], self.ledger.accounts[row]
        still_held = int(((positions >= 0) & (positions < saved.cache.next_position)).sum())
        account.spare_tokens = saved.n_tokens - still_held
        account.spare_bytes = -(-saved.n_bytes * account.spare_tokens // max(saved.n_tokens, 1))

    def _choose(self, logits: Tensor) -> None:
        """Choose each row's next token, or take the one that is forced."""
        uniforms, heat = torch.zeros(self.rows, dtype=torch.float64), torch.ones(self.rows)
        for row, state in self._in_flight.items():
            uniforms[row], heat[row] = 0.0 if state.forced else self._draw(state), state.heat
        tokens = self.decoding.choose(logits / heat[:, None].to(logits.device), uniforms.to(logits.device))
        chosen, log_probs = tokens.tolist(), self._log_probs(logits, tokens)
        for row, state in self._in_flight.items():
            if state.forced:
                state.tokens.append(state.forced.popleft())
            else:
                state.log_prob += log_probs[row]
                self._take(row, state, chosen[row], logits[row])

    def _log_probs(self, logits: Tensor, tokens: Tensor) -> list[float]:
        """Return the model's own log-probabilities of tokens [B], zeros where no samples are compared by them."""
        if self.decoding.samples == 1:
            return [0.0] * len(tokens)
        # In float64, as sums over a whole text are compared to the last bit.
        return torch.softmax(logits.double(), dim=-1).gather(-1, tokens[:, None])[:, 0].log().tolist()

    def _draw(self, state: Row) -> float:
        """Return the row's next random number; past the last one the generation ends anyway."""
        if state.n_draws == len(state.uniforms):
            return 0.0
        state.n_draws += 1
        return float(state.uniforms[state.n_draws - 1])

    def _take(self, row: int, state: Row, token: int, logits: Tensor) -> None:
        """Put a chosen token into the text, as the row's controller has it; logits: [V] float32."""
        if state.controller is None:
            state.tokens.append(token)
            return
        action = state.controller.on_token(token, float(torch.softmax(logits.float(), dim=-1).amax()))
        if action.heat is not None:
            state.heat = action.heat
        if action.rollback:
            self._roll_back(row, state)
            return
        state.tokens.append(action.tokens[0])
        state.forced.extend(action.tokens[1:])
        if self._reason_to_end(state) is None:  # a text that ends here needs its cache no more
            self._steer_cache(row, state, action)

    def _steer_cache(self, row: int, state: Row, action: Action) -> None:
        start = len(state.request.prompt_ids)
        if action.hold is not None:
            state.hold = action.hold
        if action.pin is not None:
            self.cache.pinned[row, start + action.pin[0] : start + action.pin[1]] = True
        if action.drop is not None:
            self._drop(row, start + action.drop[0], start + action.drop[1])
        if action.refresh:
            self._refresh(row, state)
        if action.checkpoint:
            account = self.ledger.accounts[row]
            account.spare_tokens = account.spare_bytes = 0
            state.checkpoint = self._checkpoint(row, state)

    def _checkpoint(self, row: int, state: Row) -> Checkpoint:
        return Checkpoint(
            cache=self.cache.snapshot(row),
            tokens=tuple(state.tokens),
            forced=tuple(state.forced),
            pacer=state.pacer.copy(),
            step=state.step,
            hold=state.hold,
            n_tokens=int(self.cache.counts[:, row].sum()),
            n_bytes=int(self.cache.held_bytes()[row]),
        )

    def _roll_back(self, row: int, state: Row) -> None:
        """Return to the last checkpoint; what was spent since stays on the account."""
        if state.checkpoint is None:
            raise InvariantViolation(f"decoding {self.decoding.kind!r} rolled back without a checkpoint")
        saved, account = state.checkpoint, self.ledger.accounts[row]
        self.cache.restore(row, saved.cache)
        state.tokens, state.pacer, state.step = list(saved.tokens), saved.pacer.copy(), saved.step
        state.forced, state.hold = deque(saved.forced), saved.hold
        account.spare_tokens = account.spare_bytes = 0

    def _drop(self, row: int, start: int, stop: int) -> None:
        """Free the slots of positions start … stop-1 in one row, in whatever heads hold them."""
        rows = torch.tensor([row], device=self.loaded.device)
        view = self.cache.view(rows, self.setting, torch.zeros_like(rows))
        keep = view.valid & ((view.positions < start) | (view.positions >= stop))
        kept = Kept(packing_order(keep), keep.sum(dim=-1), view.keys, view.values, view.mass, view.memory)
        self._apply([row], rows, view, kept)

    def _refresh(self, row: int, state: Row) -> None:
        """Encode prompt and text anew, up to the token that comes next, and cut it to what the row holds now.

        So the cadence goes on as if nothing had happened: its sizes, and the mean that its budget asks for, stay.
        """
        fed = (*state.request.prompt_ids, *state.tokens[:-1])
        text, _ = self._prefill(fed)
        self.ledger.accounts[row].reencoded(len(fed))
        whole = text.keys[..., : text.n_tokens, :].nbytes + text.values[..., : text.n_tokens, :].nbytes
        state.reencoded_bytes = max(state.reencoded_bytes, whole)
        size = -(-int(self.cache.counts[:, row].sum()) // self.cache.geometry.n_heads_total)
        kept = self._everything(text) if size >= len(fed) else self._cut_text(row, state, text, size)
        self.cache.reload(row, text, kept)

    def _finish_if_done(self, row: int) -> Iterator[Generation]:
        state = self._in_flight[row]
        reason = self._reason_to_end(state)
        if reason is not None:
            account = self._retire(row)
            mean_log_prob = state.log_prob / len(state.tokens) if self.decoding.samples > 1 else None
            yield finished(state, account, reason, mean_log_prob)

    def _reason_to_end(self, state: Row) -> str | None:
        if state.tokens[-1] in self.loaded.eos_ids:
            return "stop"
        return "length" if len(state.tokens) >= state.limit else None

    def _retire(self, row: int) -> RowAccount:
        del self._in_flight[row]
        self.cache.retire(row)
        return self.ledger.close(row)
