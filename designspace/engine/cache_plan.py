"""The slot cache of one arm on one model: whose cache each layer reads, and how many slots a head needs.

All of it follows from the declaration and the model's shape, so it is fixed before a run. The engine and the memory
predictor make their caches from the same plan, so that what is predicted is what is allocated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from designspace.axes import Artefact, Budget, Geometry, Mechanism, Schedule
from designspace.cache.slots import SlotCache
from designspace.errors import DeclarationError
from designspace.models.loading import LoadedModel


@dataclass(frozen=True)
class CachePlan:
    """Everything about a slot cache but its rows and its device, and the schedule that its capacity follows from.

    geometry: of all layers. owners: for each layer the layer whose cache it reads, None: each its own. width: positions lie
    in [0, width). prompt_slots: of the slots of a head, on average, those that only the prompt's tokens compete for; 0: none.
    """

    mechanism: Mechanism
    schedule: Schedule
    geometry: Geometry
    dtype: torch.dtype
    owners: tuple[int, ...] | None
    capacity: int
    width: int
    artefacts: Mapping[str, Artefact]
    prompt_slots: int = 0

    @classmethod
    def of(
        cls,
        loaded: LoadedModel,
        mechanism: Mechanism,
        budget: Budget | None,
        *,
        max_prompt_tokens: int,
        max_new_tokens: int,
        artefacts: Mapping[str, Artefact],
        capacity: int | None = None,
    ) -> CachePlan:
        """Return the plan of a mechanism at a budget on a model; `capacity` replaces the one that is needed.

        Raises:
            DeclarationError: the budget does not fit the mechanism, or model and routing both share layers.
        """
        owners = cache_owners(loaded, mechanism, artefacts)
        schedule = mechanism.bind(budget, loaded.geometry, loaded.dtype, owners, longest_prompt=max_prompt_tokens)
        needed = needed_capacity(
            mechanism,
            schedule,
            loaded.geometry if owners is None else loaded.geometry.owning(owners),
            max_prompt_tokens=max_prompt_tokens,
            max_new_tokens=max_new_tokens,
        )
        width = max_prompt_tokens + max_new_tokens
        return cls(
            mechanism,
            schedule,
            loaded.geometry,
            loaded.dtype,
            owners,
            capacity or needed,
            width,
            artefacts,
            mechanism.prompt_slots(budget),
        )

    @property
    def cache_geometry(self) -> Geometry:
        """The geometry of the layers that own a cache."""
        return self.geometry if self.owners is None else self.geometry.owning(self.owners)

    @property
    def reads_projection(self) -> bool:
        """Whether the output projections of all heads are needed as one tensor."""
        needs = self.mechanism.needs()
        return needs.output_projection or needs.layer_cosine

    def allocate(self, rows: int, device: torch.device) -> SlotCache:
        """Return an empty cache with the store and the observers that the mechanism declares."""
        return SlotCache(
            self.geometry,
            self.mechanism.representation,
            self.mechanism.needs(),
            rows=rows,
            capacity=self.capacity,
            dtype=self.dtype,
            device=device,
            width=self.width,
            owners=self.owners,
            artefacts=self.artefacts,
            weighted=self.mechanism.scoring.selector.weighs,
        )


def cache_owners(
    loaded: LoadedModel, mechanism: Mechanism, artefacts: Mapping[str, Artefact]
) -> tuple[int, ...] | None:
    """Return for each layer the layer whose cache it reads, as the model was trained or the routing says; None: its own.

    Raises:
        DeclarationError: both the model and the routing share layers.
    """
    trained = loaded.kv_owners
    routed = mechanism.head_routing.owners(loaded.geometry, artefacts)
    if trained is not None and routed is not None:
        raise DeclarationError(
            f"mechanism {mechanism.name!r}: head routing {mechanism.head_routing.kind!r} shares layers of a model whose "
            "layers share caches already"
        )
    return routed if trained is None else trained


def needed_capacity(
    mechanism: Mechanism, schedule: Schedule, geometry: Geometry, *, max_prompt_tokens: int, max_new_tokens: int
) -> int:
    """Return slots per head: the largest mean size and what the largest share has above it, at most the longest text.

    geometry: that of the layers that own a cache.
    """
    longest, decoding = max_prompt_tokens + max_new_tokens, mechanism.decoding
    if decoding is not None and decoding.grows:
        return longest + 1
    peak = schedule.peak_bound(max_prompt_tokens, max_new_tokens)
    if not mechanism.cadence.compresses:
        return peak + 1
    protected = mechanism.scoring.n_protected(schedule.low)
    largest = schedule.largest_size(max_prompt_tokens, max_new_tokens)
    # A steered row may be cut anew at any size; others are cut to the after-event size alone.
    cut_to = peak if decoding is not None and decoding.steers else largest
    excess = mechanism.head_routing.largest_share(cut_to, geometry, protected) - cut_to
    return min(peak + excess, longest) + 1
