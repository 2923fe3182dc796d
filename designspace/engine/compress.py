"""One compression event: score, allocate, select, and the order in which kept slots are packed.

Pure in its inputs: a `View` and a target size in, what to keep out. Every invariant of the axis contracts is checked here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import EventTracker, Mechanism, Needs, Representation, Selector, Tracker, View
from designspace.axes.ranking import packing_order
from designspace.axes.shares import cap_shares
from designspace.cache.packing import CompressionResult
from designspace.engine.parts import divided
from designspace.errors import InvariantViolation


def compress(mechanism: Mechanism, view: View) -> CompressionResult:
    """Decide what each (layer, row, head) keeps when its row is cut to a mean of `view.target` [E] tokens.

    Raises:
        InvariantViolation: a strategy returned NaN, a wrong shape, a wrong total, or dropped a protected token.
    """
    scoring, routing, representation = mechanism.scoring, mechanism.head_routing, mechanism.representation
    scores = scoring.score(view.narrowed(scoring.needs()))
    _check_scores(f"scoring {scoring.kind!r}", view, scores)
    for_routing = view.narrowed(routing.needs())
    scores = routing.adapt(for_routing, scores)
    _check_scores(f"head routing {routing.kind!r}", view, scores)
    shares = cap_shares(_shares(mechanism, for_routing, scores), view.counts)
    _check_shares(mechanism, view, shares, view.target)
    keep = _select(scoring.selector, view.narrowed(scoring.selector.needs()), scores, shares)
    merged = representation.merge_evicted(view.narrowed(representation.needs()), scores, shares, keep)
    if merged.keep is not keep:
        _check_merged(representation, view, shares, merged.keep)
    return CompressionResult(
        packing_order(merged.keep),
        shares,
        merged.keys,
        merged.values,
        merged.mass,
        merged.memory,
        _tracked(mechanism.needs(), view),
    )


def _tracked(needs: Needs, view: View) -> dict[Tracker, Tensor]:
    """Return the states [L,E,H_kv,C,channels] of the trackers that events update."""
    states: dict[Tracker, Tensor] = {}
    for tracker in needs.trackers:
        if isinstance(tracker, EventTracker):
            state = tracker.at_event(view.narrowed(Needs(queries=tracker.queries, trackers=(tracker,))))
            shape = (*view.positions.shape, tracker.channels)
            if state.shape != shape or state.dtype != tracker.dtype:
                raise InvariantViolation(
                    f"at_event of {tracker} must return {tracker.dtype} {shape}, got {state.dtype} {tuple(state.shape)}"
                )
            states[tracker] = state
    return states


def _shares(mechanism: Mechanism, view: View, scores: Tensor) -> Tensor:
    """Return each head's share [L,E,H_kv]; of what the prompt leaves, and the prompt, where every head keeps that."""
    routing = mechanism.head_routing
    if not view.context.protects_prompt:
        return routing.allocate(view, scores, view.target)
    rest = view.without_prompt()
    return routing.allocate(rest, scores, rest.target) + view.of_prompt.sum(dim=-1)


def _select(selector: Selector, view: View, scores: Tensor, shares: Tensor) -> Tensor:
    """Return the kept mask [L,E,H_kv,C]: one choice, or with separate budgets one in each part."""
    keep = torch.zeros_like(view.valid)
    for part, share in divided(view, shares):
        chosen = selector.select(part, scores, share)
        _check_kept(f"selector {selector.kind!r}", part, share, chosen)
        keep |= chosen
    return keep


def _check_scores(who: str, view: View, scores: Tensor) -> None:
    if scores.shape != view.positions.shape or scores.dtype != torch.float32:
        raise InvariantViolation(
            f"{who} must return float32 scores {tuple(view.positions.shape)}, got {scores.dtype} {tuple(scores.shape)}"
        )
    if bool((torch.isnan(scores) & view.valid).any()):
        raise InvariantViolation(f"{who} returned NaN for a held token")


def _check_shares(mechanism: Mechanism, view: View, shares: Tensor, target: Tensor) -> None:
    total = shares.sum(dim=(0, 2))
    wanted = torch.minimum(target.long() * view.geometry.n_heads_total, view.counts.sum(dim=(0, 2)))
    if not torch.equal(total, wanted) or bool((shares < 0).any()):
        raise InvariantViolation(
            f"head routing {mechanism.head_routing.kind!r} must conserve the total, "
            f"got {total.tolist()} tokens per row instead of {wanted.tolist()}"
        )


def _check_merged(representation: Representation, view: View, shares: Tensor, keep: Tensor) -> None:
    who = f"representation {representation.kind!r}"
    if representation.keeps_choice:
        raise InvariantViolation(f"{who} must keep the slots that were chosen, or say so in keeps_choice")
    _check_kept(who, view, shares, keep)


def _check_kept(who: str, view: View, shares: Tensor, keep: Tensor) -> None:
    if not torch.equal(keep.sum(dim=-1), shares) or bool((keep & ~view.valid).any()):
        raise InvariantViolation(f"{who} must keep exactly each head's share of its held tokens")
    if view.context.protects_prompt and bool((view.of_prompt & ~keep).any()):
        raise InvariantViolation(f"{who} dropped a token of a prompt that is protected")
    affordable = view.protected.sum(dim=-1) <= shares
    if bool((affordable & (view.protected & ~keep).any(dim=-1)).any()):
        raise InvariantViolation(f"{who} dropped a protected token although the share had room")
