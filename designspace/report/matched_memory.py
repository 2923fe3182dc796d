"""Matched memory, the condition of every comparison: checked first, and no test without it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from designspace.report.summary import ArmSummary

EVENT_SHARE = 0.5  # of the generations of an arm that must have had an event


def memory_record(arm: ArmSummary, baseline: ArmSummary, budget: Mapping[str, Any], tolerance: float) -> dict[str, Any]:
    """Return the realised memory of two arms, and in `faults` why they must not be compared; empty if they may.

    Three conditions: the steady mean of each arm lies within the tolerance of the budget, where the budget is a mean;
    the larger realised mean over all decode steps exceeds the smaller by no more than the tolerance (in bytes where the
    budget is in bytes); half of the generations of each arm had an event, for a budget that does not bite compares
    nothing.

    Args:
        arm: summary of the arm.
        baseline: summary of what it is compared with.
        budget: {label, tokens, of} as registered.
        tolerance: relative.
    """
    target = budget["tokens"] if budget["of"] == "mean" else None
    unit = "bytes" if budget["of"] == "bytes" else "tokens"
    smaller, larger = sorted((arm.held, baseline.held))
    apart = larger / smaller - 1 if smaller > 0 else None
    faults = []
    for side in (arm, baseline):
        faults += budget_faults(side, target, tolerance)
    if apart is None or apart > tolerance:
        faults.append(
            f"the realised means must agree within {tolerance:.1%}: {arm.mechanism} has {arm.held:.1f} {unit}, "
            f"{baseline.mechanism} has {baseline.held:.1f}"
        )
    return {
        "unit": unit,
        "target": target,
        "tolerance": tolerance,
        "arm": _held(arm),
        "baseline": _held(baseline),
        "apart": apart,
        "faults": faults,
    }


def budget_faults(side: ArmSummary, target: float | None, tolerance: float) -> list[str]:
    """Return why one arm does not test its budget: it is off its target, or was hardly ever cut; target: None for no mean."""
    faults = []
    steady = side.steady_mean_cache_tokens
    if target is not None and (steady is None or abs(steady - target) > tolerance * target):
        got = "no steady state" if steady is None else f"{steady:.1f}"
        faults.append(f"the steady mean of {side.mechanism} must be {target} within {tolerance:.1%}, got {got}")
    if side.event_share < EVENT_SHARE:
        faults.append(
            f"at least {EVENT_SHARE:.0%} of the generations of {side.mechanism} must have an event, "
            f"got {side.event_share:.1%}"
        )
    return faults


def _held(side: ArmSummary) -> dict[str, Any]:
    return {
        "mean": side.held,
        "steady_mean_tokens": side.steady_mean_cache_tokens,
        "mean_tokens": side.mean_cache_tokens,
        "mean_bytes": side.mean_cache_bytes,
        "peak_tokens": side.peak_cache_tokens,
        "event_share": side.event_share,
        "n_events": side.mean_n_events,
    }
