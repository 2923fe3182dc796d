"""The report of a confirmation as text for people: decision, effects with their intervals, memory, notes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def evidence_text(report: Mapping[str, Any]) -> str:
    """Return a report of `designspace.protocol.analysis.analyse` in words; points are percentage points of its metric."""
    return "\n".join(
        [
            f"study {report['study']}, registration {report['registration'][:16]}, held-out look #{report['look']}",
            f"test {report['test']['name']}, alpha {report['alpha']:g}, {report['correction']} over m={report['m']}: "
            f"p at most {report['threshold']:.4g} counts",
            "",
            *(line for result in report["hypotheses"] for line in _hypothesis(result)),
            *_decision(report["decision"]),
            *(f"! {note}" for note in report["notes"]),
        ]
    )


def _hypothesis(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"{result['id']}: {result['arm']} against {result['baseline']} ({result['kind']})"
    if result["status"] == "ok":
        yield f"  effect {_points(result['effect'])} {_interval(result)}"
        yield f"  p = {result['p']:.4f} uncorrected: {_verdict(result)}"
    else:
        yield f"  {result['status']}: {result['reason']}"
    for side in ("arm", "baseline"):
        if (figures := result["arms"][side]) is not None:
            yield _figures(result[side], figures)
    if (memory := result["memory"]) is not None:
        means = ", ".join(f"{result[side]} {memory[side]['mean']:.1f}" for side in ("arm", "baseline"))
        yield f"  mean cache in {memory['unit']}: {means}"


def _interval(result: Mapping[str, Any]) -> str:
    """Return the interval that belongs to the p value below it, and what it holds for."""
    claim = result["claim"]
    if claim is None:
        low, high, what = result["low"], result["high"], f"{result['level']:.0%} interval of this hypothesis alone"
    else:
        level = f"{100 * (1 - 2 * claim['alpha']):.4g}%"
        what = f"{level} interval, as the corrected test of a margin of {100 * claim['margin']:g} points has it"
        low, high = claim["low"], claim["high"]
    return f"[{_points(low)}, {_points(high)}] ({what})"


def _verdict(result: Mapping[str, Any]) -> str:
    if result["bonferroni_p"] is None:
        return "not in the registered family"
    verdict = "significant" if result["significant"] else "not significant"
    return f"{verdict} after Bonferroni ({result['bonferroni_p']:.4f}; by Holm {result['holm_p']:.4f})"


def _figures(name: str, figures: Mapping[str, Any]) -> str:
    if "agreement" in figures:
        return (
            f"  {name}: agreement {_percent(figures['agreement'])} of tokens, loss {figures['loss_over_full']:.4f} nats per "
            f"token over the full cache, {_percent(figures['undisturbed'])} of texts agree throughout"
        )
    given = figures["accuracy_given_extraction"]
    return (
        f"  {name}: accuracy {_percent(figures['accuracy'])}, extracted {_percent(figures['extraction_rate'])}, "
        f"accuracy given extraction {'–' if given is None else _percent(given)}, "
        f"{figures['mean_new_tokens']:.0f} tokens, truncated {_percent(figures['truncation_rate'])}"
    )


def _decision(decision: Mapping[str, Any] | None) -> Iterator[str]:
    if decision is None:
        return
    yield ""
    yield f"decision: branch {decision['branch']}"
    yield from (f"  {reason}" for reason in decision["reasons"])


def _points(effect: float) -> str:
    return f"{100 * effect:+.2f} points"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
