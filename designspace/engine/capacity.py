"""Whose cache each layer reads, and how many slots a head needs: fixed before a run, known from declaration and model shape."""

from __future__ import annotations

from collections.abc import Mapping

from designspace.axes import Artefact, Decoding, Geometry, Mechanism, Schedule
from designspace.errors import DeclarationError
from designspace.models.loading import LoadedModel


def cache_owners(
    loaded: LoadedModel, mechanism: Mechanism, artefacts: Mapping[str, Artefact]
) -> tuple[int, ...] | None:
    """Return which layer's cache each layer reads: as the model was trained, or as the routing has it; None: its own.

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
    if not mechanism.budget_applies:
        return peak + 1
    protected = mechanism.scoring.n_protected(schedule.low)
    # A steered row may be cut anew at any size; others are cut to the after-event size alone.
    cut_to = peak if decoding is not None and type(decoding).controller is not Decoding.controller else schedule.high
    excess = mechanism.head_routing.largest_share(cut_to, geometry, protected) - cut_to
    return min(peak + excess, longest) + 1
