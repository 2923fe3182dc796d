"""How much memory an arm takes, before anything is allocated: a bounded cache has fixed slots, so it can be known.

    total(B) = weights + cache(B) + workspace(B)                                                    for B rows
    workspace(B) = max(model(B) + max(step(B), choice(B)), logits(B) + max(event(E), prompts)) + waiting + known(B) + kept(B)

* weights: those of the configuration, and what is derived from them; the bytes that they have quantised, if they are, and then
  the workspace has room for the largest layer's in the model's type, which it is turned into when it runs.
* cache: the tensors of a `SlotCache` on the meta device, with the capacity that the engine gives it.
* model: one token of every row through the model on the meta device, attention left out, up to the logits.
* step: one decode step of cache and attention. choice: of tokens from logits [B,V], in as many copies as the decoding makes.
* event: read, decide and move the E rows of one chunk: all rows where a cadence cuts at every step.
* prompts: the longest ones through the model on the meta device, as many as run together, with their keys and values
  stacked; or one's own event, or its load into a row. waiting: those that were encoded ahead, or are asked for again.
* known: where foresight is needed, a square of the longest text per row and head; where sentences are, two copies of what
  a row knows of its text, as long as sentences have 8 tokens on average. A text with shorter ones takes more.
* kept: a row of attention logits per query head for kernels; and where a decoding steers a copy of every row, as it may set
  checkpoints, and then the longest prompt is a whole text, as it may encode that anew.

Steps, events and loads run for real, on a probe cache of one or two rows and up to four layers on the CPU whose live bytes
are counted. They grow linearly with rows and layers, with slots along a line or a parabola. So whatever a strategy allocates
in an event is in the sum, and no strategy has to say how much that is. Everything depends on the declaration alone, not on
the machine; `designspace.memory.batch_rows.SHARE` leaves room for what an allocator adds, and operators inside themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch

from designspace.axes import Artefact, Budget, Mechanism
from designspace.cache.sentence_log import MOST_SPARE
from designspace.engine.burst import usual_burst
from designspace.engine.cache_plan import CachePlan
from designspace.engine.compressor import event_rows
from designspace.engine.prefill import bucket, prompts_kept
from designspace.engine.repetition import penalised
from designspace.memory.extrapolation import extrapolate_linear, extrapolate_quadratic
from designspace.memory.forward_bytes import PromptBytes, decode_bytes, prompt_bytes, stream_bytes
from designspace.memory.live_bytes import peak_bytes
from designspace.memory.probe_cache import ProbeCache
from designspace.models.free_memory import bytes_text
from designspace.models.loading import LoadedModel
from designspace.models.skeleton import copied_bytes, skeleton_of, weight_bytes

_ROWS, _LAYERS, _SLOTS = (1, 2), (2, 4), (128, 256, 384)  # at which probe caches are measured
_SIGNAL_COPIES = 3  # of the logits, where a cadence looks at them
_SENTENCE_TOKENS = 8  # the fewest on average that memory is planned for; lines of a reasoning text have some 20
_LEDGER_BYTES = 64  # per row, head and step of a burst: counts, and some of their 64-bit products


@dataclass(frozen=True)
class Footprint:
    """Bytes of one arm on one model: weights, allocated cache, and other tensors at the worst moment."""

    weights: int
    cache: int
    workspace: int

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return self.weights + self.cache + self.workspace

    def __str__(self) -> str:
        """Return the parts in words."""
        named = (self.cache, "cache"), (self.workspace, "workspace"), (self.weights, "weights")
        return " + ".join(f"{bytes_text(n_bytes)} {what}" for n_bytes, what in named)


class ArmMemory:
    """One mechanism at one budget on one model; `at(rows)` is its footprint.

    The model may be a skeleton; a loaded one is asked for its shape only.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        mechanism: Mechanism,
        budget: Budget | None,
        *,
        max_new_tokens: int,
        max_prompt_tokens: int,
        artefacts: Mapping[str, Artefact] | None = None,
        n_prompts: int | None = None,
        prefill_chunk: int | None = None,
    ) -> None:
        """The arguments are the engine's, without `rows`. `n_prompts`: how many different ones there are, None: any number.

        Raises:
            DeclarationError: the budget does not fit the mechanism.
        """
        self.skeleton, self.mechanism, self.needs = skeleton_of(loaded), mechanism, mechanism.needs()
        self.artefacts = artefacts or {}
        self.max_new_tokens, self.max_prompt_tokens, self.prefill_chunk = (
            max_new_tokens,
            max_prompt_tokens,
            prefill_chunk,
        )
        self.plan = CachePlan.of(
            self.skeleton,
            mechanism,
            budget,
            max_prompt_tokens=max_prompt_tokens,
            max_new_tokens=max_new_tokens,
            artefacts=self.artefacts,
        )
        self.schedule, self.capacity, self.geometry = self.plan.schedule, self.plan.capacity, self.plan.cache_geometry
        # One more than wait on purpose: a prompt that waits may keep the logits of its whole pass alive.
        most = prompts_kept(bucket(max_prompt_tokens))
        self._most_waiting = 1 + (most if n_prompts is None else min(most, n_prompts))
        self._probes: dict[tuple[object, ...], int] = {}

    def at(self, rows: int) -> Footprint:
        """Return the footprint with so many rows in a batch."""
        return Footprint(self.weights, self.cache(rows), self.workspace(rows))

    @cached_property
    def weights(self) -> int:
        """Weights, calibrations, and the copy of the output projections that some strategies read."""
        total = weight_bytes(self.skeleton)
        total += sum(tensor.nbytes for artefact in self.artefacts.values() for tensor in artefact.tensors.values())
        if self.plan.reads_projection:
            total += self.skeleton.output_projection().nbytes
        return total

    def cache(self, rows: int) -> int:
        """Return the bytes of all tensors that a slot cache of so many rows allocates."""
        try:
            return self._allocated(rows, torch.device("meta"))
        except RuntimeError:  # a store that looks at its calibration's numbers, which the meta device does not have
            return extrapolate_linear(lambda n: self._allocated(n, torch.device("cpu")), rows, _ROWS)

    def _allocated(self, rows: int, device: torch.device) -> int:
        cache = self.plan.allocate(rows, device)
        return cache.store.allocated_bytes() + _tensor_bytes(cache) + _tensor_bytes(cache.observers)

    def workspace(self, rows: int) -> int:
        """Return the bytes of tensors other than weights and cache at the worst moment."""
        logits = 4 * rows * self._vocabulary
        signals = _SIGNAL_COPIES * logits if self.mechanism.cadence.reads_signals else 0
        decode = extrapolate_linear(lambda n: decode_bytes(self.skeleton, n), rows, _ROWS)
        decode += stream_bytes(self.skeleton, rows) if self.needs.hidden_states else 0
        stages = (
            decode + max(self._step(rows), self._choice(rows), signals) + self._ledger(rows),
            logits + self._event(rows),
            logits + self._prompt,
        )
        waiting = self._most_waiting * self._prompts.each
        # A fused kernel hands out one row of attention weights per query head where they are observed.
        weights = 4 * rows * self.skeleton.geometry.n_query_heads * self.capacity
        kept = self.cache(rows) if self._steers else 0
        known = self._foresight(rows) + self._sentences(rows) + self._repetition(rows)
        return max(stages) + waiting + weights + kept + known + copied_bytes(self.skeleton)

    def _repetition(self, rows: int) -> int:
        """Return the bytes of which tokens rows have seen, where those are penalised."""
        decoding = self.mechanism.decoding
        return 0 if decoding is None or decoding.repetition_penalty == 1.0 else rows * self._vocabulary

    def _foresight(self, rows: int) -> int:
        """Return the bytes of what rows know of their texts, and of three more such tensors while one is made."""
        if not self.needs.foresight:
            return 0
        longest = self.max_prompt_tokens + self.max_new_tokens
        return 4 * self.geometry.n_heads_total * longest * (longest + 1) * (rows + 3)

    def _sentences(self, rows: int) -> int:
        """Return the bytes of what rows know of their sentences, and of as much again while there is room made for more."""
        if not self.needs.sentences:
            return 0
        n_sentences = (self.max_prompt_tokens + self.max_new_tokens) // _SENTENCE_TOKENS + MOST_SPARE
        return 2 * rows * n_sentences * (4 * int(self.skeleton.model.config.hidden_size) + 8)

    @property
    def _burst(self) -> int:
        return usual_burst(self.max_new_tokens)

    @property
    def _vocabulary(self) -> int:
        return int(self.skeleton.model.config.vocab_size)

    @property
    def _steers(self) -> bool:
        return self.mechanism.decoding is not None and self.mechanism.decoding.steers

    @property
    def _cuts_while_decoding(self) -> bool:
        if not self.mechanism.cadence.compresses:
            return False
        if self.schedule.row_schedule().sees_every_step:
            return True  # goes by signals that are not known yet
        steps = torch.arange(1, self.max_new_tokens + 1)
        sizes = torch.full_like(steps, self.capacity - 1)
        return any(
            bool(torch.as_tensor(self.schedule.due(steps, sizes, torch.full_like(steps, n))).any()) for n in (0, 1)
        )

    def _choice(self, rows: int) -> int:
        decoding = self.mechanism.decoding
        if decoding is None:
            return 0

        def measured(n_rows: int) -> int:
            logits, uniforms = torch.zeros(n_rows, self._vocabulary), torch.zeros(n_rows, dtype=torch.float64)
            penalty, seen = decoding.repetition_penalty, torch.zeros(logits.shape, dtype=torch.bool)

            def choose() -> object:
                less = logits if penalty == 1.0 else penalised(logits, seen, penalty)
                return less, decoding.choose(less / torch.ones(n_rows, 1), uniforms)

            chosen = peak_bytes(choose)
            # Where samples are compared by their probabilities, or tokens scored, those are computed in float64.
            in_float64 = decoding.samples > 1 or decoding.scores_tokens
            return max(chosen, 2 * 8 * logits.numel()) if in_float64 else chosen

        return extrapolate_linear(measured, rows, _ROWS)

    def _step(self, rows: int) -> int:
        return self._measured(ProbeCache.step, rows, self.capacity)

    def _event(self, rows: int) -> int:
        if not (self._cuts_while_decoding or self._steers):
            return 0
        chunk = event_rows(rows, self.schedule.max_growth, self._burst)
        return self._measured(ProbeCache.event, chunk, self.capacity)

    def _ledger(self, rows: int) -> int:
        return _LEDGER_BYTES * self.geometry.n_heads_total * rows * self._burst

    @cached_property
    def _longest(self) -> int:
        return self.max_prompt_tokens + (self.max_new_tokens if self._steers else 0)

    @cached_property
    def _prompts(self) -> PromptBytes:
        of_prompts = self._encoding(self.max_prompt_tokens)
        if self._cut_in_blocks:
            # A block next to what is held takes no more than a pass over as many tokens. No prompt waits for its row.
            of_prompts = PromptBytes(self._encoding(self._held_of_prompt).encoding, 0)
        if not self._steers:
            return of_prompts
        anew = self._encoding(self._longest)
        return PromptBytes(max(of_prompts.encoding, anew.encoding), of_prompts.each)

    def _encoding(self, n_tokens: int) -> PromptBytes:
        return prompt_bytes(self.skeleton, self.needs, n_tokens, self.plan.owners, self.prefill_chunk)

    @property
    def _cut_in_blocks(self) -> bool:
        return self.mechanism.cadence.prompt_block is not None

    @property
    def _held_of_prompt(self) -> int:
        """Tokens of a prompt in one head, at most, while it is read."""
        block, longest = self.mechanism.cadence.prompt_block, self.max_prompt_tokens
        if block is None:
            return longest
        return min(longest, self.capacity + block)

    @cached_property
    def _prompt(self) -> int:
        """Bytes of encoding texts, or of one that is cut or loaded into its row."""
        width = bucket(self._longest if self._steers else self._held_of_prompt)
        text = 2 * self.geometry.n_heads_total * width * self.geometry.head_dim * self.skeleton.dtype.itemsize
        loading = text + self._measured(ProbeCache.load, 1, self.capacity)
        if self.schedule.row_schedule().due(0, self._longest, None):
            loading = max(loading, self._measured(ProbeCache.event, 1, max(width, self.capacity)))
        return max(self._prompts.encoding, loading)

    def _measured(self, run: Callable[[ProbeCache], None], rows: int, slots: int) -> int:
        """Return the bytes that `run` needs beside the cache, for all layers, `rows` and `slots`."""

        def of_all_layers(n_rows: int, n_slots: int) -> int:
            return extrapolate_linear(lambda n: self._probe(run, n_rows, n_slots, n), self.geometry.n_layers, _LAYERS)

        def of_all_rows(n_slots: int) -> int:
            return extrapolate_linear(lambda n: of_all_layers(n, n_slots), rows, _ROWS)

        return extrapolate_quadratic(of_all_rows, slots, _SLOTS)

    def _probe(self, run: Callable[[ProbeCache], None], rows: int, slots: int, layers: int) -> int:
        key = (run, rows, slots, layers)
        if key not in self._probes:
            probe = ProbeCache(
                self.plan,
                rows=rows,
                layers=layers,
                slots=slots,
                target=max(1, self.schedule.low * min(slots, self.capacity) // self.capacity),
                hidden=int(self.skeleton.model.config.hidden_size),
            )
            self._probes[key] = peak_bytes(lambda: run(probe))
        return self._probes[key]


def _tensor_bytes(holder: object) -> int:
    """Return the bytes of the tensors that are attributes of an object, or values of a mapping that is one."""
    values = [value for value in vars(holder).values() if not isinstance(value, Mapping)]
    values += [inner for value in vars(holder).values() if isinstance(value, Mapping) for inner in value.values()]
    return sum(value.nbytes for value in values if isinstance(value, torch.Tensor))
