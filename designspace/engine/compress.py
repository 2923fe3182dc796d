"""One compression event: score, allocate, select, and the order in which kept slots are packed.

Pure in its inputs: a `View` and a target size in, what to keep out. Every invariant of the axis contracts is checked here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from designspace.axes import Contents, Draw, EventTracker, Mechanism, Needs, Selector, Strategy, Tracker, View
from designspace.axes.least_score import reaching
from designspace.axes.ranking import packing_order
from designspace.axes.shares import cap_shares
from designspace.cache.packing import CompressionResult
from designspace.engine.exact_set import check_exact_set
from designspace.engine.parts import divided
from designspace.errors import InvariantViolation


def compress(mechanism: Mechanism, view: View) -> CompressionResult:
    """Decide what each (layer, row, head) keeps when its row is cut to a mean of `view.target` [E] tokens.

    Where the cadence has a least score, the row is cut to no size: what reaches that score stays, and what is protected.

    Raises:
        InvariantViolation: a strategy returned NaN, a wrong shape, a wrong total, or dropped a protected token; or what
            is kept is not exactly what reaches a least score.
    """
    scoring, routing, representation = mechanism.scoring, mechanism.head_routing, mechanism.representation
    scores = scoring.score(_shown(view, scoring))
    _check_scores(f"scoring {scoring.kind!r}", view, scores)
    for_routing = _shown(view, routing)
    scores = routing.adapt(for_routing, scores)
    _check_scores(f"head routing {routing.kind!r}", view, scores)
    least = mechanism.cadence.least_score
    if least is None:
        shares = cap_shares(_shares(mechanism, for_routing, scores), view.counts)
        _check_shares(mechanism, view, shares, view.target)
        keep, inclusion = _select(scoring.selector, _shown(view, scoring.selector), scores, shares)
    else:
        keep, inclusion = Draw(reaching(view, scores, least))
        shares = keep.sum(dim=-1)
    merged = representation.merge_evicted(_shown(view, representation), scores, shares, keep)
    if merged.keep is not keep:
        _check_merged(f"representation {representation.kind!r}", view, shares, keep, merged.keep)
    kept = CompressionResult(
        packing_order(merged.keep),
        shares,
        Contents(merged.keys, merged.values).changed_from(view.contents),
        merged.mass,
        merged.memory,
        _tracked(mechanism.needs(), view),
    )
    if least is not None:
        check_exact_set(view, scores, least, kept)
    return kept if inclusion is None else _weighted(kept, mechanism.scoring.selector, view, inclusion)


def _shown(view: View, strategy: Strategy) -> View:
    """Return what a strategy has declared that it reads."""
    return view.narrowed(strategy.needs(), f"{strategy.axis.replace('_', ' ')} {strategy.kind!r}")


def _tracked(needs: Needs, view: View) -> dict[Tracker, Tensor]:
    """Return the states [L,E,H_kv,C,channels] of the trackers that events update."""
    states: dict[Tracker, Tensor] = {}
    for tracker in needs.trackers:
        if isinstance(tracker, EventTracker):
            state = tracker.at_event(view.narrowed(tracker.needs(), f"tracker {tracker}"))
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


def _select(selector: Selector, view: View, scores: Tensor, shares: Tensor) -> Draw:
    """Return the kept slots [L,E,H_kv,C]: one choice, or with separate budgets one in each part."""
    keep = torch.zeros_like(view.valid)
    inclusion = torch.ones_like(scores, dtype=torch.float64) if selector.weighs else None
    for part, share in divided(view, shares):
        chosen = selector.draw(part, scores, share)
        _check_kept(f"selector {selector.kind!r}", part, share, chosen.keep)
        keep |= chosen.keep
        if inclusion is not None and chosen.inclusion is not None:
            inclusion = torch.where(part.valid, chosen.inclusion, inclusion)
    return Draw(keep, inclusion)


def _weighted(kept: CompressionResult, selector: Selector, view: View, inclusion: Tensor) -> CompressionResult:
    """Return an event's outcome where each kept slot stands for 1/inclusion times as many tokens as before.

    inclusion: [L,E,H_kv,C] float64.

    Raises:
        InvariantViolation: a slot was kept that had no chance to be, or one was certain and is gone.
    """
    n_kept = torch.arange(kept.order.shape[-1], device=kept.order.device) < kept.counts[..., None]
    keep = torch.zeros_like(view.valid).scatter_(-1, kept.order, n_kept)
    impossible = keep & ~(inclusion > 0)
    lost = view.valid & ~keep & (inclusion >= 1)
    if bool((impossible | lost).any()):
        raise InvariantViolation(
            f"selector {selector.kind!r} kept a slot of probability 0, or dropped one of probability 1"
        )
    mass = torch.ones_like(inclusion) if view.mass is None else view.mass.double()
    weighed = torch.where(keep, mass / inclusion.clamp(min=1e-30), mass).float()
    return kept._replace(mass=weighed, error=selector.expected_error(_shown(view, selector), inclusion))


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


def _check_merged(who: str, view: View, shares: Tensor, chosen: Tensor, keep: Tensor) -> None:
    """Check what a representation keeps [L,E,H_kv,C] in the place of what the selector chose."""
    _check_kept(who, view, shares, keep)
    of_prompt = view.of_prompt
    moved = not torch.equal((keep & of_prompt).sum(dim=-1), (chosen & of_prompt).sum(dim=-1))
    if view.context.prompt_slots and moved:
        raise InvariantViolation(
            f"{who} moved a slot between the prompt and the trace, so its keeps_choice must be False"
        )


def _check_kept(who: str, view: View, shares: Tensor, keep: Tensor) -> None:
    if not torch.equal(keep.sum(dim=-1), shares) or bool((keep & ~view.valid).any()):
        raise InvariantViolation(f"{who} must keep exactly each head's share of its held tokens")
    if view.context.protects_prompt and bool((view.of_prompt & ~keep).any()):
        raise InvariantViolation(f"{who} dropped a token of a prompt that is protected")
    affordable = view.protected.sum(dim=-1) <= shares
    if bool((affordable & (view.protected & ~keep).any(dim=-1)).any()):
        raise InvariantViolation(f"{who} dropped a protected token although the share had room")
