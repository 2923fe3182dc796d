"""How much memory an arm takes, before anything is allocated: a bounded cache has fixed slots, so it can be known.

    total(B) = weights + cache(B) + workspace(B)

for B rows. `weights` are those of the configuration, and what is derived from them; `cache` is the sum of the tensors of a
`SlotCache` made on the meta device with the capacity that the engine would give it. The workspace is what lives beside the
two at the worst moment,

    workspace(B) = max(decode(B), event(E) + logits(B), prefill, prompt event, load) + checkpoints(B)

* decode: one step of the model without attention, on the meta device; and the larger of one step of cache and attention, and
  of the choice of tokens, [B,V] in as many copies as the decoding makes.
* event: read, decide, move, for the E rows of one chunk; all rows where a cadence cuts at every step.
* prefill: the longest prompt through the model on the meta device, its keys and values stacked. Then it is cut (prompt
  event), or loaded into its row as it is.
* checkpoints: a decoding that steers may keep a copy of every row, and encode a whole text anew.

Events, steps and loads run for real, on random numbers, on a stand-in of one or two rows and up to four layers on the CPU,
whose live bytes are counted; they grow linearly with rows and layers, and with slots as what was measured does. So whatever
a strategy makes of its view is in the sum, and no strategy has to say how much that is. All of it depends on the
declaration alone, not on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from designspace.attention import DecodePass, Pass, PrefillPass
from designspace.axes import Cadence, Decoding, Mechanism, Needs
from designspace.capacity import needed_capacity
from designspace.errors import DeclarationError
from designspace.geometry import Geometry
from designspace.live_bytes import peak_bytes
from designspace.models.calibration import Artefact
from designspace.models.loading import LoadedModel
from designspace.models.skeleton import skeleton_of, weight_bytes
from designspace.schedule import Budget, Schedule
from designspace.slots import SlotCache
from designspace.stand_in import StandIn, padded

_META = torch.device("meta")
_EVENT_ROWS = 16  # of a chunk where rows fall due at different steps, as the engine has it
_PROBED_LAYERS = (2, 4)
_PROBED_SLOTS = (128, 256, 384)
_SIGNAL_COPIES = 3  # of the logits, where a cadence looks at them


@dataclass(frozen=True)
class Footprint:
    """Bytes of one arm on one model: weights, allocated cache, and what lives beside them at the worst moment."""

    weights: int
    cache: int
    workspace: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.workspace

    def __str__(self) -> str:
        """Return the parts in words."""
        return f"{in_gib(self.cache)} cache + {in_gib(self.workspace)} workspace + {in_gib(self.weights)} weights"


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
    ) -> None:
        """Take what the engine takes, `rows` apart."""
        self.skeleton, self.mechanism, self.needs = skeleton_of(loaded), mechanism, mechanism.needs()
        self.artefacts = artefacts or {}
        self.max_new_tokens, self.max_prompt_tokens = max_new_tokens, max_prompt_tokens
        self.schedule: Schedule = mechanism.bind(budget, loaded.geometry, loaded.dtype, self.owners)
        self.capacity = needed_capacity(
            mechanism,
            self.schedule,
            self.geometry,
            max_prompt_tokens=max_prompt_tokens,
            max_new_tokens=max_new_tokens,
        )

    def at(self, rows: int) -> Footprint:
        """Return the footprint with so many rows in a batch."""
        return Footprint(self.weights, self.cache(rows), self.workspace(rows))

    @cached_property
    def owners(self) -> tuple[int, ...] | None:
        """Which layer's cache each layer reads; None: its own."""
        trained = self.skeleton.kv_owners
        routed = self.mechanism.head_routing.owners(self.skeleton.geometry, self.artefacts)
        return routed if trained is None else trained

    @cached_property
    def geometry(self) -> Geometry:
        """The geometry of the layers that own a cache."""
        geometry = self.skeleton.geometry
        return geometry if self.owners is None else geometry.owning(self.owners)

    @cached_property
    def weights(self) -> int:
        """Weights, a stacked copy of the output projections where a strategy reads them, and calibrations."""
        total = weight_bytes(self.skeleton) + sum(x.nbytes for a in self.artefacts.values() for x in a.tensors.values())
        if self.needs.output_projection or self.needs.layer_cosine:
            total += self.skeleton.output_projection().nbytes
        return total

    def cache(self, rows: int) -> int:
        """Return the bytes of everything that a slot cache of so many rows allocates."""
        cache = SlotCache(
            self.skeleton.geometry,
            self.mechanism.representation,
            self.needs,
            rows=rows,
            capacity=self.capacity,
            dtype=self.skeleton.dtype,
            device=_META,
            width=self.max_prompt_tokens + self.max_new_tokens,
            owners=self.owners,
            artefacts=self.artefacts,
        )
        return cache.store.allocated_bytes() + _tensor_bytes(cache) + _tensor_bytes(cache.observers)

    def workspace(self, rows: int) -> int:
        """Return the bytes that live beside weights and cache at the worst moment."""
        logits = 4 * rows * self._vocabulary
        looks_at_logits = type(self.mechanism.cadence).signal is not Cadence.signal
        stages = (
            self._model_step(rows) + max(self._cache_step(rows), self._choice(rows)),
            logits + (_SIGNAL_COPIES * logits if looks_at_logits else 0),
            logits + self._events(rows),
            self._prompt,
        )
        steers = self._steers
        return max(stages) + (self.cache(rows) if steers else 0)

    @property
    def _vocabulary(self) -> int:
        return int(self.skeleton.model.config.vocab_size)

    @property
    def _steers(self) -> bool:
        decoding = self.mechanism.decoding
        return decoding is not None and type(decoding).controller is not Decoding.controller

    def _model_step(self, rows: int) -> int:
        """Return the bytes of one token of every row on its way through the model, attention apart."""
        skeleton = self.skeleton

        def step() -> object:
            ids = torch.zeros(rows, 1, dtype=torch.long, device=_META)
            output = skeleton.model(input_ids=ids, position_ids=ids, use_cache=False, slots=_NoAttention())
            return output.logits[:, -1].float()

        return peak_bytes(step)

    def _choice(self, rows: int) -> int:
        """Return the bytes of choosing a token for every row, beside the logits."""
        decoding = self.mechanism.decoding
        if decoding is None:
            return 0

        def choose(n_rows: int) -> int:
            logits, uniforms = torch.zeros(n_rows, self._vocabulary), torch.zeros(n_rows, dtype=torch.float64)
            heat = torch.ones(n_rows, 1)
            needed = peak_bytes(lambda: decoding.choose(logits / heat, uniforms))
            return needed if decoding.samples == 1 else max(needed, peak_bytes(lambda: torch.softmax(logits.double(), -1)))

        return _straight(choose, rows, (1, 2))

    def _cache_step(self, rows: int) -> int:
        """Return the bytes of one decode step of cache and attention, in all layers."""
        # A fused kernel may keep a row of logits per query head.
        scratch = 4 * rows * self.skeleton.geometry.n_query_heads * self.capacity
        return scratch + self._measured(StandIn.step, rows, self.capacity)

    def _events(self, rows: int) -> int:
        if not self.mechanism.budget_applies and not self._steers:
            return 0
        n_rows = rows if self.schedule.slack == 1 else min(_EVENT_ROWS, rows)
        return self._measured(StandIn.event, n_rows, self.capacity)

    @cached_property
    def _prompt(self) -> int:
        """Bytes of taking in the longest text that is encoded: forward pass, then cut or load."""
        longest = self.max_prompt_tokens + (self.max_new_tokens if self._steers else 0)
        width = padded(longest)
        text = 2 * self.geometry.n_heads_total * width * self.geometry.head_dim * self.skeleton.dtype.itemsize
        after = text + self._measured(StandIn.load, 1, self.capacity)
        if self.schedule.pacer().due(0, longest, None):
            after = max(after, self._measured(StandIn.event, 1, max(width, self.capacity)))
        return max(prefill_bytes(self.skeleton, self.needs, longest, self.owners), after)

    def _measured(self, run: Callable[[StandIn], None], rows: int, slots: int) -> int:
        """Return what a stand-in needs beside itself for `run`, for all layers, `rows` and `slots`."""

        def at_slots(n_slots: int) -> int:
            return _straight(lambda n: at_rows(n, n_slots), rows, (1, 2))

        def at_rows(n_rows: int, n_slots: int) -> int:
            return _straight(lambda n: self._probe(run, n_rows, n_slots, n), self.geometry.n_layers, _PROBED_LAYERS)

        return _curve(at_slots, slots, _PROBED_SLOTS)

    def _probe(self, run: Callable[[StandIn], None], rows: int, slots: int, layers: int) -> int:
        key = (run, rows, slots, layers)
        if key not in self._probes:
            share = slots / max(self.capacity, slots)
            stand_in = StandIn(
                self.mechanism,
                self.geometry,
                self.artefacts,
                dtype=self.skeleton.dtype,
                rows=rows,
                layers=layers,
                slots=slots,
                target=max(1, int(self.schedule.low * share)),
                projection_width=self.skeleton.model.config.hidden_size,
            )
            self._probes[key] = peak_bytes(lambda: run(stand_in))
        return self._probes[key]

    @cached_property
    def _probes(self) -> dict[tuple[object, ...], int]:
        return {}


def footprint(
    loaded: LoadedModel,
    mechanism: Mechanism,
    budget: Budget | None,
    *,
    rows: int,
    max_new_tokens: int,
    max_prompt_tokens: int,
    artefacts: Mapping[str, Artefact] | None = None,
) -> Footprint:
    """Return the bytes that an engine with these arguments will take; nothing of it is allocated.

    Raises:
        DeclarationError: as `Engine`.
    """
    arm = ArmMemory(
        loaded,
        mechanism,
        budget,
        max_new_tokens=max_new_tokens,
        max_prompt_tokens=max_prompt_tokens,
        artefacts=artefacts,
    )
    return arm.at(rows)
